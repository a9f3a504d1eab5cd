// Integer weights x rounded activations, the definition for any format.
//
// Math      matmul_int4 and matmul_int8 in cpu/kernels.h: blocks into granules into segments.
// Layout    panels of 32 rows, as cpu/kernels.h draws them. A format says how many columns share a
//           scale (kBlock), how many bytes 32 rows of one column take (kColumnBytes), and
//           reads one weight.
// Numerics  a dot of at most 128 products stays below 2^24: exact in int32 and as float32.
#pragma once

#include "cpu/scalar/scalar.h"

namespace cabochon::cpu::scalar_tier {
namespace {

inline size_t at_most(size_t count, size_t limit) noexcept { return count < limit ? count : limit; }

// fma(block scale, dot of weights and codes, f) over the blocks of `cols` columns, one granule.
// `unit` is where they begin in the panel.
template <class Format>
float add_blocks(const uint8_t* unit, size_t row, const int8_t* codes, size_t cols) noexcept {
  float f = 0.0f;
  for (size_t first = 0; first < cols; first += Format::kBlock) {
    const size_t count = at_most(cols - first, Format::kBlock);
    int32_t dot = 0;
    for (size_t k = 0; k < count; ++k) dot += Format::weight(unit, row, k) * codes[first + k];
    const uint8_t* block_scales = unit + count * Format::kColumnBytes;
    uint16_t scale;
    std::memcpy(&scale, block_scales + row * sizeof scale, sizeof scale);
    f = std::fma(widen(scale), static_cast<float>(dot), f);
    unit = block_scales + kPanelRows * sizeof scale;
  }
  return f;
}

template <class Format>
float dot_of_row(const uint8_t* panel, size_t row, const int8_t* codes, const float* scales,
                 size_t cols) noexcept {
  float sum = 0.0f;
  for (size_t segment = 0; segment < cols; segment += kSegment) {
    const size_t end = segment + at_most(cols - segment, kSegment);
    float acc = 0.0f;
    for (size_t k = segment; k < end; k += kGranule) {
      const uint8_t* unit = panel + k / Format::kBlock * Format::kUnitBytes;
      const float f = add_blocks<Format>(unit, row, codes + k, at_most(end - k, kGranule));
      acc = std::fma(scales[k / kGranule], f, acc);
    }
    sum = segment == 0 ? acc : sum + acc;
  }
  return sum;
}

template <class Format>
void matmul(float* out, size_t out_stride, const QuantizedRows* x, const uint8_t* panels,
            size_t rows) noexcept {
  const size_t cols = x->cols;
  const size_t granules = (cols + kGranule - 1) / kGranule;
  const size_t blocks = (cols + Format::kBlock - 1) / Format::kBlock;
  const size_t panel_bytes = cols * Format::kColumnBytes + blocks * kPanelRows * sizeof(uint16_t);
  for (size_t r = 0; r < rows; ++r) {
    const uint8_t* panel = panels + r / kPanelRows * panel_bytes;
    for (size_t t = 0; t < x->tokens; ++t) {
      out[t * out_stride + r] = dot_of_row<Format>(panel, r % kPanelRows, x->codes + t * cols,
                                                   x->scales + t * granules, cols);
    }
  }
}

}  // namespace
}  // namespace cabochon::cpu::scalar_tier
