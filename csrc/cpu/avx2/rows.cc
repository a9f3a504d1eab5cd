// Element by element: scale, add, bf16 to float32 and back, AVX2.
//
// Math      scale, add, add_scaled, add_scaled_then_scale, widen_bf16 and narrow_bf16 in
//           cpu/kernels.h; cpu/scalar/rows.cc defines them.
// Numerics  same bits as scalar.
#include "cpu/avx2/avx2.h"

namespace cabochon::cpu::avx2_tier {
namespace {

void scale(float* out, const float* x, float factor, size_t n) noexcept {
  for_each_vector(n, [=](size_t i, size_t count) {
    store(out + i, _mm256_mul_ps(load(x + i, count), _mm256_set1_ps(factor)), count);
  });
}

void add(float* out, const float* x, size_t n) noexcept {
  for_each_vector(n, [=](size_t i, size_t count) {
    store(out + i, _mm256_add_ps(load(out + i, count), load(x + i, count)), count);
  });
}

void add_scaled(float* out, const float* x, float factor, size_t n) noexcept {
  for_each_vector(n, [=](size_t i, size_t count) {
    const __m256 y = load(out + i, count);
    store(out + i, _mm256_fmadd_ps(_mm256_set1_ps(factor), load(x + i, count), y), count);
  });
}

void add_scaled_then_scale(float* out, const float* x, float x_factor, float factor,
                           size_t n) noexcept {
  for_each_vector(n, [=](size_t i, size_t count) {
    const __m256 y = _mm256_add_ps(load(out + i, count),
                                   _mm256_mul_ps(load(x + i, count), _mm256_set1_ps(x_factor)));
    store(out + i, _mm256_mul_ps(y, _mm256_set1_ps(factor)), count);
  });
}

void widen_bf16(float* out, const uint16_t* x, size_t n) noexcept {
  for_each_vector(n, [=](size_t i, size_t count) { store(out + i, load(x + i, count), count); });
}

void narrow_bf16(uint16_t* out, const float* x, size_t n) noexcept {
  for_each_vector(n, [=](size_t i, size_t count) {
    const __m256 y = load(x + i, count);
    const __m256i bits = _mm256_castps_si256(y);
    const __m256i upper = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
    const __m256i nan = _mm256_or_si256(_mm256_and_si256(upper, _mm256_set1_epi32(0x8000)),
                                        _mm256_set1_epi32(0x7fc0));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(y, y, _CMP_UNORD_Q));
    const __m256i result = _mm256_blendv_epi8(rounded, nan, is_nan);
    const __m128i packed =
        _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1));
    if (count == kWidth) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), packed);
    } else {
      uint16_t whole[kWidth];
      _mm_storeu_si128(reinterpret_cast<__m128i*>(whole), packed);
      for (size_t j = 0; j < count; ++j) out[i + j] = whole[j];
    }
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

}  // namespace cabochon::cpu::avx2_tier
