#include "weights/lattice.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/bf16.h"
#include "weights/pack.h"
#include "weights/quantize.h"

namespace cabochon {
namespace {

constexpr int kBlock = 32;
constexpr int kMost = 8;  // magnitudes of a block, zero aside: |n| is 1 to 8
constexpr uint16_t kMagnitude = 0x7fff, kInfinity = 0x7f80;

// Where one unit in the last place is 1: an addition rounds to the nearest integer.
constexpr float kShift = 0x1.8p23f;

// What decides about the lattice of a block: rounding is the same for both signs, so only different
// magnitudes count, and those are few.
struct Block {
  const uint16_t* values;
  int count;                   // of magnitudes; 0: all values are zero
  uint16_t magnitudes[kMost];  // descending
  float widened[kMost];        // the same, filled up with the largest
  bool has_plus, has_minus;    // of the largest
};

// False for a block with too many magnitudes, or one that is not finite: no lattice.
bool find_magnitudes(const uint16_t* values, Block& block) noexcept {
  // Numbers that were never on a lattice have about 30 magnitudes. They are told from 8 and zero by
  // the bits of a hash, of which there can be fewer and never more: most of them by half of a
  // block.
  uint64_t seen = 0;
  int16_t left[kBlock];
  for (int half = 0; half < kBlock; half += kBlock / 2) {
    for (int i = half; i < half + kBlock / 2; ++i) {
      const auto magnitude = static_cast<uint16_t>(values[i] & kMagnitude);
      seen |= uint64_t{1} << (static_cast<uint16_t>(magnitude * 0x9e37u) >> 10);
      left[i] = static_cast<int16_t>(magnitude);
    }
    if (std::popcount(seen) > kMost + 1) return false;
  }

  block.values = values;
  block.count = 0;
  while (true) {
    int16_t largest = 0;
    for (int i = 0; i < kBlock; ++i) largest = std::max(largest, left[i]);
    if (largest == 0) break;
    if (block.count == kMost || largest >= kInfinity) return false;
    block.magnitudes[block.count++] = static_cast<uint16_t>(largest);
    for (int i = 0; i < kBlock; ++i) left[i] = left[i] == largest ? int16_t{0} : left[i];
  }
  for (int i = 0; i < kMost; ++i) {
    block.widened[i] = bf16_to_float(block.magnitudes[i < block.count ? i : 0]);
  }
  const uint16_t plus = block.magnitudes[0];
  const auto minus = static_cast<uint16_t>(plus | ~kMagnitude);
  uint32_t has_plus = 0, has_minus = 0;
  for (int i = 0; i < kBlock; ++i) {
    has_plus |= values[i] == plus ? 1u : 0u;
    has_minus |= values[i] == minus ? 1u : 0u;
  }
  block.has_plus = has_plus != 0;
  block.has_minus = has_minus != 0;
  return true;
}

// Rounding keeps the order of magnitudes, so the largest value has the largest |n|, called k here:
// about largest / k is the scale.
float scale_for(const Block& block, int k) { return block.widened[0] / static_cast<float>(k); }

// n = the integers nearest to magnitude / scale. False where one is too far for every scale with
// the same k: rounding moved value and largest by 1/256 of themselves at most, together by 1/128;
// twice that is allowed, since what passes is looked at exactly. There is a number -8 and no 8, so
// with k = 8 the largest values must have one sign.
bool numbers_near(const Block& block, int k, float scale, float* numbers) noexcept {
  if (k == 8 && block.has_plus && block.has_minus) return false;
  uint32_t wrong = 0;
  for (int i = 0; i < kMost; ++i) {
    const float magnitude = block.widened[i];
    const float n = magnitude / scale + kShift - kShift;
    numbers[i] = n;
    wrong |= std::fabs(n * scale - magnitude) > magnitude * 0x1p-6f ? 1u : 0u;
  }
  return wrong == 0;
}

// bf16(scale * n) == magnitude for all.
bool gives_block(const Block& block, float scale, const float* numbers) noexcept {
  uint32_t wrong = 0;
  for (int i = 0; i < kMost; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(numbers[i] * scale);
    const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
    wrong |= std::bit_cast<float>(rounded) != block.widened[i] ? 1u : 0u;
  }
  return wrong == 0;
}

// Codes of a block whose numbers are known: those nearest to value / about. k = 8 alone settles the
// sign of the scale, being the number -8; otherwise one below 0 says nothing that one above does
// not.
void store(const Block& block, int k, float about, uint16_t magnitude, uint8_t* codes,
           uint16_t* scale) noexcept {
  const bool is_negative = k == 8 && block.has_plus;
  const float divisor = is_negative ? -about : about;
  for (int i = 0; i < kBlock; ++i) {
    const float n = bf16_to_float(block.values[i]) / divisor + kShift - kShift;
    codes[i] = static_cast<uint8_t>(n + 8.0f);
  }
  *scale = static_cast<uint16_t>(is_negative ? magnitude | ~kMagnitude : magnitude);
}

void store_zeros(uint8_t* codes, uint16_t* scale) noexcept {
  std::fill_n(codes, kBlock, uint8_t{8});
  *scale = 0;
}

// The scales that give magnitude = bf16(scale * n): those between the two points halfway to its
// neighbours, divided by n. Ends count as inside.
struct Range {
  double low, high;
};

Range scales_of(uint16_t magnitude, float number) {
  const double middle = bf16_to_float(magnitude), n = number;
  const double below = bf16_to_float(static_cast<uint16_t>(magnitude - 1));
  const double above = bf16_to_float(static_cast<uint16_t>(magnitude + 1));
  return {(middle + below) / 2 / n, (middle + above) / 2 / n};
}

bool find_scale(const Block& block, uint8_t* codes, uint16_t* scale) noexcept {
  float numbers[kMost];
  for (int k = 8; k >= 1; --k) {
    const float about = scale_for(block, k);
    if (!numbers_near(block, k, about, numbers)) continue;
    // The half step to which largest is known is at most one step of the scale.
    for (const int step : {0, -1, 1}) {
      const auto bits = static_cast<uint16_t>(nearest_bf16(about) + step);
      if (!gives_block(block, bf16_to_float(bits), numbers)) continue;
      store(block, k, about, bits, codes, scale);
      return true;
    }
  }
  return false;
}

bool find_codes(const Block& block, uint8_t* codes, uint16_t* scale) noexcept {
  float numbers[kMost];
  for (int k = 8; k >= 1; --k) {
    const float about = scale_for(block, k);
    if (!numbers_near(block, k, about, numbers)) continue;
    Range all{0.0, HUGE_VAL};
    for (int i = 0; i < block.count; ++i) {
      const Range one = scales_of(block.magnitudes[i], numbers[i]);
      all = {std::max(all.low, one.low), std::min(all.high, one.high)};
    }
    if (all.low > all.high || all.high == HUGE_VAL) continue;
    const auto middle = static_cast<float>((all.low + all.high) / 2);
    store(block, k, about, nearest_bf16(middle), codes, scale);
    return true;
  }
  return false;
}

template <auto kFind>
bool recover(const uint16_t* values, uint8_t* codes, uint16_t* scale) noexcept {
  Block block;
  if (!find_magnitudes(values, block)) return false;
  if (block.count > 0) return kFind(block, codes, scale);
  store_zeros(codes, scale);
  return true;
}

}  // namespace

bool recover_block(const uint16_t* values, uint8_t* codes, uint16_t* scale) noexcept {
  return recover<find_scale>(values, codes, scale);
}

bool recover_codes(const uint16_t* values, uint8_t* codes, uint16_t* scale) noexcept {
  return recover<find_codes>(values, codes, scale);
}

RecoveredBlocks recover_panel(const uint16_t* values, int64_t rows, int64_t cols,
                              std::byte* panel) noexcept {
  RecoveredBlocks out;
  uint8_t codes[kBlock];
  uint16_t scale;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; col += kBlock) {
      Block block;
      const bool is_near = find_magnitudes(values + row * cols + col, block);
      if (is_near && block.count == 0) {
        store_zeros(codes, &scale);
        ++out.exact;
      } else if (is_near && find_scale(block, codes, &scale)) {
        ++out.exact;
      } else if (is_near && find_codes(block, codes, &scale)) {
        ++out.nearest_scale;
      } else {
        if (out.first_off < 0) out.first_off = row * cols + col;
        ++out.off;
        continue;
      }
      pack_block(kInt4Format, codes, scale, row, col, cols, panel);
    }
  }
  pad_panel(kInt4Format, rows, cols, panel);
  return out;
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
