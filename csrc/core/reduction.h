// How a loss is reduced: "mean", "sum" or "none".
#pragma once
#include <string>

#include "core/check.h"

namespace fastdl {

enum class Reduction : int { mean, sum, none };

inline Reduction check_reduction(const char* kernel, const std::string& reduction) {
  check::choice(kernel, "reduction", reduction, {"mean", "sum", "none"});
  return reduction == "mean" ? Reduction::mean : reduction == "sum" ? Reduction::sum : Reduction::none;
}

}  // namespace fastdl
