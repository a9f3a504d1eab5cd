// The number formats of weights.
//
// Today those that are stored as they are: a matrix is [rows, cols] = [out, in] of bf16 or float32.
#pragma once

#include <string_view>

#include "base/tensor.h"

namespace cabochon {

struct Format {
  std::string_view name;
  Dtype dtype;
};

inline constexpr Format kF32Format{"f32", Dtype::kF32};
inline constexpr Format kBf16Format{"bf16", Dtype::kBf16};

// How a device wants a format's bytes arranged. kRows: as in the file, so a mapping serves.
enum class Layout { kRows };

// A weight matrix a device can multiply with: y = W x. `codes` is [rows, cols]; for experts a stack
// of matrices is [experts * rows, cols] with `rows` of one expert.
struct PackedWeight {
  const Format* format = nullptr;
  Layout layout = Layout::kRows;
  int64_t rows = 0, cols = 0;
  Tensor codes;

  bool empty() const { return codes.empty(); }

  // Rows [begin, begin + count) of the same matrix.
  PackedWeight slice(int64_t begin, int64_t count) const {
    return {format, layout, count, cols, codes.rows(begin, count)};
  }
};

// A matrix over numbers as they are stored; codes is [..., rows, cols] in bf16 or float32.
inline PackedWeight as_stored(const Tensor& codes, int64_t rows, int64_t cols) {
  const Format* format = codes.dtype == Dtype::kBf16 ? &kBf16Format : &kF32Format;
  return {format, Layout::kRows, rows, cols,
          reshape(codes, {codes.shape.elements() / (cols == 0 ? 1 : cols), cols})};
}

}  // namespace cabochon
