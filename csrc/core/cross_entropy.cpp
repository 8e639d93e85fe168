#include "core/cross_entropy.h"

#include "core/program.h"

namespace fastdl {

using namespace check;

namespace {

void check_labels(const char* kernel, const View& target, std::int64_t classes, std::int64_t ignore_index) {
  with_index(target.dtype, [&](auto type) {
    const auto* label = target.as<decltype(type)>();
    for (std::int64_t i = 0; i < target.shape[0]; ++i)
      if ((label[i] < 0 || label[i] >= classes) && label[i] != ignore_index)
        fail_index(kernel, "target must lie in [0, " + std::to_string(classes) + ") or be ignore_index " +
                               std::to_string(ignore_index) + ", got " + std::to_string(label[i]));
  });
}

}  // namespace

void check_cross_entropy(const char* kernel, const View& logits, const View& target, const View& weight,
                         const CrossEntropyAttrs& attrs) {
  rank(kernel, "logits", logits, 2, "(N, C)");
  if (logits.shape[1] == 0) fail_value(kernel, "logits must have at least 1 class, got shape " + shape_string(logits));
  shape(kernel, "target", target, {logits.shape[0]});
  like_wide(kernel, "weight", weight, "logits", logits);
  shape(kernel, "weight", weight, {logits.shape[1]});
  number(kernel, "label_smoothing", attrs.label_smoothing, 0, 1);
  checked(kernel, target, check_labels, logits.shape[1], attrs.ignore_index);
}

void check_cross_entropy_backward(const char* kernel, const View& dloss, const View& logits, const View& lse,
                                  Reduction reduction) {
  like_wide(kernel, "dloss", dloss, "logits", logits);
  shape(kernel, "dloss", dloss, logits.shape, reduction == Reduction::none ? 1 : 0);
  like_wide(kernel, "lse", lse, "logits", logits);
  shape(kernel, "lse", lse, {logits.shape[0]});
}

}  // namespace fastdl
