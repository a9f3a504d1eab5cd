// Weights to int4 or int8 and back. The rule is docs/formats.md, "Rounding".
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "weights/logical.h"

namespace cabochon {

// The bf16 nearest to a finite number, ties to even.
inline uint16_t nearest_bf16(float finite) {
  const uint32_t bits = std::bit_cast<uint32_t>(finite);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// Finds scales and codes of one int4 unit: 32 rows of 32 columns, each row with the scale that
// costs least of those tried (docs/formats.md, "int4: the search"). A device offers it, since it is
// worth its vectors: search_int4 in cpu/kernels.h says what `columns` and `importance` may hold.
using SearchInt4 = void (*)(uint8_t* unit, const float* columns, const float* importance) noexcept;

// What quantize_panel searches with; empty: the plain rule.
struct ScaleSearch {
  SearchInt4 search = nullptr;
  const float* importance = nullptr;  // [cols], each 0 or 2^-40 to 1; null: all 1
};

// Quantises float32 weights [rows, cols] and packs them as one panel; rows is 1 to 32, what is
// missing to 32 is padding. int8 knows the plain rule alone. Returns -1, or the index row * cols +
// col of the first weight that is not finite: the panel may then hold anything.
int64_t quantize_panel(const Format& format, const float* weights, int64_t rows, int64_t cols,
                       const ScaleSearch& scales, std::byte* panel) noexcept;

// The same for a whole matrix, in rows: fills codes and scales of `out`. Throws InvalidArgument
// naming the first weight that is not finite.
void quantize(const float* weights, const LogicalTensor& out);

// weights [rows, cols] = number of the code * scale, in float32.
void dequantize(const LogicalTensor& logical, float* weights) noexcept;

}  // namespace cabochon
