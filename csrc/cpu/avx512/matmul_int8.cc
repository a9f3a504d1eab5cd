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

  // From the sums of 16 times 32 codes: what the offset adds to the dot of a granule, negated.
  // Where that has 128 columns it is four lanes.
  template <size_t kGranule>
  static __m512i start(__m512i sums) {
    if constexpr (kGranule == kBlock) {
      sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_BADC));
      sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_CDAB));
    }
    return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums, 7));
  }

  template <int kTokens>
  [[gnu::always_inline]] static void set(__m512i (&dots)[kTokens][kHalves], const int32_t* starts) {
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      const __m512i start = _mm512_set1_epi32(starts[t * kSegmentSums]);
#pragma GCC unroll 16
      for (int h = 0; h < kHalves; ++h) dots[t][h] = start;
    }
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

  // f += a granule of 32 columns, scaled; returns where the panel goes on.
  template <int kTokens>
  [[gnu::always_inline]] static const uint8_t* add_granule(__m512 (&f)[kTokens][kHalves],
                                                           const uint8_t* panel,
                                                           const int8_t* codes, size_t stride,
                                                           const float* scales, size_t granules,
                                                           const int32_t* starts, bool prefetch) {
    __m512i dots[kTokens][kHalves];
    set(dots, starts);
    panel = add_columns(dots, panel, codes, stride, prefetch);
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      const __m512 scale = _mm512_set1_ps(scales[t * granules]);
#pragma GCC unroll 16
      for (int h = 0; h < kHalves; ++h) {
        f[t][h] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dots[t][h]), f[t][h]);
      }
    }
    return panel;
  }

  // f = the sum of a block of `cols` columns; returns where the panel goes on.
  template <size_t kGranule, int kTokens>
  [[gnu::always_inline]] static const uint8_t* span(__m512 (&f)[kTokens][kHalves],
                                                    const uint8_t* panel, const int8_t* codes,
                                                    size_t stride, const float* scales,
                                                    size_t granules, const int32_t* starts,
                                                    size_t cols, bool prefetch) {
    if constexpr (kGranule < kBlock) {
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
        for (int h = 0; h < kHalves; ++h) f[t][h] = _mm512_setzero_ps();
      }
      const auto* end = panel + cols * kColumnBytes;
      if (cols == kBlock) {
#pragma GCC unroll 16
        for (size_t g = 0; g < kBlock / kGranule; ++g) {
          panel = add_granule(f, panel, codes + g * kGranule, stride, scales + g, granules,
                              starts + g, prefetch);
        }
      } else {
        for (size_t g = 0; panel < end; ++g) {
          panel = add_granule(f, panel, codes + g * kGranule, stride, scales + g, granules,
                              starts + g, prefetch);
        }
      }
      return panel + kLine;
    }
    __m512i dots[kTokens][kHalves];
    set(dots, starts);
    if (cols == kBlock) {
#pragma GCC unroll 16
      for (size_t k = 0; k < kBlock; k += kSumColumns) {
        panel = add_columns(dots, panel, codes + k, stride, prefetch);
      }
    } else {
      for (size_t k = 0; k < cols; k += kSumColumns) {
        panel = add_columns(dots, panel, codes + k, stride, prefetch);
      }
    }
#pragma GCC unroll 16
    for (int h = 0; h < kHalves; ++h) {
      const __m512 scale = load_scales(panel, h);
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
