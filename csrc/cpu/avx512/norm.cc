// Root-mean-square norm of one row, AVX-512.
//
// Math      rms_norm and rms_norm_add in cpu/kernels.h; cpu/scalar/norm.cc defines them.
// Method    the sum of squares is the row's dot with itself.
// Numerics  same bits as scalar; square root and divisions are IEEE.
#include "cpu/avx512/matmul.h"

namespace cabochon::cpu::avx512_tier {
namespace {

float inverse_rms(const float* x, size_t n, float epsilon) {
  float sum;
  tile<1, 1, float>(&sum, 1, x, x, n, nullptr);
  const __m128 square = _mm_set_ss(sum / static_cast<float>(n) + epsilon);
  return 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(square));
}

// (x * s) * weight, or x * s without a weight.
__m512 normed(const float* x, const float* weight, float s, __mmask16 lanes) {
  const __m512 scaled = _mm512_mul_ps(load(x, lanes), _mm512_set1_ps(s));
  return weight ? _mm512_mul_ps(scaled, load(weight, lanes)) : scaled;
}

void rms_norm(float* out, const float* x, const float* weight, size_t n, float epsilon) noexcept {
  const float s = inverse_rms(x, n, epsilon);
  for_each_block(n, [=](size_t i, __mmask16 lanes) {
    store(out + i, normed(x + i, weight ? weight + i : nullptr, s, lanes), lanes);
  });
}

void rms_norm_add(float* out, const float* x, const float* weight, size_t n,
                  float epsilon) noexcept {
  const float s = inverse_rms(x, n, epsilon);
  for_each_block(n, [=](size_t i, __mmask16 lanes) {
    const __m512 y = normed(x + i, weight ? weight + i : nullptr, s, lanes);
    store(out + i, _mm512_add_ps(load(out + i, lanes), y), lanes);
  });
}

}  // namespace

void install_norm(Kernels& kernels) noexcept {
  kernels.rms_norm = rms_norm;
  kernels.rms_norm_add = rms_norm_add;
}

}  // namespace cabochon::cpu::avx512_tier
