// float32 rows to int8 with one scale a granule, the definition.
//
// Math      quantize_rows in cpu/kernels.h: code = round(x * (127 / absmax)), scale = absmax / 127.
// Layout    x and codes [tokens, cols], scales [tokens, ceil(cols / granule)], sums
//           [tokens, cols / 32].
// Numerics  as bits without their sign, magnitudes order like integers and a NaN is above
// infinity.
//           Where 127 / absmax would overflow all codes are 0. A product exceeds 127 by two
//           roundings at most, so no code does. Codes beside a NaN or an infinity are 0.
#include "cpu/scalar/scalar.h"

namespace cabochon::cpu::scalar_tier {
namespace {

constexpr uint32_t kInfinityBits = 0x7f800000, kNanBits = 0x7fc00000;
constexpr float kTinyAbsmax = 0x1p-120f;  // 127 / 2^-120 is finite, 127 / 2^-122 is not

uint32_t magnitude_bits(float x) noexcept {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits & 0x7fffffffu;
}

float from_bits(uint32_t bits) noexcept {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// Returns the scale of `count` columns, at most a granule.
float quantize_granule(int8_t* codes, const float* x, size_t count) noexcept {
  uint32_t largest = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = magnitude_bits(x[i]);
    if (bits > largest) largest = bits;
  }
  const float absmax = from_bits(largest);
  const bool finite = largest < kInfinityBits;
  const float factor = absmax < kTinyAbsmax ? 0.0f : 127.0f / absmax;
  for (size_t i = 0; i < count; ++i) {
    codes[i] = finite ? static_cast<int8_t>(std::lrint(x[i] * factor)) : int8_t{0};
  }
  return finite ? absmax / 127.0f : from_bits(kNanBits);
}

void quantize_rows(int8_t* codes, float* scales, int32_t* sums, const float* x, size_t tokens,
                   size_t cols, size_t granule) noexcept {
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t k = 0; k < cols; k += granule) {
      const size_t count = cols - k < granule ? cols - k : granule;
      *scales++ = quantize_granule(codes + k, x + k, count);
    }
    for (size_t k = 0; k < cols; k += kSumColumns) {
      int32_t sum = 0;
      for (size_t i = 0; i < kSumColumns; ++i) sum += codes[k + i];
      *sums++ = sum;
    }
    codes += cols;
    x += cols;
  }
}

}  // namespace

void install_quantize(Kernels& kernels) noexcept { kernels.quantize_rows = quantize_rows; }

}  // namespace cabochon::cpu::scalar_tier
