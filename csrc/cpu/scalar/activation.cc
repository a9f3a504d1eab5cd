// exp, tanh and gelu, and the kernels made of them; the definition of every step.
//
// Math      exp_sum, softcap, gelu_multiply in cpu/kernels.h.
// Method    exp: x = n ln 2 + r with n the nearest integer, so |r| <= 0.35; 2^n by exponent bits
//           times 1 + r + r^2 p(r), p minimax of degree 4 (2.5e-8 of the result). tanh: below 0.625
//           x + x^3 p(x^2), p minimax of degree 4 (4.4e-9), else 1 - 2 / (exp(2 |x|) + 1).
// Numerics  exp within 1.0e-7 of the result, exp(0) = 1 exactly, +0 below -87, exp(88) above 88;
//           tanh within 8e-8, odd to the last bit, never past 1; gelu within 1.2e-7 |x|.
//           Comparisons are ordered so that a NaN gets through.
#include "cpu/scalar/scalar.h"

namespace cabochon::cpu::scalar_tier {

float exp_f32(float x) noexcept {
  constexpr float kLowest = -87.0f;  // the next whole number gives a denormal
  constexpr float kHighest = 88.0f;
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds half to even to an integer
  float clamped = kHighest < x ? kHighest : x;
  clamped = kLowest > clamped ? kLowest : clamped;

  const float shifted = std::fma(clamped, 1.44269504f, kMagic);
  const float n = shifted - kMagic;
  // ln 2 in two parts; the first has 9 trailing zeros, so n times it is exact.
  float r = std::fma(n, -0.693145752f, clamped);
  r = std::fma(n, -1.42860677e-6f, r);

  float p = 1.33370247e-3f;
  p = std::fma(p, r, 8.35909508e-3f);
  p = std::fma(p, r, 4.16738018e-2f);
  p = std::fma(p, r, 1.66666016e-1f);
  p = std::fma(p, r, 4.99999821e-1f);
  p = std::fma(p, r * r, r) + 1.0f;

  // The low bits of `shifted` are n; bits above the exponent fall off.
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 23) + 0x3f800000u;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return x < kLowest ? 0.0f : p * power;
}

namespace {

float tanh_f32(float x) noexcept {
  const float magnitude = std::fabs(x);
  const float square = x * x;
  float p = -5.70422839e-3f;
  p = std::fma(p, square, 2.06384361e-2f);
  p = std::fma(p, square, -5.37395254e-2f);
  p = std::fma(p, square, 1.33314401e-1f);
  p = std::fma(p, square, -3.33332807e-1f);
  const float near = std::fma(p * square, magnitude, magnitude);
  const float far = 1.0f - 2.0f / (exp_f32(2.0f * magnitude) + 1.0f);
  return std::copysign(magnitude < 0.625f ? near : far, x);
}

float gelu(float x) noexcept {
  constexpr float kLinear = -1.59576912f;   // -2 sqrt(2 / pi)
  constexpr float kCubic = -0.0713548163f;  // kLinear * 0.044715
  constexpr float kHighest = 88.0f;
  const float v = x * std::fma(x * x, kCubic, kLinear);
  // Past the end of exp the quotient would stop falling; there gelu is below 1e-37.
  return v > kHighest ? -0.0f : x / (1.0f + exp_f32(v));
}

void gelu_multiply(float* out, const float* gate, const float* up, size_t n) noexcept {
  for (size_t i = 0; i < n; ++i) out[i] = gelu(gate[i]) * up[i];
}

void softcap(float* x, float cap, size_t n) noexcept {
  for (size_t i = 0; i < n; ++i) x[i] = cap * tanh_f32(x[i] / cap);
}

float exp_sum(float* out, const float* x, float max, size_t n) noexcept {
  float lanes[kLanes] = {};
  for (size_t i = 0; i < n; ++i) {
    const float term = exp_f32(x[i] - max);
    lanes[i % kLanes] += term;
    if (out) out[i] = term;
  }
  return add_lanes(lanes);
}

}  // namespace

void install_activation(Kernels& kernels) noexcept {
  kernels.gelu_multiply = gelu_multiply;
  kernels.softcap = softcap;
  kernels.exp_sum = exp_sum;
}

}  // namespace cabochon::cpu::scalar_tier
