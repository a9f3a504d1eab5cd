// int4 scales and codes of 32 rows of 32 weights, AVX2.
//
// Math      search_int4 in cpu/kernels.h; cpu/scalar/search_int4.cc defines it.
// Layout    a lane is a row, so no lanes are ever added; four columns and the four after the next
//           four make the 32 bytes of 8 rows in a unit.
// Method    three scales at once share a weight, as many as there are registers for.
// Numerics  same bits as scalar: vroundps rounds half to even.
#include "cpu/avx2/avx2.h"

namespace cabochon::cpu::avx2_tier {
namespace {

constexpr size_t kColumns = kInt4Block;
constexpr size_t kAtOnce = 3;
static_assert(kInt4Tried % kAtOnce == 0);

inline __m256 round_to_bf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  return _mm256_castsi256_ps(
      _mm256_and_si256(sum, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

inline __m256 inverse_of(__m256 scale) { return _mm256_div_ps(_mm256_set1_ps(1.0f), scale); }

inline __m256 number_of(__m256 weight, __m256 inverse) {
  const __m256 number = _mm256_round_ps(_mm256_mul_ps(weight, inverse),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return _mm256_max_ps(_mm256_min_ps(number, _mm256_set1_ps(7.0f)), _mm256_set1_ps(-8.0f));
}

// The errors of n scales for 8 rows.
template <size_t n>
inline void errors(__m256 (&error)[n], const __m256 (&scale)[n], const float* columns,
                   const float* importance) {
  __m256 inverse[n];
  for (size_t i = 0; i < n; ++i) {
    inverse[i] = inverse_of(scale[i]);
    error[i] = _mm256_setzero_ps();
  }
  for (size_t c = 0; c < kColumns; ++c) {
    const __m256 weight = load(columns + c * kPanelRows);
    const __m256 weighs = _mm256_set1_ps(importance[c]);
    for (size_t i = 0; i < n; ++i) {
      const __m256 e = _mm256_fnmadd_ps(number_of(weight, inverse[i]), scale[i], weight);
      error[i] = _mm256_fmadd_ps(_mm256_mul_ps(weighs, e), e, error[i]);
    }
  }
}

inline __m256 refit(__m256 scale, const float* columns, const float* importance) {
  const __m256 inverse = inverse_of(scale);
  __m256 a = _mm256_setzero_ps(), b = _mm256_setzero_ps();
  for (size_t c = 0; c < kColumns; ++c) {
    const __m256 weight = load(columns + c * kPanelRows);
    const __m256 number = number_of(weight, inverse);
    const __m256 q = _mm256_mul_ps(_mm256_set1_ps(importance[c]), number);
    a = _mm256_fmadd_ps(q, weight, a);
    b = _mm256_fmadd_ps(q, number, b);
  }
  return round_to_bf16(_mm256_div_ps(a, b));
}

// Of 8 rows.
inline __m256 best_scale(const float* columns, const float* importance) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 absmax = _mm256_set1_ps(kSmallestAbsmax);
  for (size_t c = 0; c < kColumns; ++c) {
    absmax = _mm256_max_ps(_mm256_and_ps(load(columns + c * kPanelRows), magnitude), absmax);
  }
  __m256 scales[kInt4Tried];
  scales[0] = round_to_bf16(_mm256_div_ps(absmax, _mm256_set1_ps(7.5f)));
  for (size_t i = 1; i < kInt4Tried; ++i) {
    scales[i] = round_to_bf16(_mm256_mul_ps(absmax, _mm256_set1_ps(kInt4Factors[i - 1])));
  }
  __m256 best = scales[0], least = _mm256_set1_ps(__builtin_inff());
  const auto consider = [&](__m256 error, __m256 scale) {
    const __m256 is_less = _mm256_cmp_ps(error, least, _CMP_LT_OQ);
    least = _mm256_blendv_ps(least, error, is_less);
    best = _mm256_blendv_ps(best, scale, is_less);
  };
  for (size_t first = 0; first < kInt4Tried; first += kAtOnce) {
    __m256 scale[kAtOnce], error[kAtOnce];
    for (size_t i = 0; i < kAtOnce; ++i) scale[i] = scales[first + i];
    errors(error, scale, columns, importance);
    for (size_t i = 0; i < kAtOnce; ++i) consider(error[i], scale[i]);
  }
  const __m256 last[] = {refit(best, columns, importance)};
  __m256 error[1];
  errors(error, last, columns, importance);
  consider(error[0], last[0]);
  return best;
}

void search_int4(uint8_t* unit, const float* columns, const float* importance) noexcept {
  for (size_t row = 0; row < kPanelRows; row += kWidth) {
    const float* rows = columns + row;
    const __m256 scale = best_scale(rows, importance);
    const __m256 inverse = inverse_of(scale);
    for (size_t g = 0; g < kColumns / 8; ++g) {
      __m256i bytes = _mm256_setzero_si256();
      for (size_t i = 0; i < 8; ++i) {
        const __m256 number = number_of(load(rows + (8 * g + i) * kPanelRows), inverse);
        const __m256i code = _mm256_add_epi32(_mm256_cvtps_epi32(number), _mm256_set1_epi32(8));
        bytes = _mm256_or_si256(
            bytes, _mm256_slli_epi32(code, static_cast<int>(8 * (i % 4) + 4 * (i / 4))));
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(unit + 128 * g + 4 * row), bytes);
    }
    const __m256i bits = _mm256_srli_epi32(_mm256_castps_si256(scale), 16);
    const __m128i bf16 =
        _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(unit + kInt4UnitBytes - 2 * kPanelRows + 2 * row),
                     bf16);
  }
}

}  // namespace

void install_search_int4(Kernels& kernels) noexcept { kernels.search_int4 = search_int4; }

}  // namespace cabochon::cpu::avx2_tier
