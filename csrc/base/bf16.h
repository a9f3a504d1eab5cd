// 16-bit floats to float32, exactly. Rounding to bf16 is a kernel (cpu/kernels.h, narrow_bf16).
#pragma once

#include <bit>
#include <cstdint>

namespace cabochon {

inline float bf16_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// IEEE half: 5 bits of exponent, 10 of fraction.
inline float f16_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity or NaN: the exponent becomes all ones
    return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  }
  // A shift puts fraction and exponent in place; 2^112 corrects the bias and normalises what was
  // subnormal. The product is exact: every half is a float32.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | sign);
}

}  // namespace cabochon
