// Element by element: scale, add, bf16 to float32 and back; the definition.
//
// Math      scale, add, add_scaled, add_scaled_then_scale, widen_bf16 and narrow_bf16 in
//           cpu/kernels.h.
// Numerics  one rounding an operation; only add_scaled uses fma. narrow_bf16 rounds half to even.
#include "cpu/scalar/scalar.h"

namespace cabochon::cpu::scalar_tier {
namespace {

void scale(float* out, const float* x, float factor, size_t n) noexcept {
  for (size_t i = 0; i < n; ++i) out[i] = x[i] * factor;
}

void add(float* out, const float* x, size_t n) noexcept {
  for (size_t i = 0; i < n; ++i) out[i] += x[i];
}

void add_scaled(float* out, const float* x, float factor, size_t n) noexcept {
  for (size_t i = 0; i < n; ++i) out[i] = std::fma(factor, x[i], out[i]);
}

void add_scaled_then_scale(float* out, const float* x, float x_factor, float factor,
                           size_t n) noexcept {
  for (size_t i = 0; i < n; ++i) out[i] = (out[i] + x[i] * x_factor) * factor;
}

void widen_bf16(float* out, const uint16_t* x, size_t n) noexcept {
  for (size_t i = 0; i < n; ++i) out[i] = widen(x[i]);
}

uint16_t narrow(float x) noexcept {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if (std::isnan(x)) return static_cast<uint16_t>((bits >> 16 & 0x8000u) | 0x7fc0u);
  // Carries past half, and at half only from an odd bf16; may carry into infinity, as it should.
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

void narrow_bf16(uint16_t* out, const float* x, size_t n) noexcept {
  for (size_t i = 0; i < n; ++i) out[i] = narrow(x[i]);
}

}  // namespace

void install_rows(Kernels& kernels) noexcept {
  kernels.scale = scale;
  kernels.add = add;
  kernels.add_scaled = add_scaled;
  kernels.add_scaled_then_scale = add_scaled_then_scale;
  kernels.widen_bf16 = widen_bf16;
  kernels.narrow_bf16 = narrow_bf16;
}

}  // namespace cabochon::cpu::scalar_tier
