// Tiles of rows and tokens for weights of any type that load() widens, AVX-512.
//
// Math      matmul_bf16 and matmul_f32 in cpu/kernels.h; cpu/scalar/matmul_bf16.cc defines them.
// Layout    one zmm accumulator is the 16 lanes of one output; a tile is kRows x kTokens of them.
// Method    One token is bound by memory: one row at a time, so that weights are read in the order
//           of their addresses, and a prefetch 16 KiB ahead. More tokens: tiles of 4 rows by up to
//           6 tokens (24 of 32 registers) read a weight once for all of them; 16 rows stay in L2
//           while all tokens pass by, so memory is read once.
// Numerics  same bits as scalar: an output has one accumulator, filled in the order of columns.
// Measured  docs/performance.md, "bf16 matmul".
#pragma once

#include "cpu/avx512/avx512.h"

namespace cabochon::cpu::avx512_tier {
namespace {

constexpr size_t kRowsInCache = 16;
constexpr size_t kPrefetchBytes = 16384;

// kRows rows of `weight` by kTokens tokens. Meanwhile as many bytes are prefetched from `ahead` on,
// null for none. g++ 12 keeps sums in registers only if every loop over them is unrolled.
template <int kRows, int kTokens, class Weight>
[[gnu::noinline]] void tile(float* out, size_t out_stride, const float* x, const Weight* weight,
                            size_t cols, const Weight* ahead) noexcept {
  __m512 sums[kTokens][kRows];
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) sums[t][r] = _mm512_setzero_ps();
  }

  size_t k = 0;
  for (; k + kLanes <= cols; k += kLanes) {
    __m512 weights[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) weights[r] = load(weight + r * cols + k);
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      const __m512 activations = load(x + t * cols + k);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        sums[t][r] = _mm512_fmadd_ps(activations, weights[r], sums[t][r]);
      }
    }
    if (ahead) {
#pragma GCC unroll 16
      for (size_t i = 0; i < kRows * kLanes; i += 64 / sizeof(Weight)) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead + i), _MM_HINT_T0);
      }
      ahead += kRows * kLanes;
    }
  }
  if (k < cols) {
    const __mmask16 lanes = first_lanes(cols - k);
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      const __m512 activations = load(x + t * cols + k, lanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        sums[t][r] = _mm512_fmadd_ps(activations, load(weight + r * cols + k, lanes), sums[t][r]);
      }
    }
  }

#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    float* to = out + t * out_stride;
    if constexpr (kRows == 4) {
      _mm_storeu_ps(to, add_lanes(sums[t][0], sums[t][1], sums[t][2], sums[t][3]));
    } else {
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) to[r] = add_lanes(sums[t][r]);
    }
  }
}

// All rows by kTokens tokens, kRows at a time; `ahead` as in tile.
template <int kRows, int kTokens, class Weight>
void row_tiles(float* out, size_t out_stride, const float* x, const Weight* weight, size_t rows,
               size_t cols, const Weight* ahead) noexcept {
  size_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
    tile<kRows, kTokens>(out + r, out_stride, x, weight + r * cols, cols,
                         ahead ? ahead + r * cols : nullptr);
  }
  for (; r < rows; ++r) {
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
    for (; left >= 6; left -= 6) {
      row_tiles<4, 6>(to, out_stride, from, block, count, cols, ahead);
      to += 6 * out_stride;
      from += 6 * cols;
      ahead = nullptr;
    }
    if (left == 5) row_tiles<4, 5>(to, out_stride, from, block, count, cols, ahead);
    if (left == 4) row_tiles<4, 4>(to, out_stride, from, block, count, cols, ahead);
    if (left == 3) row_tiles<4, 3>(to, out_stride, from, block, count, cols, ahead);
    if (left == 2) row_tiles<4, 2>(to, out_stride, from, block, count, cols, ahead);
    if (left == 1) row_tiles<1, 1>(to, out_stride, from, block, count, cols, ahead);
  }
}

}  // namespace
}  // namespace cabochon::cpu::avx512_tier
