// int4 weights x rounded activations, AVX2.
//
// Math      matmul_int4 in cpu/kernels.h; cpu/scalar/integer.h defines it.
// Method    tiles of integer.h. Nibbles are unsigned, so vpmaddubsw takes them as they are;
//           what the offset of 8 adds is taken off the dot of a block.
// Numerics  same bits as scalar; see integer.h. A 16-bit sum takes 8 times at most 2 x 15 x 127 =
//           3,810 in a block: 30,480, so it never saturates.
#include "cpu/avx2/integer.h"

namespace cabochon::cpu::avx2_tier {
namespace {

struct Int4 {
  static constexpr size_t kBlock = kInt4Block;
  static constexpr size_t kColumnBytes = kPanelRows / 2;

  // f = the sum of a granule of `cols` columns; returns where the panel goes on.
  template <size_t, int kTokens>
  [[gnu::always_inline]] static const uint8_t* span(__m256 (&f)[kTokens][kVectors],
                                                    const uint8_t* panel, const int8_t* codes,
                                                    const int32_t* sums, size_t stride,
                                                    const float*, size_t, size_t cols) {
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) f[t][v] = _mm256_setzero_ps();
    }
    for (size_t k = 0; k < cols; k += kBlock) {
      __m256i pairs[kTokens][kVectors];
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) pairs[t][v] = _mm256_setzero_si256();
      }
#pragma GCC unroll 16
      for (int g = 0; g < 4; ++g) {
#pragma GCC unroll 16
        for (int high = 0; high < 2; ++high) {
          __m256i four[kTokens];
#pragma GCC unroll 16
          for (int t = 0; t < kTokens; ++t) {
            four[t] = broadcast4(codes + t * stride + k + 8 * g + 4 * high);
          }
#pragma GCC unroll 16
          for (int v = 0; v < kVectors; ++v) {
            const __m256i both = load_bytes(panel + 128 * g + 32 * v);
            const __m256i weights =
                _mm256_and_si256(high ? _mm256_srli_epi16(both, 4) : both, _mm256_set1_epi8(15));
#pragma GCC unroll 16
            for (int t = 0; t < kTokens; ++t) {
              pairs[t][v] = _mm256_add_epi16(pairs[t][v], _mm256_maddubs_epi16(weights, four[t]));
            }
          }
        }
      }
      panel += kBlock * kColumnBytes;
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        const __m256i offset =
            _mm256_slli_epi32(_mm256_set1_epi32(sums[t * (stride / kSumColumns)]), 3);
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) {
          const __m256i dot =
              _mm256_sub_epi32(_mm256_madd_epi16(pairs[t][v], _mm256_set1_epi16(1)), offset);
          f[t][v] = _mm256_fmadd_ps(load_scales(panel, v), _mm256_cvtepi32_ps(dot), f[t][v]);
        }
      }
      panel += kScaleBytes;
      ++sums;
    }
    return panel;
  }
};

}  // namespace

void install_matmul_int4(Kernels& kernels) noexcept { kernels.matmul_int4 = matmul<Int4>; }

}  // namespace cabochon::cpu::avx2_tier
