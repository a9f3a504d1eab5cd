// A quantised matrix apart from any device: codes and scales in rows (docs/formats.md).
#pragma once

#include "weights/format.h"

namespace cabochon {

// y = W x with W [rows, cols] = [out, in]; cols a multiple of 32. A weight is its code as a number
// times the scale of its block. Owns nothing.
//   codes   [rows, cols]; int4: uint8, the number + 8, in 0..15; int8: int8, in -127..127
//   scales  bf16 [rows, ceil(cols / block)]
struct LogicalTensor {
  const Format* format = nullptr;
  int64_t rows = 0, cols = 0;
  Tensor codes, scales;
};

// Blocks of a row; the last one of int8 may be short.
inline int64_t blocks_of(const Format& format, int64_t cols) {
  return (cols + format.block - 1) / format.block;
}

}  // namespace cabochon
