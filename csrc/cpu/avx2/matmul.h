// Tiles of rows and tokens for weights of any type that load() widens, AVX2.
//
// Math      matmul_bf16 and matmul_f32 in cpu/kernels.h; cpu/scalar/matmul_bf16.cc defines them.
// Layout    two ymm accumulators are the 16 lanes of one output; a tile is 2 x kTokens outputs.
// Method    One token is bound by memory: two rows at once hide the latency of the chains of fmas,
//           a prefetch in the order of the addresses makes them one stream. Two and three tokens
//           share a weight (12 of 16 registers are sums); 16 rows stay in L2 while all tokens pass
//           by, so memory is read once.
// Numerics  same bits as scalar: a lane has one accumulator, filled in the order of columns.
// Measured  docs/performance.md, "bf16 matmul".
#pragma once

#include "cpu/avx2/avx2.h"

namespace cabochon::cpu::avx2_tier {
namespace {

constexpr size_t kRowsInCache = 16;
constexpr size_t kPrefetchBytes = 32768;

// Takes the first `count` columns, at most 8, into one half of the lanes.
template <int kRows, int kTokens, class Weight>
[[gnu::always_inline]] inline void add_columns(__m256 (&sums)[kTokens][kRows], const float* x,
                                               const Weight* weight, size_t cols, size_t count) {
  __m256 weights[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) weights[r] = load(weight + r * cols, count);
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    __m256 activations = load(x + t * cols, count);
    asm("" : "+x"(activations));  // or g++ 12 loads it again for every row
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      sums[t][r] = _mm256_fmadd_ps(activations, weights[r], sums[t][r]);
    }
  }
}

// kRows rows of `weight` by kTokens tokens. Meanwhile as many bytes are prefetched from `ahead` on,
// null for none. g++ 12 keeps sums in registers only if every loop over them is unrolled.
template <int kRows, int kTokens, class Weight>
[[gnu::noinline]] void tile(float* out, size_t out_stride, const float* x, const Weight* weight,
                            size_t cols, const Weight* ahead) noexcept {
  __m256 sums[2][kTokens][kRows];
#pragma GCC unroll 16
  for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) sums[half][t][r] = _mm256_setzero_ps();
    }
  }

  size_t k = 0;
  for (; k + kLanes <= cols; k += kLanes) {
    add_columns(sums[0], x + k, weight + k, cols, kWidth);
    add_columns(sums[1], x + k + kWidth, weight + k + kWidth, cols, kWidth);
    if (ahead) {
#pragma GCC unroll 16
      for (size_t i = 0; i < kRows * kLanes; i += 64 / sizeof(Weight)) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead + i), _MM_HINT_T0);
      }
      ahead += kRows * kLanes;
    }
  }
  if (k < cols) {
    const size_t low = cols - k < kWidth ? cols - k : kWidth;
    add_columns(sums[0], x + k, weight + k, cols, low);
    add_columns(sums[1], x + k + low, weight + k + low, cols, cols - k - low);
  }

#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      out[t * out_stride + r] = add_lanes(sums[0][t][r], sums[1][t][r]);
    }
  }
}

// All rows by kTokens tokens, two at a time; `ahead` as in tile.
template <int kTokens, class Weight>
void row_tiles(float* out, size_t out_stride, const float* x, const Weight* weight, size_t rows,
               size_t cols, const Weight* ahead) noexcept {
  size_t r = 0;
  for (; r + 2 <= rows; r += 2) {
    tile<2, kTokens>(out + r, out_stride, x, weight + r * cols, cols,
                     ahead ? ahead + r * cols : nullptr);
  }
  if (r < rows) {
    tile<1, kTokens>(out + r, out_stride, x, weight + r * cols, cols,
                     ahead ? ahead + r * cols : nullptr);
  }
}

template <class Weight>
void matmul(float* out, size_t out_stride, const float* x, const Weight* weight, size_t tokens,
            size_t rows, size_t cols) noexcept {
  for (size_t first = 0; first < rows; first += kRowsInCache) {
    const size_t count = rows - first < kRowsInCache ? rows - first : kRowsInCache;
    const Weight* block = weight + first * cols;
    // The first tokens to pass fetch for all.
    const Weight* ahead = block + kPrefetchBytes / sizeof(Weight);
    float* to = out + first;
    const float* from = x;
    size_t left = tokens;
    for (; left >= 3; left -= 3) {
      row_tiles<3>(to, out_stride, from, block, count, cols, ahead);
      to += 3 * out_stride;
      from += 3 * cols;
      ahead = nullptr;
    }
    if (left == 2) row_tiles<2>(to, out_stride, from, block, count, cols, ahead);
    if (left == 1) row_tiles<1>(to, out_stride, from, block, count, cols, ahead);
  }
}

}  // namespace
}  // namespace cabochon::cpu::avx2_tier
