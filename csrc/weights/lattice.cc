#include "weights/lattice.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/bf16.h"
#include "weights/quantize.h"

namespace cabochon {
namespace {

constexpr int kBlock = 32;

// Where one unit in the last place is 1: an addition rounds to the nearest integer.
constexpr float kShift = 0x1.8p23f;

// Those finite values, and of them the largest in magnitude.
struct Block {
  float values[kBlock];
  float largest;
};

bool widen(const uint16_t* bits, Block& block) noexcept {
  int largest = 0;  // magnitude, then the sign as the last bit
  for (int i = 0; i < kBlock; ++i) {
    block.values[i] = bf16_to_float(bits[i]);
    largest = std::max(largest, (bits[i] & 0x7fff) << 1 | bits[i] >> 15);
  }
  block.largest = bf16_to_float(static_cast<uint16_t>(largest >> 1 | (largest & 1) << 15));
  return largest < 0x7f80 << 1;
}

// Rounding keeps the order of magnitudes, so the largest value has the largest |n|, called k here:
// about largest / k is the scale. Only 8 settles its sign, being the number -8; otherwise a scale
// below 0 says nothing that one above does not.
float scale_for(const Block& block, int k) {
  return (k == 8 ? -block.largest : std::fabs(block.largest)) / static_cast<float>(k);
}

// n = the integers nearest to value / scale. False where one has no code, or is too far for every
// scale with the same k: rounding moved value and largest by 1/256 of themselves at most, together
// by 1/128; twice that is allowed, since what passes is looked at exactly.
bool numbers_near(const Block& block, float scale, float* numbers) noexcept {
  uint32_t wrong = 0;
  for (int i = 0; i < kBlock; ++i) {
    const float value = block.values[i];
    const float n = value / scale + kShift - kShift;
    numbers[i] = n;
    wrong |= n > 7.0f ? 1u : 0u;  // the other sign of a largest value that is -8
    wrong |= std::fabs(n * scale - value) > std::fabs(value) * 0x1p-6f ? 1u : 0u;
  }
  return wrong == 0;
}

// bf16(scale * n) == value for all.
bool gives_block(const Block& block, float scale, const float* numbers) noexcept {
  uint32_t wrong = 0;
  for (int i = 0; i < kBlock; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(numbers[i] * scale);
    const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
    wrong |= std::bit_cast<float>(rounded) != block.values[i] ? 1u : 0u;
  }
  return wrong == 0;
}

void store_codes(const float* numbers, uint8_t* codes) noexcept {
  for (int i = 0; i < kBlock; ++i) codes[i] = static_cast<uint8_t>(numbers[i] + 8.0f);
}

bool store_zeros(uint8_t* codes, uint16_t* scale) noexcept {
  std::fill_n(codes, kBlock, uint8_t{8});
  *scale = 0;
  return true;
}

// The magnitudes of scale that give value = bf16(scale * n): those between the two points halfway
// to the neighbours of the value, divided by n. Ends count as inside.
struct Range {
  double low, high;
};

Range scales_of(uint16_t value, float number) {
  const auto magnitude = static_cast<uint16_t>(value & 0x7fff);
  const double middle = bf16_to_float(magnitude), n = std::fabs(number);
  const double below = bf16_to_float(static_cast<uint16_t>(magnitude - 1));
  const double above = bf16_to_float(static_cast<uint16_t>(magnitude + 1));
  return {(middle + below) / 2 / n, (middle + above) / 2 / n};
}

}  // namespace

bool recover_block(const uint16_t* values, uint8_t* codes, uint16_t* scale) noexcept {
  Block block;
  float numbers[kBlock];
  if (!widen(values, block)) return false;
  if (block.largest == 0.0f) return store_zeros(codes, scale);
  for (int k = 8; k >= 1; --k) {
    const float about = scale_for(block, k);
    if (!numbers_near(block, about, numbers)) continue;
    // The half step to which largest is known is at most one step of the scale.
    for (const int step : {0, -1, 1}) {
      const auto bits = static_cast<uint16_t>(nearest_bf16(about) + step);
      if (!gives_block(block, bf16_to_float(bits), numbers)) continue;
      store_codes(numbers, codes);
      *scale = bits;
      return true;
    }
  }
  return false;
}

bool recover_codes(const uint16_t* values, uint8_t* codes, uint16_t* scale) noexcept {
  Block block;
  float numbers[kBlock];
  if (!widen(values, block)) return false;
  if (block.largest == 0.0f) return store_zeros(codes, scale);
  for (int k = 8; k >= 1; --k) {
    const float about = scale_for(block, k);
    if (!numbers_near(block, about, numbers)) continue;
    Range all{0.0, HUGE_VAL};
    for (int i = 0; i < kBlock; ++i) {
      if (numbers[i] == 0.0f) continue;
      const Range one = scales_of(values[i], numbers[i]);
      all = {std::max(all.low, one.low), std::min(all.high, one.high)};
    }
    if (all.low > all.high || all.high == HUGE_VAL) continue;
    store_codes(numbers, codes);
    const double middle = (all.low + all.high) / 2;
    *scale = nearest_bf16(std::copysign(static_cast<float>(middle), about));
    return true;
  }
  return false;
}

void unpack_w4a16(const int32_t* words, int64_t rows, int64_t cols, uint8_t* codes) noexcept {
  for (int64_t i = 0; i < rows * cols / 8; ++i) {
    const uint32_t word = static_cast<uint32_t>(words[i]);
    for (int nibble = 0; nibble < 8; ++nibble) {
      codes[8 * i + nibble] = static_cast<uint8_t>(word >> 4 * nibble & 15u);
    }
  }
}

}  // namespace cabochon
