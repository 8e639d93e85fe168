// Moves elements between memory orders (on bytes, so in every dtype) and converts them between dtypes.
// The bindings use it too, for arguments that are not in the order a kernel reads.
#pragma once
#include "core/check.h"
#include "core/kernel.h"

namespace fastdl {

// Every x[i] has the dtype of x[0] and, but for the axis, its shape. Returns the axis in [0, ndim).
int check_concatenate(const View* x, int count, std::int64_t axis);
// dy lies inside `shape` when its element k goes to starts + k * steps.
void check_slice_backward(const View& dy, const std::int64_t* shape, int ndim, const std::int64_t* starts,
                          int starts_count, const std::int64_t* steps, int steps_count);
// x has the dtype of out and broadcasts to its shape. Returns x as a view of that shape, strides 0 where it repeats.
View check_assign(const View& out, const View& x);
// May a byte of a also belong to b?
bool overlap(const View& a, const View& b);
// The part of x that starts at `starts`, steps by `steps` and has the given shape; all inside x.
View slice_of(const View& x, const std::int64_t* starts, const std::int64_t* steps, const std::int64_t* shape);

namespace FASTDL_DEVICE {
// Overwrites dst with src: one shape, one dtype, any strides; they do not overlap, nor do elements of dst.
inline Kernel<void(View src, Out dst)> copy;
// Overwrites dst, dense in some order, with zeros.
inline Kernel<void(Out dst)> fill_zero;
// y = x in y's dtype, both dense in one memory order. Floats lose their fraction on the way to integers; to bool: x !=
// 0.
inline Kernel<void(View x, Out y)> cast;
}  // namespace FASTDL_DEVICE

}  // namespace fastdl
