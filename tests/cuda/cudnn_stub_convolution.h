// What cudnn_stub.cpp runs: a descriptor as it keeps it, the convolution that one of the operation's describes, and
// that convolution in plain loops.
#pragma once
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/bfloat16.h"
#include "cuda/cudnn_api.h"

namespace fastdl::cudnn {

namespace {

using std::int64_t;

struct Descriptor;
struct Attribute {
  cudnnBackendAttributeType_t type;
  std::vector<char> bytes;
  std::vector<std::shared_ptr<Descriptor>> nested;
};
struct Descriptor {
  cudnnBackendDescriptorType_t type;
  bool final = false;
  std::map<int, Attribute> attributes = {};

  template <class T>
  std::vector<T> all(int name) const {
    const Attribute& a = attributes.at(name);
    std::vector<T> values(a.bytes.size() / sizeof(T));
    std::memcpy(values.data(), a.bytes.data(), values.size() * sizeof(T));
    return values;
  }
  template <class T>
  T one(int name) const {
    return all<T>(name).at(0);
  }
  const Descriptor& of(int name) const { return *attributes.at(name).nested.at(0); }
  template <class T>
  void put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t as, const std::vector<T>& values) {
    const char* const bytes = reinterpret_cast<const char*>(values.data());
    attributes[name] = {as, {bytes, bytes + values.size() * sizeof(T)}, {}};
  }
};

constexpr int kPasses[] = {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA};
int pass_of(cudnnBackendDescriptorType_t operation) {
  return operation == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR         ? 0
         : operation == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ? 1
                                                                                     : 2;
}
// A convolution as it will be made, whichever pass it is of.
struct Tensor {
  std::vector<int64_t> size, stride;
  cudnnDataType_t type;
  int64_t id, border;

  explicit Tensor(const Descriptor& d)
      : size(d.all<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS)),
        stride(d.all<int64_t>(CUDNN_ATTR_TENSOR_STRIDES)),
        type(d.one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE)),
        id(d.one<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID)),
        border(d.one<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT)) {}
  std::size_t count() const { return static_cast<std::size_t>(size[0] * size[1] * size[2] * size[3]); }
};
// Attributes of a pass come as alpha, beta, convolution, and then w, x, y or w, dx, dy or dw, x, dy.
struct Convolution {
  int pass;
  Tensor w, x, y;
  std::vector<int64_t> dilation, stride, padding;
  float alpha, beta;

  explicit Convolution(const Descriptor& d) : Convolution(d, pass_of(d.type), kPasses[pass_of(d.type)]) {}
  Convolution(const Descriptor& d, int pass_, int first)
      : pass(pass_),
        w(d.of(first + 3)),
        x(d.of(first + 4)),
        y(d.of(first + 5)),
        dilation(d.of(first + 2).all<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS)),
        stride(d.of(first + 2).all<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES)),
        padding(d.of(first + 2).all<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS)),
        alpha(d.one<float>(first)),
        beta(d.one<float>(first + 1)) {}
  int64_t groups() const { return x.size[1] / w.size[1]; }
  const Tensor& result() const { return pass == 0 ? y : pass == 1 ? x : w; }
};

std::string check(const Convolution& c) {
  const Tensor &x = c.x, &w = c.w, &y = c.y;
  if (std::set<int64_t>{x.id, w.id, y.id}.size() != 3) return "arrays of one name";
  if (x.size[0] != y.size[0] || y.size[1] != w.size[0]) return "batches or filters differ";
  if (x.size[1] % w.size[1] != 0 || w.size[0] % c.groups() != 0) return "groups don't fit";
  for (std::size_t i = 0; i < 2; ++i) {
    const int64_t reach = c.dilation[i] * (w.size[2 + i] - 1) + 1;
    const int64_t room = x.size[2 + i] + 2 * c.padding[i] - reach;
    if (room < 0 || room / c.stride[i] + 1 != y.size[2 + i]) return "the output's size doesn't fit";
  }
  return "";
}

// An element of an array of this type.
double at(const void* p, cudnnDataType_t type, int64_t i) {
  return static_cast<double>(type == CUDNN_DATA_FLOAT ? static_cast<const float*>(p)[i]
                                                      : static_cast<float>(static_cast<const bfloat16*>(p)[i]));
}

// f(a place in x, in w, in y) for every product of the pass.
template <class F>
void walk(const Convolution& c, const F& f) {
  const Tensor &x = c.x, &w = c.w, &y = c.y;
  const int64_t filters = w.size[0] / c.groups(), channels = w.size[1];
  for (int64_t n = 0; n < y.size[0]; ++n)
    for (int64_t o = 0; o < y.size[1]; ++o)
      for (int64_t p = 0; p < y.size[2]; ++p)
        for (int64_t q = 0; q < y.size[3]; ++q)
          for (int64_t k = 0; k < channels; ++k)
            for (int64_t i = 0; i < w.size[2]; ++i)
              for (int64_t j = 0; j < w.size[3]; ++j) {
                const int64_t row = p * c.stride[0] + i * c.dilation[0] - c.padding[0];
                const int64_t column = q * c.stride[1] + j * c.dilation[1] - c.padding[1];
                if (row < 0 || row >= x.size[2] || column < 0 || column >= x.size[3]) continue;
                f(n * x.stride[0] + (o / filters * channels + k) * x.stride[1] + row * x.stride[2] +
                      column * x.stride[3],
                  o * w.stride[0] + k * w.stride[1] + i * w.stride[2] + j * w.stride[3],
                  n * y.stride[0] + o * y.stride[1] + p * y.stride[2] + q * y.stride[3]);
              }
}

// The pass's sums in float64, times alpha, with beta times what the result had.
void make(const Convolution& c, const void* x, const void* w, const void* y, void* to) {
  std::vector<double> sums(c.result().count());
  walk(c, [&](int64_t i, int64_t j, int64_t k) {
    const int64_t place = c.pass == 0 ? k : c.pass == 1 ? i : j;
    const double a = c.pass == 1 ? at(w, c.w.type, j) : at(x, c.x.type, i);
    const double b = c.pass == 0 ? at(w, c.w.type, j) : at(y, c.y.type, k);
    sums[static_cast<std::size_t>(place)] += a * b;
  });
  const cudnnDataType_t type = c.result().type;
  const double alpha = static_cast<double>(c.alpha), beta = static_cast<double>(c.beta);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const double sum = alpha * sums[i] + (beta == 0 ? 0 : beta * at(to, type, static_cast<int64_t>(i)));
    if (type == CUDNN_DATA_FLOAT)
      static_cast<float*>(to)[i] = static_cast<float>(sum);
    else
      static_cast<bfloat16*>(to)[i] = bfloat16(sum);
  }
}

}  // namespace

}  // namespace fastdl::cudnn
