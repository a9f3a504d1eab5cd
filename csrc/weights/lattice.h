// Codes out of checkpoints that were trained for them (docs/formats.md, "QAT files").
#pragma once

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

// compressed-tensors "pack-quantized" with 4 bits: words [rows, cols / 8], the lowest column in the
// lowest nibble, to codes [rows, cols]. The nibbles are codes of int4 already, and the file's
// scales [rows, cols / 32] in bf16 are its scales. cols is a multiple of 8.
void unpack_w4a16(const int32_t* words, int64_t rows, int64_t cols, uint8_t* codes) noexcept;

}  // namespace cabochon
