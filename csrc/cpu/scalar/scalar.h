// What the files of this folder share: the dot of 16 lanes in its plainest form, and who
// fills which entries. Not for other folders.
#pragma once

#include <cmath>
#include <cstring>

#include "cpu/kernels.h"

namespace cabochon::cpu::scalar_tier {

void install_matmul_bf16(Kernels& kernels) noexcept;
void install_matmul_f32(Kernels& kernels) noexcept;
void install_attention(Kernels& kernels) noexcept;
void install_norm(Kernels& kernels) noexcept;
void install_rope(Kernels& kernels) noexcept;
void install_activation(Kernels& kernels) noexcept;
void install_rows(Kernels& kernels) noexcept;
void install_quantize(Kernels& kernels) noexcept;
void install_search_int4(Kernels& kernels) noexcept;
void install_matmul_int4(Kernels& kernels) noexcept;
void install_matmul_int8(Kernels& kernels) noexcept;

// The exponential of every kernel; steps and bounds in activation.cc.
float exp_f32(float x) noexcept;

namespace {

inline float widen(float x) noexcept { return x; }

inline float widen(uint16_t bf16) noexcept {
  const uint32_t bits = uint32_t{bf16} << 16;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline float add_lanes(float (&lanes)[kLanes]) noexcept {
  for (size_t width = kLanes / 2; width > 0; width /= 2) {
    for (size_t j = 0; j < width; ++j) lanes[j] += lanes[j + width];
  }
  return lanes[0];
}

// The padding is computed, not skipped: fma(0, 0, -0) is +0.
template <class Right>
float dot(const float* left, const Right* right, size_t n) noexcept {
  float lanes[kLanes] = {};
  for (size_t block = 0; block < n; block += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      const size_t i = block + j;
      lanes[j] =
          i < n ? std::fma(left[i], widen(right[i]), lanes[j]) : std::fma(0.0f, 0.0f, lanes[j]);
    }
  }
  return add_lanes(lanes);
}

}  // namespace
}  // namespace cabochon::cpu::scalar_tier
