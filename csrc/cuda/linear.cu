// Dense layers by the tiled product, with bias, ReLU and ReLU's backward in its epilogue.
#include "core/linear.h"

#include "cuda/column_sums.h"
#include "cuda/product.h"

namespace fastdl::cuda::gpu {

void linear_forward(View x, View weight, View bias, bool relu, Out y) {
  const int64_t rows = x.shape[0], inputs = x.shape[1], outputs = weight.shape[0];
  with_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const PutRows<T> put{y.as<T>(), rows, outputs, bias ? bias.as<T>() : nullptr, nullptr, relu};
    multiply<T>(1, rows, outputs, inputs, Matrix<T>{x.as<T>(), inputs, 1, true},
                Matrix<T>{weight.as<T>(), 1, inputs, true}, put);
  });
}

void linear_backward(View dy, View x, View weight, View gate, Out dx, Out dweight, Out dbias) {
  const int64_t rows = dy.shape[0], outputs = dy.shape[1], inputs = weight.shape[1];
  with_float(dy.dtype, [&](auto type) {
    using T = decltype(type);
    const T* const g = dy.as<T>();
    if (dx)
      multiply<T>(1, rows, inputs, outputs, Matrix<T>{g, outputs, 1, true}, Matrix<T>{weight.as<T>(), inputs, 1, false},
                  PutRows<T>{dx.as<T>(), rows, inputs, nullptr, gate ? gate.as<T>() : nullptr});
    if (dweight)
      multiply<T>(1, outputs, inputs, rows, Matrix<T>{g, 1, outputs, false}, Matrix<T>{x.as<T>(), inputs, 1, false},
                  PutRows<T>{dweight.as<T>(), outputs, inputs});
    if (dbias) column_sums(g, rows, outputs, dbias.as<T>());
  });
}

FASTDL_REGISTER(linear_forward)
FASTDL_REGISTER(linear_backward)

}  // namespace fastdl::cuda::gpu
