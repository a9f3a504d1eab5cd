// int4 scales and codes of 32 rows of 32 weights, the definition.
//
// Math      search_int4 in cpu/kernels.h.
// Layout    weights column after column, so that a tier takes a row a lane; codes and scales as one
//           int4 unit.
// Numerics  every row by itself, its sums in order of columns. Adding and taking away 1.5 * 2^23
//           rounds half to even, since a quotient is at most 16 in magnitude.
#include "cpu/scalar/scalar.h"

namespace cabochon::cpu::scalar_tier {
namespace {

constexpr size_t kColumns = kInt4Block;

float round_to_bf16(float x) noexcept {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
  std::memcpy(&x, &bits, sizeof bits);
  return x;
}

float number_of(float weight, float inverse) noexcept {
  constexpr float kMagic = 0x1.8p23f;
  float number = (weight * inverse + kMagic) - kMagic;
  number = number < 7.0f ? number : 7.0f;
  return number > -8.0f ? number : -8.0f;
}

// One row of the unit; its weights are kPanelRows apart.
struct Row {
  const float* weights;
  const float* importance;

  float weight(size_t column) const noexcept { return weights[column * kPanelRows]; }

  float absmax() const noexcept {
    float largest = kSmallestAbsmax;
    for (size_t c = 0; c < kColumns; ++c) {
      const float magnitude = std::fabs(weight(c));
      largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
  }

  float error(float scale) const noexcept {
    const float inverse = 1.0f / scale;
    float sum = 0.0f;
    for (size_t c = 0; c < kColumns; ++c) {
      const float e = std::fma(-number_of(weight(c), inverse), scale, weight(c));
      sum = std::fma(importance[c] * e, e, sum);
    }
    return sum;
  }

  // The scale that suits the numbers of `scale` best.
  float refit(float scale) const noexcept {
    const float inverse = 1.0f / scale;
    float a = 0.0f, b = 0.0f;
    for (size_t c = 0; c < kColumns; ++c) {
      const float number = number_of(weight(c), inverse);
      const float q = importance[c] * number;
      a = std::fma(q, weight(c), a);
      b = std::fma(q, number, b);
    }
    return round_to_bf16(a / b);
  }
};

float best_scale(const Row& row) noexcept {
  const float absmax = row.absmax();
  float best = round_to_bf16(absmax / 7.5f);
  float least = row.error(best);
  const auto consider = [&](float scale) noexcept {
    const float error = row.error(scale);
    if (error < least) {
      least = error;
      best = scale;
    }
  };
  for (const float factor : kInt4Factors) consider(round_to_bf16(absmax * factor));
  consider(row.refit(best));
  return best;
}

void search_int4(uint8_t* unit, const float* columns, const float* importance) noexcept {
  std::memset(unit, 0, kInt4UnitBytes);
  for (size_t r = 0; r < kPanelRows; ++r) {
    const Row row{columns + r, importance};
    const float scale = best_scale(row);
    const float inverse = 1.0f / scale;
    for (size_t c = 0; c < kColumns; ++c) {
      const auto code = static_cast<uint8_t>(number_of(row.weight(c), inverse) + 8.0f);
      const size_t g = c / 8, is_high = c / 4 % 2, j = c % 4;
      unit[128 * g + 4 * r + j] |= static_cast<uint8_t>(code << 4 * is_high);
    }
    uint32_t bits;
    std::memcpy(&bits, &scale, sizeof bits);
    const auto bf16 = static_cast<uint16_t>(bits >> 16);
    std::memcpy(unit + kInt4UnitBytes - 2 * kPanelRows + 2 * r, &bf16, sizeof bf16);
  }
}

}  // namespace

void install_search_int4(Kernels& kernels) noexcept { kernels.search_int4 = search_int4; }

}  // namespace cabochon::cpu::scalar_tier
