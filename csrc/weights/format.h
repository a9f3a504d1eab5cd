// The number formats of weights, and a weight matrix as a device multiplies with it.
#pragma once

#include <string_view>

#include "base/error.h"
#include "base/tensor.h"

namespace cabochon {

struct Format {
  std::string_view name;
  Dtype dtype;  // of a code
  int block;    // columns that share one bf16 scale; 0: codes are the values
};

inline constexpr Format kF32Format{"f32", Dtype::kF32, 0};
inline constexpr Format kBf16Format{"bf16", Dtype::kBf16, 0};
inline constexpr Format kInt8Format{"int8", Dtype::kI8, 128};
inline constexpr Format kInt4Format{"int4", Dtype::kU8, 32};

// How bytes are arranged. kRows: [rows, cols] as in the file, so a mapping serves; kPanel32: panels
// of 32 rows with their scales inline (docs/formats.md). Formats with a block are in panels.
enum class Layout { kRows, kPanel32 };

inline constexpr int64_t kPanelRows = 32;

// Columns of x that share one scale where x is rounded to int8, for matrices in panels: what a
// matrix has is part of its plan, never of a batch (model/tensors.h, granule_of).
inline constexpr int kFineGranule = 32, kCoarseGranule = 128;

// y = W x with W [rows, cols] = [out, in], or a stack of `count` of them, one after `stride` bytes.
// Owns nothing.
struct PackedWeight {
  const Format* format = nullptr;
  int64_t rows = 0, cols = 0;
  int64_t count = 1;   // matrices of a stack of experts
  int64_t stride = 0;  // bytes from one matrix to the next
  const std::byte* data = nullptr;
  int64_t panel_bytes = 0;     // of one panel of 32 rows; 0 in kRows
  int granule = kFineGranule;  // of x; kRows takes x as it is

  bool empty() const { return data == nullptr; }
  Layout layout() const { return format->block == 0 ? Layout::kRows : Layout::kPanel32; }
  bool is_packed() const { return layout() == Layout::kPanel32; }

  // Row `row` of matrix `index`; in panels a multiple of 32.
  const std::byte* at(int64_t index, int64_t row) const {
    const int64_t offset = layout() == Layout::kPanel32 ? row / kPanelRows * panel_bytes
                                                        : row * cols * byte_size(format->dtype);
    return data + index * stride + offset;
  }

  // Rows [begin, begin + rows) of the same matrices.
  PackedWeight slice(int64_t begin, int64_t slice_rows) const {
    PackedWeight out = *this;
    out.data = at(0, begin);
    out.rows = slice_rows;
    return out;
  }
};

// A matrix over numbers as they are stored, or a stack of them: codes is [..., rows, cols] in bf16
// or float32.
inline PackedWeight as_stored(const Tensor& codes) {
  const int rank = codes.shape.rank();
  if (rank != 2 && rank != 3) {
    throw InvalidArgument(text("a weight is ", codes.shape, ", expected a matrix or a stack"));
  }
  const int64_t rows = codes.shape[rank == 3 ? 1 : 0], cols = codes.shape.back();
  return {.format = codes.dtype == Dtype::kBf16 ? &kBf16Format : &kF32Format,
          .rows = rows,
          .cols = cols,
          .count = rank == 3 ? codes.shape[0] : 1,
          .stride = rows * cols * byte_size(codes.dtype),
          .data = codes.as<const std::byte>()};
}

}  // namespace cabochon
