// Codes out of checkpoints that were trained for them (docs/formats.md, "QAT files").
#pragma once

#include <cstddef>
#include <cstdint>

namespace cabochon {

// values [32] are bf16 bits; codes [32] are numbers n in -8..7 plus 8; the scale is bf16 bits, may
// be negative, and is 0 for a block of zeros. Outputs are written where the answer is true. Zeros
// are equal whatever their signs; a block with a NaN or an infinity is on no lattice.

// Finds n and a scale with bf16(scale * n) == value for all 32: a block of int4 that was rounded to
// bf16 when the file was written. Exact: where there is such a scale, one is found.
bool recover_block(const uint16_t* values, uint8_t* codes, uint16_t* scale) noexcept;

// The same where the scale may be any real number, as float16 scales are. It is then rounded to
// bf16: the codes are those of the file, and the scale is off by half a step at most.
bool recover_codes(const uint16_t* values, uint8_t* codes, uint16_t* scale) noexcept;

// How blocks of 32 weights became int4.
struct RecoveredBlocks {
  int64_t exact = 0;          // codes and scale give the values of the file
  int64_t nearest_scale = 0;  // its codes; no bf16 scale gives its values, so the nearest one
  int64_t off = 0;            // on no lattice
  int64_t first_off = -1;     // the first of those: row * cols + col
};

// Puts those blocks of bf16 values [rows, cols] that are on a lattice into a panel of int4, and its
// padding; rows is 1 to 32. Where a block is on none, its place in the panel keeps what it has.
RecoveredBlocks recover_panel(const uint16_t* values, int64_t rows, int64_t cols,
                              std::byte* panel) noexcept;

// compressed-tensors "pack-quantized" with 4 bits: words [rows, cols / 8], the lowest column in the
// lowest nibble, to codes [rows, cols]. The nibbles are codes of int4 already, and the file's
// scales [rows, cols / 32] in bf16 are its scales. cols is a multiple of 8.
void unpack_w4a16(const int32_t* words, int64_t rows, int64_t cols, uint8_t* codes) noexcept;

}  // namespace cabochon
