// int4 scales and codes of 32 rows of 32 weights, AVX-512.
//
// Math      search_int4 in cpu/kernels.h; cpu/scalar/search_int4.cc defines it.
// Layout    a lane is a row, so no lanes are ever added; four columns and the four after the next
//           four make the 64 bytes of 16 rows in a unit.
// Method    five scales at once share a weight, and their sums hide the latency of fma.
// Numerics  same bits as scalar: vrndscaleps rounds half to even.
#include "cpu/avx512/avx512.h"

namespace cabochon::cpu::avx512_tier {
namespace {

constexpr size_t kColumns = kInt4Block;
constexpr size_t kAtOnce = 5;
static_assert(kInt4Tried % kAtOnce == 0);

inline __m512 round_to_bf16(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  return _mm512_castsi512_ps(
      _mm512_and_si512(sum, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

inline __m512 inverse_of(__m512 scale) { return _mm512_div_ps(_mm512_set1_ps(1.0f), scale); }

inline __m512 number_of(__m512 weight, __m512 inverse) {
  const __m512 number = _mm512_roundscale_ps(_mm512_mul_ps(weight, inverse),
                                             _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return _mm512_max_ps(_mm512_min_ps(number, _mm512_set1_ps(7.0f)), _mm512_set1_ps(-8.0f));
}

// The errors of n scales for 16 rows.
template <size_t n>
inline void errors(__m512 (&error)[n], const __m512 (&scale)[n], const float* columns,
                   const float* importance) {
  __m512 inverse[n];
  for (size_t i = 0; i < n; ++i) {
    inverse[i] = inverse_of(scale[i]);
    error[i] = _mm512_setzero_ps();
  }
  for (size_t c = 0; c < kColumns; ++c) {
    const __m512 weight = load(columns + c * kPanelRows);
    const __m512 weighs = _mm512_set1_ps(importance[c]);
    for (size_t i = 0; i < n; ++i) {
      const __m512 e = _mm512_fnmadd_ps(number_of(weight, inverse[i]), scale[i], weight);
      error[i] = _mm512_fmadd_ps(_mm512_mul_ps(weighs, e), e, error[i]);
    }
  }
}

inline __m512 refit(__m512 scale, const float* columns, const float* importance) {
  const __m512 inverse = inverse_of(scale);
  __m512 a = _mm512_setzero_ps(), b = _mm512_setzero_ps();
  for (size_t c = 0; c < kColumns; ++c) {
    const __m512 weight = load(columns + c * kPanelRows);
    const __m512 number = number_of(weight, inverse);
    const __m512 q = _mm512_mul_ps(_mm512_set1_ps(importance[c]), number);
    a = _mm512_fmadd_ps(q, weight, a);
    b = _mm512_fmadd_ps(q, number, b);
  }
  return round_to_bf16(_mm512_div_ps(a, b));
}

// Of 16 rows.
inline __m512 best_scale(const float* columns, const float* importance) {
  __m512 absmax = _mm512_set1_ps(kSmallestAbsmax);
  for (size_t c = 0; c < kColumns; ++c) {
    absmax = _mm512_max_ps(_mm512_abs_ps(load(columns + c * kPanelRows)), absmax);
  }
  __m512 scales[kInt4Tried];
  scales[0] = round_to_bf16(_mm512_div_ps(absmax, _mm512_set1_ps(7.5f)));
  for (size_t i = 1; i < kInt4Tried; ++i) {
    scales[i] = round_to_bf16(_mm512_mul_ps(absmax, _mm512_set1_ps(kInt4Factors[i - 1])));
  }
  __m512 best = scales[0], least = _mm512_set1_ps(__builtin_inff());
  const auto consider = [&](__m512 error, __m512 scale) {
    const __mmask16 is_less = _mm512_cmp_ps_mask(error, least, _CMP_LT_OQ);
    least = _mm512_mask_mov_ps(least, is_less, error);
    best = _mm512_mask_mov_ps(best, is_less, scale);
  };
  for (size_t first = 0; first < kInt4Tried; first += kAtOnce) {
    __m512 scale[kAtOnce], error[kAtOnce];
    for (size_t i = 0; i < kAtOnce; ++i) scale[i] = scales[first + i];
    errors(error, scale, columns, importance);
    for (size_t i = 0; i < kAtOnce; ++i) consider(error[i], scale[i]);
  }
  const __m512 last[] = {refit(best, columns, importance)};
  __m512 error[1];
  errors(error, last, columns, importance);
  consider(error[0], last[0]);
  return best;
}

void search_int4(uint8_t* unit, const float* columns, const float* importance) noexcept {
  for (size_t t = 0; t < 2; ++t) {
    const float* rows = columns + kLanes * t;
    const __m512 scale = best_scale(rows, importance);
    const __m512 inverse = inverse_of(scale);
    for (size_t g = 0; g < kColumns / 8; ++g) {
      __m512i bytes = _mm512_setzero_si512();
      for (size_t i = 0; i < 8; ++i) {
        const __m512 number = number_of(load(rows + (8 * g + i) * kPanelRows), inverse);
        const __m512i code = _mm512_add_epi32(_mm512_cvtps_epi32(number), _mm512_set1_epi32(8));
        const auto shift = static_cast<unsigned>(8 * (i % 4) + 4 * (i / 4));
        bytes = _mm512_or_si512(bytes, _mm512_slli_epi32(code, shift));
      }
      _mm512_storeu_si512(unit + 128 * g + 64 * t, bytes);
    }
    const __m256i bf16 = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(scale), 16));
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(unit + kInt4UnitBytes - 2 * kPanelRows + 2 * kLanes * t), bf16);
  }
}

}  // namespace

void install_search_int4(Kernels& kernels) noexcept { kernels.search_int4 = search_int4; }

}  // namespace cabochon::cpu::avx512_tier
