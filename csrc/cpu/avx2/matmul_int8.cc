// int8 weights x rounded activations, AVX2.
//
// Math      matmul_int8 in cpu/kernels.h; cpu/scalar/integer.h defines it.
// Method    tiles of integer.h. vpmaddubsw needs one unsigned side: |weight| times the activation
//           with the sign of the weight.
// Numerics  same bits as scalar; see integer.h. A pair is at most 2 x 127 x 127 = 32,258 and never
//           saturates.
#include "cpu/avx2/integer.h"

namespace cabochon::cpu::avx2_tier {
namespace {

struct Int8 {
  static constexpr size_t kBlock = kInt8Block;
  static constexpr size_t kColumnBytes = kPanelRows;

  // Adds `cols` columns; returns where the panel goes on.
  template <int kTokens>
  [[gnu::always_inline]] static const uint8_t* add_columns(__m256i (&dots)[kTokens][kVectors],
                                                           const uint8_t* panel,
                                                           const int8_t* codes, size_t stride,
                                                           size_t cols) {
#pragma GCC unroll 8
    for (size_t k = 0; k < cols; k += 4) {
      __m256i four[kTokens];
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) four[t] = broadcast4(codes + t * stride + k);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        const __m256i weights =
            _mm256_xor_si256(load_bytes(panel + 32 * v), _mm256_set1_epi8(-128));
        const __m256i magnitudes = _mm256_abs_epi8(weights);
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
          const __m256i pairs =
              _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(four[t], weights));
          dots[t][v] = _mm256_add_epi32(dots[t][v], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        }
      }
      panel += 4 * kColumnBytes;
    }
    return panel;
  }

  // f = the sum of a block of `cols` columns; returns where the panel goes on.
  template <size_t kGranule, int kTokens>
  [[gnu::always_inline]] static const uint8_t* span(__m256 (&f)[kTokens][kVectors],
                                                    const uint8_t* panel, const int8_t* codes,
                                                    const int32_t*, size_t stride,
                                                    const float* scales, size_t granules,
                                                    size_t cols) {
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) f[t][v] = _mm256_setzero_ps();
    }
    const uint8_t* block_scales = panel + cols * kColumnBytes;
    for (size_t k = 0; k < cols; k += kGranule) {
      __m256i dots[kTokens][kVectors];
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) dots[t][v] = _mm256_setzero_si256();
      }
      panel = add_columns(dots, panel, codes + k, stride, at_most(cols - k, kGranule));
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
          const __m256 scale = kGranule < kBlock
                                   ? _mm256_set1_ps(scales[t * granules + k / kGranule])
                                   : load_scales(block_scales, v);
          f[t][v] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(dots[t][v]), f[t][v]);
        }
      }
    }
    return block_scales + kScaleBytes;
  }
};

}  // namespace

void install_matmul_int8(Kernels& kernels) noexcept { kernels.matmul_int8 = matmul<Int8>; }

}  // namespace cabochon::cpu::avx2_tier
