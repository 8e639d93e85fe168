#include "core/batch_norm.h"

#include "bindings/array.h"
#include "bindings/families.h"
#include "bindings/gradients.h"
#include "core/bfloat16.h"

namespace fastdl::bind {

namespace {

// (N, C, L) seen as (N, C, L, 1); other ranks as they are.
View as_image(View x) {
  if (x.ndim == 3) {
    x.ndim = 4;
    x.shape[3] = x.strides[3] = 1;
  }
  return x;
}

// x channels-last in memory, and its shape as it was.
struct Batch {
  Input input;
  View shape;
  // [m, c]
  View matrix(View v) const {
    const std::int64_t channels = shape.shape[1];
    std::int64_t rows = shape.shape[0];
    for (int d = 2; d < shape.ndim; ++d) rows *= shape.shape[d];
    v.ndim = 2;
    v.shape[0] = rows;
    v.shape[1] = v.strides[0] = channels;
    v.strides[1] = 1;
    return v;
  }
  View matrix() const { return matrix(input.view); }
  std::int64_t size() const { return shape.size(); }
};

Batch batch(const char* kernel, const char* name, const py::handle& x) {
  Input input = strided(kernel, name, x, Floats::any);
  const View shape = input.view;
  if (shape.ndim == 2) return {contiguous(kernel, name, x, Floats::any), shape};
  if (shape.ndim != 3 && shape.ndim != 4) return {std::move(input), shape};  // for the check to refuse
  input.view = as_image(shape);
  return {channels_last(std::move(input)), shape};
}

// A new array of the shape of x, channels-last in memory.
struct Result {
  Output output;
  int ndim;
  py::object array() const {
    if (ndim == 3) return output.array.attr("squeeze")(3);
    return output.array;
  }
};

Result empty_batch(const View& x) {
  const View image = as_image(x);
  return {empty_activation(x.dtype, image.shape, image.ndim), x.ndim};
}

// An optional array (C,).
Input per_channel(const char* kernel, const char* name, const py::handle& value, const View& x) {
  Input input = optional_contiguous(kernel, name, value);
  check_per_channel(kernel, name, input, x);
  return input;
}

Input required(const char* kernel, const char* name, const py::handle& value, const View& x) {
  Input input = contiguous(kernel, name, value);
  check_per_channel(kernel, name, input, x);
  return input;
}

// A running statistic, changed in place whatever its strides; one that is not aligned is changed in a copy and written
// back at the end.
class Running {
 public:
  Running(const char* kernel, const char* name, const py::handle& value, const View& x) : array_(value) {
    if (value.is_none()) return;
    input_ = strided(kernel, name, value);
    check_per_channel(kernel, name, input_, x);
    copied_ = !input_.owner.is(value);
  }
  void check_writeable(const char* kernel, const char* name) const {
    if (!array_.is_none()) expect_writeable(kernel, name, array_);
  }
  const View& view() const { return input_.view; }
  void write_back() const {
    if (copied_) array_.attr("__setitem__")(py::ellipsis(), input_.owner);
  }

 private:
  py::handle array_;
  Input input_;
  bool copied_ = false;
};

// How many batches there were: a 0-d array of int64 that the kernel counts up.
Input batch_count(const char* kernel, const py::handle& x) {
  const Input count = one_of(kernel, "count", x, {DType::i64}, "int64");
  check::shape(kernel, "count", count, {});
  expect_place(kernel, "count", x, count);
  return count;
}

py::tuple batch_norm_forward(const py::handle& x_, const py::handle& weight_, const py::handle& bias_,
                             const py::handle& running_mean_, const py::handle& running_var_, double momentum,
                             double eps, bool relu, const py::handle& residual_, const py::handle& count_) {
  const char* kernel = "batch_norm_forward";
  const Batch x = batch(kernel, "x", x_);
  check_batch_norm_input(kernel, "x", x.shape);
  const Input weight = per_channel(kernel, "weight", weight_, x.shape),
              bias = per_channel(kernel, "bias", bias_, x.shape);
  const Batch residual = residual_.is_none() ? Batch{} : batch(kernel, "residual", residual_);
  check_like_input(kernel, "residual", residual.shape, x.shape);
  const Running running_mean(kernel, "running_mean", running_mean_, x.shape),
      running_var(kernel, "running_var", running_var_, x.shape);
  running_mean.check_writeable(kernel, "running_mean");
  running_var.check_writeable(kernel, "running_var");
  const Input count = count_.is_none() ? Input{} : batch_count(kernel, count_);
  check::number(kernel, "momentum", momentum);
  check::number(kernel, "eps", eps, 0.0);
  const std::int64_t channels = x.shape.shape[1];
  const Result y = empty_batch(x.shape);
  const DType dtype = wide_dtype(x.shape.dtype);
  Output mean = empty(dtype, {channels}), invstd = empty(dtype, {channels});
  if (x.size() == channels && channels > 0)
    check::fail_value(kernel, "x must have more than 1 value per channel, got shape " + check::shape_string(x.shape));
  run(x.size(), [&] {
    device::batch_norm_forward(x.matrix(), weight, bias, eps, x.matrix(y.output.view), mean.view, invstd.view,
                               {running_mean.view(), running_var.view(), momentum, count}, relu,
                               residual.shape ? residual.matrix() : View{}, {});
  });
  running_mean.write_back();
  running_var.write_back();
  return py::make_tuple(y.array(), mean.array, invstd.array);
}

py::object batch_norm_inference(const py::handle& x_, const py::handle& weight_, const py::handle& bias_,
                                const py::handle& running_mean_, const py::handle& running_var_, double eps) {
  const char* kernel = "batch_norm_inference";
  const Batch x = batch(kernel, "x", x_);
  check_batch_norm_input(kernel, "x", x.shape);
  const Input weight = per_channel(kernel, "weight", weight_, x.shape),
              bias = per_channel(kernel, "bias", bias_, x.shape);
  const Input running_mean = required(kernel, "running_mean", running_mean_, x.shape),
              running_var = required(kernel, "running_var", running_var_, x.shape);
  check::number(kernel, "eps", eps, 0.0);
  const Result y = empty_batch(x.shape);
  run(x.size(), [&] {
    device::batch_norm_inference(x.matrix(), weight, bias, running_mean, running_var, eps, x.matrix(y.output.view));
  });
  return y.array();
}

// What the backward kernels take and give.
struct Backward {
  Batch x, dy, y, more;
  Input weight;
  std::optional<Result> dx;
  std::optional<Output> dweight, dbias;

  Backward(const char* kernel, const py::handle& dy_, const py::handle& x_, const py::handle& weight_)
      : x(batch(kernel, "x", x_)) {
    check_batch_norm_input(kernel, "x", x.shape);
    dy = batch(kernel, "dy", dy_);
    check_batch_norm_gradient(kernel, dy.shape, x.shape);
    weight = per_channel(kernel, "weight", weight_, x.shape);
  }
  void prepare(const char* kernel, const py::handle& need_, const py::handle& out) {
    const auto needs = need<3>(kernel, need_);
    const GradientPlaces places(kernel, out);
    const std::int64_t channels = x.shape.shape[1];
    const std::initializer_list<View> inputs = {dy.input, x.input, y.input, more.input, weight};
    if (needs[0]) dx = empty_batch(x.shape);
    if (needs[1]) dweight = places.make(0, wide_dtype(x.shape.dtype), channels, inputs);
    if (needs[2]) dbias = places.make(1, wide_dtype(x.shape.dtype), channels, inputs);
  }
  View dx_matrix() const { return dx ? x.matrix(dx->output.view) : View{}; }
  py::tuple results() const {
    return py::make_tuple(dx ? dx->array() : py::object(py::none()), result(dweight), result(dbias));
  }
};

py::tuple batch_norm_backward(const py::handle& dy, const py::handle& x, const py::handle& weight,
                              const py::handle& mean_, const py::handle& invstd_, const py::handle& need,
                              const py::handle& bias_, bool relu, const py::handle& out) {
  const char* kernel = "batch_norm_backward";
  Backward b(kernel, dy, x, weight);
  const Input bias = per_channel(kernel, "bias", bias_, b.x.shape);
  const Input mean = required(kernel, "mean", mean_, b.x.shape),
              invstd = required(kernel, "invstd", invstd_, b.x.shape);
  b.prepare(kernel, need, out);
  run(b.x.size(), [&] {
    device::batch_norm_backward(b.dy.matrix(), b.x.matrix(), b.weight, bias, mean, invstd, relu, b.dx_matrix(),
                                view_of(b.dweight), view_of(b.dbias));
  });
  return b.results();
}

py::tuple batch_norm_residual_backward(const py::handle& dy, const py::handle& x, const py::handle& y_,
                                       const py::handle& weight, const py::handle& mean_, const py::handle& invstd_,
                                       const py::handle& need, const py::handle& more_, const py::handle& out) {
  const char* kernel = "batch_norm_residual_backward";
  Backward b(kernel, dy, x, weight);
  b.y = batch(kernel, "y", y_);
  check_like_input(kernel, "y", b.y.shape, b.x.shape);
  if (!more_.is_none()) b.more = batch(kernel, "more", more_);
  check_like_input(kernel, "more", b.more.shape, b.x.shape);
  const Input mean = required(kernel, "mean", mean_, b.x.shape),
              invstd = required(kernel, "invstd", invstd_, b.x.shape);
  b.prepare(kernel, need, out);
  const Result dresidual = empty_batch(b.x.shape);
  run(b.x.size(), [&] {
    device::batch_norm_residual_backward(b.dy.matrix(), b.more.shape ? b.more.matrix() : View{}, b.y.matrix(),
                                         b.x.matrix(), b.weight, mean, invstd, b.dx_matrix(), view_of(b.dweight),
                                         view_of(b.dbias), b.x.matrix(dresidual.output.view));
  });
  const py::tuple of_x = b.results();
  return py::make_tuple(of_x[0], of_x[1], of_x[2], dresidual.array());
}

py::tuple batch_norm_inference_backward(const py::handle& dy, const py::handle& x, const py::handle& weight,
                                        const py::handle& running_mean_, const py::handle& running_var_, double eps,
                                        const py::handle& need, const py::handle& out) {
  const char* kernel = "batch_norm_inference_backward";
  Backward b(kernel, dy, x, weight);
  const Input running_mean = required(kernel, "running_mean", running_mean_, b.x.shape),
              running_var = required(kernel, "running_var", running_var_, b.x.shape);
  check::number(kernel, "eps", eps, 0.0);
  b.prepare(kernel, need, out);
  run(b.x.size(), [&] {
    device::batch_norm_inference_backward(b.dy.matrix(), b.x.matrix(), b.weight, running_mean, running_var, eps,
                                          b.dx_matrix(), view_of(b.dweight), view_of(b.dbias));
  });
  return b.results();
}

}  // namespace

void add_batch_norm(py::module_& m) {
  using py::arg;
  m.def("batch_norm_forward", &batch_norm_forward, arg("x"), arg("weight"), arg("bias"), arg("running_mean"),
        arg("running_var"), arg("momentum"), arg("eps"), arg("relu") = false, arg("residual") = py::none(),
        arg("count") = py::none());
  m.def("batch_norm_inference", &batch_norm_inference, arg("x"), arg("weight"), arg("bias"), arg("running_mean"),
        arg("running_var"), arg("eps"));
  m.def("batch_norm_backward", &batch_norm_backward, arg("dy"), arg("x"), arg("weight"), arg("mean"), arg("invstd"),
        arg("need"), arg("bias") = py::none(), arg("relu") = false, arg("out") = py::none());
  m.def("batch_norm_residual_backward", &batch_norm_residual_backward, arg("dy"), arg("x"), arg("y"), arg("weight"),
        arg("mean"), arg("invstd"), arg("need"), arg("more") = py::none(), arg("out") = py::none());
  m.def("batch_norm_inference_backward", &batch_norm_inference_backward, arg("dy"), arg("x"), arg("weight"),
        arg("running_mean"), arg("running_var"), arg("eps"), arg("need"), arg("out") = py::none());
}

}  // namespace fastdl::bind
