// Dense layers by cuBLASLt, and by tiled products with bias, ReLU and ReLU's backward in their epilogue where there is
// no such library. The library adds the bias and sums dy for its gradient where it can; ReLU and its backward are a
// pass of their own, as the library's would make 0 of NaN.
#include "core/linear.h"

#include "cuda/column_sums.h"
#include "cuda/matmul.h"
#include "cuda/tensor_product.h"

namespace fastdl::cuda::gpu {

namespace {

// The library's product with as much of the rest as it takes; false if it makes none. A bias may be added later only to
// sums that have not been rounded to bfloat16 yet.
template <class T>
bool by_library(Matmul product, PutRows<T> put) {
  if (put.bias != nullptr) {
    product.epilogue = Epilogue::bias;
    product.vector = const_cast<T*>(put.bias);
    if (matmul(product)) {
      put.bias = nullptr;
      finish(put.c, put.m * put.n, put.n, put);
      return true;
    }
    if (!std::is_same_v<T, Wide<T>>) return false;
    product.epilogue = Epilogue::none;
    product.vector = nullptr;
  }
  if (!matmul(product)) return false;
  finish(put.c, put.m * put.n, put.n, put);
  return true;
}

}  // namespace

void linear_forward(View x, View weight, View bias, bool relu, Out y) {
  const int64_t rows = x.shape[0], inputs = x.shape[1], outputs = weight.shape[0];
  const Matmul product{x.dtype, y.dtype, 1, rows, outputs, inputs, {x.data, inputs, 1}, {weight.data, 1, inputs},
                       y.data};
  with_any_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const PutRows<T> put{y.as<T>(), rows, outputs, bias ? bias.as<T>() : nullptr, nullptr, relu};
    if (by_library(product, put)) return;
    multiply_matrices<Wide<T>>(1, rows, outputs, inputs, Matrix<T>{x.as<T>(), inputs, 1, true},
                               Matrix<T>{weight.as<T>(), 1, inputs, true}, put);
  });
}

void linear_backward(View dy, View x, View weight, View gate, Out dx, Out dweight, Out dbias) {
  const int64_t rows = dy.shape[0], outputs = dy.shape[1], inputs = weight.shape[1];
  with_any_float(dy.dtype, [&](auto type) {
    using T = decltype(type);
    using W = Wide<T>;
    const T* const g = dy.as<T>();
    if (dx) {
      const PutRows<T> put{dx.as<T>(), rows, inputs, nullptr, gate ? gate.as<T>() : nullptr};
      const Matmul product{dy.dtype, dx.dtype, 1, rows, inputs, outputs, {g, outputs, 1}, {weight.data, inputs, 1},
                           dx.data};
      if (!by_library(product, put))
        multiply_matrices<W>(1, rows, inputs, outputs, Matrix<T>{g, outputs, 1, true},
                             Matrix<T>{weight.as<T>(), inputs, 1, false}, put);
    }
    bool summed = false;
    if (dweight) {
      const Strided dy_across{g, 1, outputs}, x_down{x.data, inputs, 1};
      Matmul product{dy.dtype, dweight.dtype, 1, outputs, inputs, rows, dy_across, x_down, dweight.data};
      if (dbias) {
        product.epilogue = Epilogue::row_sums;
        product.vector = dbias.data;
        summed = matmul(product);
        product.epilogue = Epilogue::none;
        product.vector = nullptr;
      }
      if (!summed && !matmul(product))
        multiply_matrices<W>(1, outputs, inputs, rows, Matrix<T>{g, 1, outputs, false},
                             Matrix<T>{x.as<T>(), inputs, 1, false}, PutPlain<W>{dweight.as<W>(), outputs, inputs});
    }
    if (dbias && !summed) column_sums(g, rows, outputs, dbias.as<W>());
  });
}

FASTDL_REGISTER(linear_forward)
FASTDL_REGISTER(linear_backward)

}  // namespace fastdl::cuda::gpu
