// exp, tanh and gelu, 16 at a time, and the kernels made of them, AVX-512.
//
// Math      exp_sum, softcap, gelu_multiply in cpu/kernels.h; cpu/scalar/activation.cc defines them
//           and says why its steps are good.
// Numerics  same bits as scalar: the same steps, constants and order of comparisons.
#include "cpu/avx512/avx512.h"

namespace cabochon::cpu::avx512_tier {
namespace {

__m512 tanh_lanes(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512 sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0f));
  const __m512 magnitude = _mm512_abs_ps(x);
  const __m512 square = _mm512_mul_ps(x, x);
  __m512 p = _mm512_set1_ps(-5.70422839e-3f);
  p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(2.06384361e-2f));
  p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(-5.37395254e-2f));
  p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(1.33314401e-1f));
  p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(-3.33332807e-1f));
  const __m512 near = _mm512_fmadd_ps(_mm512_mul_ps(p, square), magnitude, magnitude);

  const __m512 grown = exp_lanes(_mm512_mul_ps(_mm512_set1_ps(2.0f), magnitude));
  const __m512 far =
      _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2.0f), _mm512_add_ps(grown, one)));
  const __mmask16 is_near = _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(0.625f), _CMP_LT_OQ);
  return _mm512_or_ps(_mm512_mask_mov_ps(far, is_near, near), sign);
}

__m512 gelu_lanes(__m512 x) {
  const __m512 cubic = _mm512_set1_ps(-0.0713548163f);
  const __m512 linear = _mm512_set1_ps(-1.59576912f);
  const __m512 v = _mm512_mul_ps(x, _mm512_fmadd_ps(_mm512_mul_ps(x, x), cubic, linear));
  const __m512 y = _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), exp_lanes(v)));
  const __mmask16 vanished = _mm512_cmp_ps_mask(v, _mm512_set1_ps(88.0f), _CMP_GT_OQ);
  return _mm512_mask_mov_ps(y, vanished, _mm512_set1_ps(-0.0f));
}

void gelu_multiply(float* out, const float* gate, const float* up, size_t n) noexcept {
  for_each_block(n, [=](size_t i, __mmask16 lanes) {
    store(out + i, _mm512_mul_ps(gelu_lanes(load(gate + i, lanes)), load(up + i, lanes)), lanes);
  });
}

void softcap(float* x, float cap, size_t n) noexcept {
  const __m512 caps = _mm512_set1_ps(cap);
  for_each_block(n, [=](size_t i, __mmask16 lanes) {
    store(x + i, _mm512_mul_ps(caps, tanh_lanes(_mm512_div_ps(load(x + i, lanes), caps))), lanes);
  });
}

float exp_sum(float* out, const float* x, float max, size_t n) noexcept {
  __m512 sums = _mm512_setzero_ps();
  for_each_block(n, [=, &sums](size_t i, __mmask16 lanes) {
    const __m512 terms = _mm512_maskz_mov_ps(
        lanes, exp_lanes(_mm512_sub_ps(load(x + i, lanes), _mm512_set1_ps(max))));
    sums = _mm512_add_ps(sums, terms);
    if (out) store(out + i, terms, lanes);
  });
  return add_lanes(sums);
}

}  // namespace

void install_activation(Kernels& kernels) noexcept {
  kernels.gelu_multiply = gelu_multiply;
  kernels.softcap = softcap;
  kernels.exp_sum = exp_sum;
}

}  // namespace cabochon::cpu::avx512_tier
