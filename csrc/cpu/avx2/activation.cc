// exp, tanh and gelu, 8 at a time, and the kernels made of them, AVX2.
//
// Math      exp_sum, softcap, gelu_multiply in cpu/kernels.h; cpu/scalar/activation.cc defines them
//           and says why its steps are good.
// Numerics  same bits as scalar: the same steps, constants and order of comparisons.
#include "cpu/avx2/avx2.h"

namespace cabochon::cpu::avx2_tier {
namespace {

__m256 tanh_lanes(__m256 x) {
  const __m256 one = _mm256_set1_ps(1.0f);
  const __m256 sign_bit = _mm256_set1_ps(-0.0f);
  const __m256 sign = _mm256_and_ps(x, sign_bit);
  const __m256 magnitude = _mm256_andnot_ps(sign_bit, x);
  const __m256 square = _mm256_mul_ps(x, x);
  __m256 p = _mm256_set1_ps(-5.70422839e-3f);
  p = _mm256_fmadd_ps(p, square, _mm256_set1_ps(2.06384361e-2f));
  p = _mm256_fmadd_ps(p, square, _mm256_set1_ps(-5.37395254e-2f));
  p = _mm256_fmadd_ps(p, square, _mm256_set1_ps(1.33314401e-1f));
  p = _mm256_fmadd_ps(p, square, _mm256_set1_ps(-3.33332807e-1f));
  const __m256 near = _mm256_fmadd_ps(_mm256_mul_ps(p, square), magnitude, magnitude);

  const __m256 grown = exp_lanes(_mm256_mul_ps(_mm256_set1_ps(2.0f), magnitude));
  const __m256 far =
      _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0f), _mm256_add_ps(grown, one)));
  const __m256 is_near = _mm256_cmp_ps(magnitude, _mm256_set1_ps(0.625f), _CMP_LT_OQ);
  return _mm256_or_ps(_mm256_blendv_ps(far, near, is_near), sign);
}

__m256 gelu_lanes(__m256 x) {
  const __m256 cubic = _mm256_set1_ps(-0.0713548163f);
  const __m256 linear = _mm256_set1_ps(-1.59576912f);
  const __m256 v = _mm256_mul_ps(x, _mm256_fmadd_ps(_mm256_mul_ps(x, x), cubic, linear));
  const __m256 y = _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), exp_lanes(v)));
  const __m256 vanished = _mm256_cmp_ps(v, _mm256_set1_ps(88.0f), _CMP_GT_OQ);
  return _mm256_blendv_ps(y, _mm256_set1_ps(-0.0f), vanished);
}

void gelu_multiply(float* out, const float* gate, const float* up, size_t n) noexcept {
  for_each_vector(n, [=](size_t i, size_t count) {
    store(out + i, _mm256_mul_ps(gelu_lanes(load(gate + i, count)), load(up + i, count)), count);
  });
}

void softcap(float* x, float cap, size_t n) noexcept {
  const __m256 caps = _mm256_set1_ps(cap);
  for_each_vector(n, [=](size_t i, size_t count) {
    store(x + i, _mm256_mul_ps(caps, tanh_lanes(_mm256_div_ps(load(x + i, count), caps))), count);
  });
}

float exp_sum(float* out, const float* x, float max, size_t n) noexcept {
  __m256 low = _mm256_setzero_ps();
  __m256 high = _mm256_setzero_ps();
  for_each_vector(n, [=, &low, &high](size_t i, size_t count) {
    const __m256 exps = exp_lanes(_mm256_sub_ps(load(x + i, count), _mm256_set1_ps(max)));
    const __m256 terms = _mm256_and_ps(exps, _mm256_castsi256_ps(first_lanes(count)));
    __m256& lanes = i % kLanes == 0 ? low : high;
    lanes = _mm256_add_ps(lanes, terms);
    if (out) store(out + i, terms, count);
  });
  return add_lanes(low, high);
}

}  // namespace

void install_activation(Kernels& kernels) noexcept {
  kernels.gelu_multiply = gelu_multiply;
  kernels.softcap = softcap;
  kernels.exp_sum = exp_sum;
}

}  // namespace cabochon::cpu::avx2_tier
