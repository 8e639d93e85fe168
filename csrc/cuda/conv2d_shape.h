// What device code asks of a convolution's sizes.
#pragma once
#include "core/conv2d.h"

#include "cuda/launch.h"

namespace fastdl::cuda::gpu {

// The sizes of a convolution that device code asks for, channels and filters of one group, and how its weight lies.
struct Shape {
  int64_t h, w, oh, ow, channels, filters, all_channels, all_filters;
  int64_t kernel_height, kernel_width, stride[2], padding[2], dilation[2];
  int64_t of_tap, of_channel;  // steps in the weight

  Shape(const Conv2dDims& d, const View& weight)
      : h(d.h),
        w(d.w),
        oh(d.oh),
        ow(d.ow),
        channels(d.c / d.groups),
        filters(d.o / d.groups),
        all_channels(d.c),
        all_filters(d.o),
        kernel_height(d.window.kernel_size.first),
        kernel_width(d.window.kernel_size.second),
        stride{d.window.stride.first, d.window.stride.second},
        padding{d.window.padding.first, d.window.padding.second},
        dilation{d.window.dilation.first, d.window.dilation.second},
        of_tap(has_channels_last(weight) ? channels : 1),
        of_channel(has_channels_last(weight) ? 1 : taps()) {}

  FASTDL_BOTH int64_t taps() const { return kernel_height * kernel_width; }
  // The weight of a filter, of all of them, at a tap and a channel of its group.
  FASTDL_BOTH int64_t weight_at(int64_t filter, int64_t tap, int64_t channel) const {
    return filter * channels * taps() + channel * of_channel + tap * of_tap;
  }
};

}  // namespace fastdl::cuda::gpu
