// What the files of this folder share. Everything but the functions declared first has internal
// linkage: nothing compiled here may be picked by the linker for the rest of the program.
#pragma once

#include <immintrin.h>

#include "cpu/kernels.h"

namespace cabochon::cpu::avx2_tier {

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

constexpr size_t kWidth = 8;  // floats of a register; 16 lanes are a low and a high one

// All ones in the lanes i < count.
inline __m256i first_lanes(size_t count) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), index);
}

inline __m256 widen(__m128i bf16) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bf16), 16));
}

inline __m256 load(const float* x) { return _mm256_loadu_ps(x); }
inline __m256 load(const uint16_t* x) {
  return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}

// Lanes from count (at most kWidth) on are +0; their memory is not touched.
inline __m256 load(const float* x, size_t count) {
  return count == kWidth ? load(x) : _mm256_maskload_ps(x, first_lanes(count));
}
inline __m256 load(const uint16_t* x, size_t count) {
  if (count == kWidth) return load(x);
  uint16_t padded[kWidth] = {};
  for (size_t i = 0; i < count; ++i) padded[i] = x[i];
  return load(padded);
}

inline void store(float* out, __m256 x, size_t count) {
  if (count == kWidth) {
    _mm256_storeu_ps(out, x);
  } else {
    _mm256_maskstore_ps(out, first_lanes(count), x);
  }
}

// Calls body(first index, how many) for every 8 elements of n, in order.
template <class Body>
inline void for_each_vector(size_t n, Body body) {
  size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) body(i, kWidth);
  if (i < n) body(i, n - i);
}

// j and j + 8, then j and j + 4, j + 2, j + 1.
inline float add_lanes(__m256 low, __m256 high) {
  const __m256 eight = _mm256_add_ps(low, high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Steps, constants and bounds: exp_f32 in cpu/scalar/activation.cc.
inline __m256 exp_lanes(__m256 x) {
  const __m256 lowest = _mm256_set1_ps(-87.0f);
  const __m256 magic = _mm256_set1_ps(12582912.0f);
  // min and max give their second operand where one is NaN.
  const __m256 clamped = _mm256_max_ps(lowest, _mm256_min_ps(_mm256_set1_ps(88.0f), x));

  const __m256 shifted = _mm256_fmadd_ps(clamped, _mm256_set1_ps(1.44269504f), magic);
  const __m256 n = _mm256_sub_ps(shifted, magic);
  __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-0.693145752f), clamped);
  r = _mm256_fmadd_ps(n, _mm256_set1_ps(-1.42860677e-6f), r);

  __m256 p = _mm256_set1_ps(1.33370247e-3f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.35909508e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.16738018e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.66666016e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.99999821e-1f));
  p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));

  const __m256i power = _mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23),
                                         _mm256_set1_epi32(0x3f800000));
  return _mm256_and_ps(_mm256_cmp_ps(x, lowest, _CMP_NLT_UQ),
                       _mm256_mul_ps(p, _mm256_castsi256_ps(power)));
}

}  // namespace
}  // namespace cabochon::cpu::avx2_tier
