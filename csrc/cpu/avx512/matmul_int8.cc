// int8 weights x rounded activations, AVX-512 VNNI.
//
// Math      matmul_int8 in cpu/kernels.h; cpu/scalar/integer.h defines it.
// Method    tiles of integer.h; a quad of columns is two vectors of codes, used as they are.
// Numerics  same bits as scalar; see integer.h.
#include "cpu/avx512/integer.h"

namespace cabochon::cpu::avx512_tier {
namespace {

struct Int8 {
  static constexpr size_t kBlock = kInt8Block;
  static constexpr size_t kColumnBytes = kPanelRows;

  // From the sums of 16 times 32 codes: what the offset adds to the dot of a granule, negated. Four
  // lanes are a granule.
  static __m512i start(__m512i sums) {
    const __m512i two = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_BADC));
    const __m512i four = _mm512_add_epi32(two, _mm512_shuffle_epi32(two, _MM_PERM_CDAB));
    return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(four, 7));
  }

  // 32 columns; returns where the panel goes on.
  template <int kTokens>
  [[gnu::always_inline]] static const uint8_t* add_columns(__m512i (&dots)[kTokens][kHalves],
                                                           const uint8_t* panel,
                                                           const int8_t* codes, size_t stride,
                                                           bool prefetch) {
    constexpr size_t kBytes = kSumColumns * kColumnBytes;
    if (prefetch) {
#pragma GCC unroll 16
      for (size_t i = 0; i < kBytes; i += kLine) {
        _mm_prefetch(reinterpret_cast<const char*>(panel + kPrefetchBytes + i), _MM_HINT_T0);
      }
    }
#pragma GCC unroll 16
    for (size_t q = 0; q < kSumColumns; q += 4) {
      const __m512i weights[kHalves] = {load_bytes(panel + q * kColumnBytes),
                                        load_bytes(panel + q * kColumnBytes + kLine)};
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        const __m512i four = broadcast4(codes + t * stride + q);
#pragma GCC unroll 16
        for (int h = 0; h < kHalves; ++h) {
          dots[t][h] = _mm512_dpbusd_epi32(dots[t][h], weights[h], four);
        }
      }
    }
    return panel + kBytes;
  }

  // f = the sum of a granule of `cols` columns; returns where the panel goes on.
  template <int kTokens>
  [[gnu::always_inline]] static const uint8_t* granule(__m512 (&f)[kTokens][kHalves],
                                                       const uint8_t* panel, const int8_t* codes,
                                                       size_t stride, const int32_t* starts,
                                                       size_t cols, bool prefetch) {
    __m512i dots[kTokens][kHalves];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      const __m512i start = _mm512_set1_epi32(starts[t * kSegmentSums]);
#pragma GCC unroll 16
      for (int h = 0; h < kHalves; ++h) dots[t][h] = start;
    }
    if (cols == kGranule) {
#pragma GCC unroll 16
      for (size_t k = 0; k < kGranule; k += kSumColumns) {
        panel = add_columns(dots, panel, codes + k, stride, prefetch);
      }
    } else {
      for (size_t k = 0; k < cols; k += kSumColumns) {
        panel = add_columns(dots, panel, codes + k, stride, prefetch);
      }
    }
#pragma GCC unroll 16
    for (int h = 0; h < kHalves; ++h) {
      const __m512 scale =
          widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel + h * kLine / kHalves)));
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        f[t][h] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dots[t][h]), _mm512_setzero_ps());
      }
    }
    return panel + kLine;
  }
};

}  // namespace

void install_matmul_int8(Kernels& kernels) noexcept { kernels.matmul_int8 = matmul<Int8>; }

}  // namespace cabochon::cpu::avx512_tier
