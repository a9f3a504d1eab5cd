// Root-mean-square norm of one row, the definition.
//
// Math      rms_norm and rms_norm_add in cpu/kernels.h.
// Numerics  the sum of squares in 16 lanes; square root and divisions are IEEE.
#include "cpu/scalar/scalar.h"

namespace cabochon::cpu::scalar_tier {
namespace {

float inverse_rms(const float* x, size_t n, float epsilon) noexcept {
  return 1.0f / std::sqrt(dot(x, x, n) / static_cast<float>(n) + epsilon);
}

void rms_norm(float* out, const float* x, const float* weight, size_t n, float epsilon) noexcept {
  const float s = inverse_rms(x, n, epsilon);
  for (size_t i = 0; i < n; ++i) out[i] = weight ? (x[i] * s) * weight[i] : x[i] * s;
}

void rms_norm_add(float* out, const float* x, const float* weight, size_t n,
                  float epsilon) noexcept {
  const float s = inverse_rms(x, n, epsilon);
  for (size_t i = 0; i < n; ++i) out[i] += weight ? (x[i] * s) * weight[i] : x[i] * s;
}

}  // namespace

void install_norm(Kernels& kernels) noexcept {
  kernels.rms_norm = rms_norm;
  kernels.rms_norm_add = rms_norm_add;
}

}  // namespace cabochon::cpu::scalar_tier
