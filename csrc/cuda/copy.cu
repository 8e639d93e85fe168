// Copies between memory orders, conversions and fills, bound by memory.
#include "core/copy.h"

#include "core/bfloat16.h"
#include "cuda/map.h"

namespace fastdl::cuda::gpu {

namespace {

// Element i, counted in the destination's order of memory: where both sides have it.
struct CopyPlan {
  int ndim = 0;
  int64_t shape[kMaxDims] = {}, src[kMaxDims] = {}, dst[kMaxDims] = {};

  FASTDL_BOTH void find(int64_t i, int64_t& from, int64_t& to) const {
    from = to = 0;
    for (int d = ndim - 1; d >= 0; --d) {
      const int64_t rest = i / shape[d], position = i - rest * shape[d];
      from += position * src[d];
      to += position * dst[d];
      i = rest;
    }
  }
};

// Axes by falling stride of the destination; neighbours that both sides walk through evenly are one.
CopyPlan plan_copy(const View& src, const View& dst) {
  CopyPlan p;
  const auto size = [](int64_t x) { return x < 0 ? -x : x; };
  for (int d = 0; d < src.ndim; ++d) {
    if (src.shape[d] == 1) continue;
    int i = p.ndim++;
    for (; i > 0 && size(p.dst[i - 1]) < size(dst.strides[d]); --i) {
      p.shape[i] = p.shape[i - 1];
      p.src[i] = p.src[i - 1];
      p.dst[i] = p.dst[i - 1];
    }
    p.shape[i] = src.shape[d];
    p.src[i] = src.strides[d];
    p.dst[i] = dst.strides[d];
  }
  int last = 0;
  for (int d = 1; d < p.ndim; ++d) {
    if (p.src[last] == p.src[d] * p.shape[d] && p.dst[last] == p.dst[d] * p.shape[d])
      p.shape[last] *= p.shape[d];
    else
      p.shape[++last] = p.shape[d];
    p.src[last] = p.src[d];
    p.dst[last] = p.dst[d];
  }
  if (p.ndim > 0) p.ndim = last + 1;
  return p;
}

template <class T>
struct Identity {
  FASTDL_BOTH T operator()(T x) const { return x; }
};

template <class X, class Y>
struct Convert {
  FASTDL_BOTH Y operator()(X x) const { return static_cast<Y>(x); }
};

template <class T>
struct CopyItem {
  CopyPlan plan;
  const T* src;
  T* dst;
  FASTDL_DEVICE_ONLY void operator()(int64_t i) const {
    int64_t from, to;
    plan.find(i, from, to);
    dst[to] = src[from];
  }
};

template <class T>
void copy_items(const View& src, const View& dst) {
  const CopyPlan plan = plan_copy(src, dst);
  const T* const from = src.as<T>();
  if (plan.ndim == 0 || (plan.ndim == 1 && plan.src[0] == 1 && plan.dst[0] == 1))
    return map(src.size(), dst.as<T>(), Identity<T>{}, from);
  for_each(src.size(), CopyItem<T>{plan, from, dst.as<T>()});
}

template <class F>
void with_any(DType dtype, const F& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::i32:
      return f(std::int32_t{});
    case DType::i64:
      return f(std::int64_t{});
    case DType::u8:
      return f(std::uint8_t{});
    case DType::bf16:
      return f(bfloat16{});
    default:
      return f(bool{});
  }
}

}  // namespace

void copy(View src, Out dst) {
  switch (item_size(src.dtype)) {
    case 1:
      return copy_items<std::uint8_t>(src, dst);
    case 2:
      return copy_items<std::uint16_t>(src, dst);
    case 4:
      return copy_items<std::uint32_t>(src, dst);
    default:
      return copy_items<std::uint64_t>(src, dst);
  }
}

void fill_zero(Out dst) {
  auto* const bytes = dst.as<std::uint8_t>();
  const int64_t size = dst.size() * item_size(dst.dtype), words = on_border(bytes) ? size / 8 : 0;
  auto* const whole = reinterpret_cast<std::uint64_t*>(bytes);
  for_each(words, FASTDL_LAMBDA(int64_t i) { whole[i] = 0; });
  for_each(size - words * 8, FASTDL_LAMBDA(int64_t i) { bytes[words * 8 + i] = 0; });
}

void cast(View x, Out y) {
  with_any(x.dtype, [&](auto from) {
    with_any(y.dtype, [&](auto to) {
      using X = decltype(from);
      using Y = decltype(to);
      map(x.size(), y.as<Y>(), Convert<Wide<X>, Wide<Y>>{}, static_cast<const X*>(x.as<X>()));
    });
  });
}

FASTDL_REGISTER(copy)
FASTDL_REGISTER(fill_zero)
FASTDL_REGISTER(cast)

}  // namespace fastdl::cuda::gpu
