// Element by element: scale, add, bf16 to float32 and back, AVX-512.
//
// Math      scale, add, add_scaled, add_scaled_then_scale, widen_bf16 and narrow_bf16 in
//           cpu/kernels.h; cpu/scalar/rows.cc defines them.
// Numerics  same bits as scalar. Not vcvtneps2bf16: it takes denormals for zero.
#include "cpu/avx512/avx512.h"

namespace cabochon::cpu::avx512_tier {
namespace {

void scale(float* out, const float* x, float factor, size_t n) noexcept {
  for_each_block(n, [=](size_t i, __mmask16 lanes) {
    store(out + i, _mm512_mul_ps(load(x + i, lanes), _mm512_set1_ps(factor)), lanes);
  });
}

void add(float* out, const float* x, size_t n) noexcept {
  for_each_block(n, [=](size_t i, __mmask16 lanes) {
    store(out + i, _mm512_add_ps(load(out + i, lanes), load(x + i, lanes)), lanes);
  });
}

void add_scaled(float* out, const float* x, float factor, size_t n) noexcept {
  for_each_block(n, [=](size_t i, __mmask16 lanes) {
    const __m512 y = load(out + i, lanes);
    store(out + i, _mm512_fmadd_ps(_mm512_set1_ps(factor), load(x + i, lanes), y), lanes);
  });
}

void add_scaled_then_scale(float* out, const float* x, float x_factor, float factor,
                           size_t n) noexcept {
  for_each_block(n, [=](size_t i, __mmask16 lanes) {
    const __m512 y = _mm512_add_ps(load(out + i, lanes),
                                   _mm512_mul_ps(load(x + i, lanes), _mm512_set1_ps(x_factor)));
    store(out + i, _mm512_mul_ps(y, _mm512_set1_ps(factor)), lanes);
  });
}

void widen_bf16(float* out, const uint16_t* x, size_t n) noexcept {
  for_each_block(n, [=](size_t i, __mmask16 lanes) { store(out + i, load(x + i, lanes), lanes); });
}

void narrow_bf16(uint16_t* out, const float* x, size_t n) noexcept {
  for_each_block(n, [=](size_t i, __mmask16 lanes) {
    const __m512 y = load(x + i, lanes);
    const __m512i bits = _mm512_castps_si512(y);
    const __m512i upper = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);
    const __m512i nan = _mm512_or_si512(_mm512_and_si512(upper, _mm512_set1_epi32(0x8000)),
                                        _mm512_set1_epi32(0x7fc0));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(y, y, _CMP_UNORD_Q);
    const __m512i result = _mm512_mask_mov_epi32(rounded, is_nan, nan);
    _mm256_mask_storeu_epi16(out + i, lanes, _mm512_cvtepi32_epi16(result));
  });
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

}  // namespace cabochon::cpu::avx512_tier
