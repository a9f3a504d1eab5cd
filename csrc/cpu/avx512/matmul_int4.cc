// int4 weights x rounded activations, AVX-512 VNNI.
//
// Math      matmul_int4 in cpu/kernels.h; cpu/scalar/integer.h defines it.
// Method    tiles of integer.h. A vector of codes holds columns 8 g to 8 g + 3 of 16 rows in its
//           low nibbles and the next four in its high ones: two masks and a shift for all tokens.
// Numerics  same bits as scalar; see integer.h.
#include "cpu/avx512/integer.h"

namespace cabochon::cpu::avx512_tier {
namespace {

struct Int4 {
  static constexpr size_t kBlock = kInt4Block;
  static constexpr size_t kColumnBytes = kPanelRows / 2;

  // From the sums of 16 times 32 codes: what the offset adds to the dot of a block, negated.
  template <size_t>
  static __m512i start(__m512i sums) {
    return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums, 3));
  }

  // f = the sum of a granule of `cols` columns; returns where the panel goes on.
  template <size_t, int kTokens>
  [[gnu::always_inline]] static const uint8_t* span(__m512 (&f)[kTokens][kHalves],
                                                    const uint8_t* panel, const int8_t* codes,
                                                    size_t stride, const float*, size_t,
                                                    const int32_t* starts, size_t cols,
                                                    bool prefetch) {
    const __m512i nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
      for (int h = 0; h < kHalves; ++h) f[t][h] = _mm512_setzero_ps();
    }
    for (size_t k = 0; k < cols; k += kBlock) {
      if (prefetch) {
#pragma GCC unroll 16
        for (size_t i = 0; i < kInt4UnitBytes; i += kLine) {
          _mm_prefetch(reinterpret_cast<const char*>(panel + kPrefetchBytes + i), _MM_HINT_T0);
        }
      }
      __m512i dots[kTokens][kHalves];
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        const __m512i start = _mm512_set1_epi32(starts[t * kSegmentSums]);
#pragma GCC unroll 16
        for (int h = 0; h < kHalves; ++h) dots[t][h] = start;
      }
#pragma GCC unroll 16
      for (int g = 0; g < 4; ++g) {
        const __m512i first = load_bytes(panel + (2 * g) * kLine);
        const __m512i second = load_bytes(panel + (2 * g + 1) * kLine);
        const __m512i low[kHalves] = {_mm512_and_si512(first, nibble),
                                      _mm512_and_si512(second, nibble)};
        const __m512i high[kHalves] = {_mm512_and_si512(_mm512_srli_epi16(first, 4), nibble),
                                       _mm512_and_si512(_mm512_srli_epi16(second, 4), nibble)};
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
          const __m512i four = broadcast4(codes + t * stride + k + 8 * g);
#pragma GCC unroll 16
          for (int h = 0; h < kHalves; ++h) {
            dots[t][h] = _mm512_dpbusd_epi32(dots[t][h], low[h], four);
          }
        }
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
          const __m512i four = broadcast4(codes + t * stride + k + 8 * g + 4);
#pragma GCC unroll 16
          for (int h = 0; h < kHalves; ++h) {
            dots[t][h] = _mm512_dpbusd_epi32(dots[t][h], high[h], four);
          }
        }
      }
      panel += kBlock * kColumnBytes;
#pragma GCC unroll 16
      for (int h = 0; h < kHalves; ++h) {
        const __m512 scale = load_scales(panel, h);
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
          f[t][h] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dots[t][h]), f[t][h]);
        }
      }
      panel += kLine;
      ++starts;
    }
    return panel;
  }
};

}  // namespace

void install_matmul_int4(Kernels& kernels) noexcept { kernels.matmul_int4 = matmul<Int4>; }

}  // namespace cabochon::cpu::avx512_tier
