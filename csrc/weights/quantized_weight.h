// A weight that was rounded to int4, int8 or bf16 from memory (cabochon.ops), in the bytes that a
// matmul reads.
#pragma once

#include <string>

#include "base/buffer.h"
#include "weights/format.h"
#include "weights/quantize.h"

namespace cabochon {

// Owns its bytes and never changes.
class QuantizedWeight {
 public:
  // Rounds a weight [..., rows, cols], float32 or bf16, by the rule of the loader (docs/formats.md,
  // "Rounding"), on up to `threads` threads; with `search` (int4 alone; null: none) by that of
  // "int4: the search", columns weighed alike. Throws InvalidArgument: an unknown format, no two
  // dimensions, an empty one, columns that are no multiple of 32 (int4, int8), or a number that is
  // not finite in the weight or in bf16, with its place.
  QuantizedWeight(const Tensor& weight, const std::string& format, SearchInt4 search, int threads);

  const Format& format() const { return *packed_.format; }
  const Shape& shape() const { return shape_; }
  int64_t bytes() const { return buffer_.bytes(); }
  const PackedWeight& packed() const { return packed_; }  // valid while this lives

  // Fills codes [..., rows, cols] (docs/formats.md, "Logical form"; bf16: the numbers' bits) and,
  // in a format with blocks, bf16 bits of scales [..., rows, blocks].
  void unpack(std::byte* codes, uint16_t* scales) const noexcept;

  // The numbers it stands for, [..., rows, cols].
  void dequantize(float* numbers) const;

 private:
  Shape shape_;
  Buffer buffer_;
  PackedWeight packed_;
};

}  // namespace cabochon
