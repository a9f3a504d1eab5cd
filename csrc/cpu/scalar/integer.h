// Integer weights x rounded activations, the definition for any format.
//
// Math      matmul_int4 and matmul_int8 in cpu/kernels.h: blocks and granules into segments.
// Layout    panels of 32 rows, as cpu/kernels.h draws them. A format says how many columns share a
//           scale (kBlock), how many bytes 32 rows of one column take (kColumnBytes), and
//           reads one weight.
// Numerics  a dot of at most 128 products stays below 2^24: exact in int32 and as float32.
#pragma once

#include "cpu/scalar/scalar.h"

namespace cabochon::cpu::scalar_tier {
namespace {

inline size_t at_most(size_t count, size_t limit) noexcept { return count < limit ? count : limit; }

// Of a row in a unit of `cols` columns.
template <class Format>
float scale_of(const uint8_t* unit, size_t row, size_t cols) noexcept {
  uint16_t scale;
  std::memcpy(&scale, unit + cols * Format::kColumnBytes + row * sizeof scale, sizeof scale);
  return widen(scale);
}

// The exact dot of weights and codes of columns [first, first + count), which lie in one block.
template <class Format>
float dot_in_block(const uint8_t* unit, size_t row, const int8_t* codes, size_t first,
                   size_t count) noexcept {
  int32_t dot = 0;
  for (size_t k = first; k < first + count; ++k) dot += Format::weight(unit, row, k) * codes[k];
  return static_cast<float>(dot);
}

template <class Format>
float dot_of_row(const uint8_t* panel, size_t row, const int8_t* codes, const float* scales,
                 size_t cols, size_t granule) noexcept {
  const bool is_block_inside = Format::kBlock <= granule;
  const size_t narrow = is_block_inside ? Format::kBlock : granule;
  const size_t wide = is_block_inside ? granule : Format::kBlock;
  float sum = 0.0f;
  for (size_t segment = 0; segment < cols; segment += kSegment) {
    const size_t segment_end = segment + at_most(cols - segment, kSegment);
    float acc = 0.0f;
    for (size_t span = segment; span < segment_end; span += wide) {
      const size_t span_end = span + at_most(segment_end - span, wide);
      float f = 0.0f, block_scale = 0.0f;
      for (size_t k = span; k < span_end; k += narrow) {
        const size_t block = k / Format::kBlock * Format::kBlock;
        const uint8_t* unit = panel + k / Format::kBlock * Format::kUnitBytes;
        block_scale = scale_of<Format>(unit, row, at_most(cols - block, Format::kBlock));
        const float dot = dot_in_block<Format>(unit, row, codes + block, k - block,
                                               at_most(span_end - k, narrow));
        f = std::fma(is_block_inside ? block_scale : scales[k / granule], dot, f);
      }
      acc = std::fma(is_block_inside ? scales[span / granule] : block_scale, f, acc);
    }
    sum = segment == 0 ? acc : sum + acc;
  }
  return sum;
}

template <class Format>
void matmul(float* out, size_t out_stride, const QuantizedRows* x, const uint8_t* panels,
            size_t rows) noexcept {
  const size_t cols = x->cols, granule = x->granule;
  const size_t granules = (cols + granule - 1) / granule;
  const size_t blocks = (cols + Format::kBlock - 1) / Format::kBlock;
  const size_t panel_bytes = cols * Format::kColumnBytes + blocks * kPanelRows * sizeof(uint16_t);
  for (size_t r = 0; r < rows; ++r) {
    const uint8_t* panel = panels + r / kPanelRows * panel_bytes;
    for (size_t t = 0; t < x->tokens; ++t) {
      out[t * out_stride + r] = dot_of_row<Format>(panel, r % kPanelRows, x->codes + t * cols,
                                                   x->scales + t * granules, cols, granule);
    }
  }
}

}  // namespace
}  // namespace cabochon::cpu::scalar_tier
