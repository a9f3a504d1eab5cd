// What the files of this folder share. Everything but the functions declared first has internal
// linkage: nothing compiled here may be picked by the linker for the rest of the program.
#pragma once

// g++ 12 takes the deliberately undefined registers of its own header for a mistake.
#pragma GCC diagnostic push
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#include "cpu/kernels.h"

namespace cabochon::cpu::avx512_tier {

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

namespace {

constexpr __mmask16 kAllLanes = 0xffff;

// Lanes i < count.
inline __mmask16 first_lanes(size_t count) {
  return count < kLanes ? static_cast<__mmask16>((1u << count) - 1) : kAllLanes;
}

inline __m512 widen(__m256i bf16) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16));
}

inline __m512 load(const float* x) { return _mm512_loadu_ps(x); }
inline __m512 load(const uint16_t* x) {
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

// Lanes that are left out are +0; their memory is not touched.
inline __m512 load(const float* x, __mmask16 lanes) { return _mm512_maskz_loadu_ps(lanes, x); }
inline __m512 load(const uint16_t* x, __mmask16 lanes) {
  return widen(_mm256_maskz_loadu_epi16(lanes, x));
}

inline void store(float* out, __m512 x, __mmask16 lanes) { _mm512_mask_storeu_ps(out, lanes, x); }

// Calls body(first index, its lanes) for every 16 elements of n, in order.
template <class Body>
inline void for_each_block(size_t n, Body body) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kAllLanes);
  if (i < n) body(i, first_lanes(n - i));
}

// j and j + 8, then j and j + 4, j + 2, j + 1.
inline float add_lanes(__m512 lanes) {
  const __m256 eight =
      _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// The same for four sums at once.
inline __m128 add_lanes(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab =
      _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  const __m512 cd =
      _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
  const __m512 four =
      _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  const __m512 two = _mm512_add_ps(four, _mm512_permute_ps(four, 0x4e));
  const __m512 one = _mm512_add_ps(two, _mm512_permute_ps(two, 0xb1));
  const __m512i firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  return _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, one));
}

// Steps, constants and bounds: exp_f32 in cpu/scalar/activation.cc.
inline __m512 exp_lanes(__m512 x) {
  const __m512 lowest = _mm512_set1_ps(-87.0f);
  const __m512 magic = _mm512_set1_ps(12582912.0f);
  // min and max give their second operand where one is NaN.
  const __m512 clamped = _mm512_max_ps(lowest, _mm512_min_ps(_mm512_set1_ps(88.0f), x));

  const __m512 shifted = _mm512_fmadd_ps(clamped, _mm512_set1_ps(1.44269504f), magic);
  const __m512 n = _mm512_sub_ps(shifted, magic);
  __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-0.693145752f), clamped);
  r = _mm512_fmadd_ps(n, _mm512_set1_ps(-1.42860677e-6f), r);

  __m512 p = _mm512_set1_ps(1.33370247e-3f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.35909508e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.16738018e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.66666016e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.99999821e-1f));
  p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));

  const __m512i power = _mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(shifted), 23),
                                         _mm512_set1_epi32(0x3f800000));
  return _mm512_maskz_mul_ps(_mm512_cmp_ps_mask(x, lowest, _CMP_NLT_UQ), p,
                             _mm512_castsi512_ps(power));
}

}  // namespace
}  // namespace cabochon::cpu::avx512_tier
