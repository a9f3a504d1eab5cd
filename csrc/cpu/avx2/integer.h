// Tiles of 32 rows and up to 2 tokens for integer weights in panels, AVX2.
//
// Math      matmul_int4 and matmul_int8 in cpu/kernels.h; cpu/scalar/integer.h defines them.
// Layout    a lane is a row: 32 rows are four ymm. 32 bytes of codes are 8 rows by 4 columns.
// Method    two tokens are what 16 registers hold. A panel stays in L1 or L2 while all tokens pass.
// Numerics  same bits as scalar: dots are exact, the float steps are those of the definition.
// Measured  docs/performance.md, "Integer matmul".
#pragma once

#include "cpu/avx2/avx2.h"

namespace cabochon::cpu::avx2_tier {
namespace {

constexpr int kTileTokens = 2;
constexpr int kVectors = 4;  // of 8 rows
constexpr size_t kScaleBytes = kPanelRows * sizeof(uint16_t);

// The tokens of a tile.
struct Tokens {
  float* out;
  size_t out_stride;
  const int8_t* codes;  // [tokens, cols]
  const float* scales;  // [tokens, granules]
  const int32_t* sums;  // [tokens, cols / 32]
  size_t cols, granules;
};

inline size_t at_most(size_t count, size_t limit) { return count < limit ? count : limit; }

inline __m256i load_bytes(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

// The same 4 bytes in every lane.
inline __m256i broadcast4(const void* from) {
  int32_t four;
  __builtin_memcpy(&four, from, sizeof four);
  return _mm256_set1_epi32(four);
}

// The scales of the vector v of rows.
inline __m256 load_scales(const uint8_t* scales, int v) {
  return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales) + v));
}

// kTokens tokens by the rows of one panel, of which `rows` are stored.
template <class Format, size_t kGranule, int kTokens>
[[gnu::noinline]] void tile(const Tokens& x, const uint8_t* panel, size_t rows) noexcept {
  // The wider of granule and block.
  constexpr size_t kSpan = kGranule < Format::kBlock ? Format::kBlock : kGranule;
  __m256 total[kTokens][kVectors];
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) total[t][v] = _mm256_setzero_ps();
  }

  for (size_t segment = 0; segment < x.cols; segment += kSegment) {
    const size_t end = segment + at_most(x.cols - segment, kSegment);
    __m256 acc[kTokens][kVectors];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) acc[t][v] = _mm256_setzero_ps();
    }
    for (size_t k = segment; k < end; k += kSpan) {
      __m256 f[kTokens][kVectors];
      const float* scales = x.scales + k / kGranule;
      panel = Format::template span<kGranule>(f, panel, x.codes + k, x.sums + k / kSumColumns,
                                              x.cols, scales, x.granules, at_most(end - k, kSpan));
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) {
          const __m256 scale = kGranule < Format::kBlock ? load_scales(panel - kScaleBytes, v)
                                                         : _mm256_set1_ps(scales[t * x.granules]);
          acc[t][v] = _mm256_fmadd_ps(scale, f[t][v], acc[t][v]);
        }
      }
    }
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        total[t][v] = segment == 0 ? acc[t][v] : _mm256_add_ps(total[t][v], acc[t][v]);
      }
    }
  }

#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      const size_t first = v * kWidth;
      if (first < rows) {
        store(x.out + t * x.out_stride + first, total[t][v], at_most(rows - first, kWidth));
      }
    }
  }
}

template <class Format, size_t kGranule>
void matmul_granules(float* out, size_t out_stride, const QuantizedRows* x, const uint8_t* panels,
                     size_t rows) noexcept {
  const size_t cols = x->cols;
  const size_t granules = (cols + kGranule - 1) / kGranule;
  const size_t blocks = (cols + Format::kBlock - 1) / Format::kBlock;
  const size_t panel_bytes = cols * Format::kColumnBytes + blocks * kScaleBytes;
  for (size_t r = 0; r < rows; r += kPanelRows) {
    const size_t count = at_most(rows - r, kPanelRows);
    Tokens tokens{out + r, out_stride, x->codes, x->scales, x->sums, cols, granules};
    size_t left = x->tokens;
    for (; left >= kTileTokens; left -= kTileTokens) {
      tile<Format, kGranule, kTileTokens>(tokens, panels, count);
      tokens.out += kTileTokens * out_stride;
      tokens.codes += kTileTokens * cols;
      tokens.scales += kTileTokens * granules;
      tokens.sums += kTileTokens * cols / kSumColumns;
    }
    if (left == 1) tile<Format, kGranule, 1>(tokens, panels, count);
    panels += panel_bytes;
  }
}

template <class Format>
void matmul(float* out, size_t out_stride, const QuantizedRows* x, const uint8_t* panels,
            size_t rows) noexcept {
  if (x->granule == 32) {
    matmul_granules<Format, 32>(out, out_stride, x, panels, rows);
  } else {
    matmul_granules<Format, 128>(out, out_stride, x, panels, rows);
  }
}

}  // namespace
}  // namespace cabochon::cpu::avx2_tier
