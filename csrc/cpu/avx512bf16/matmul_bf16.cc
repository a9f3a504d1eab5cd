// bf16 weights x rows rounded to bf16, by the instruction vdpbf16ps.
//
// Math      matmul_bf16_pairs in cpu/kernels.h. There is no scalar twin: the instruction is the
//           definition, and tests/unit/csrc/cpu/test_matmul_bf16_pairs.py says in NumPy what it
//           does.
// Layout    one zmm accumulator is the 16 lanes of one output, each of two columns out of 32; a
//           tile is kRows x kTokens of them.
// Method    One token is bound by memory: one row at a time, in the order of addresses. More
//           tokens: tiles of 8 rows by 3 tokens (24 of 32 registers); 16 rows stay in L2 while all
//           tokens pass by. The first tokens to pass prefetch 16 KiB ahead, for all.
// Numerics  an output has one accumulator, filled in the order of columns, whatever the tile.
// Measured  docs/performance.md, "bf16 matmul".

// g++ 12 takes the deliberately undefined registers of its own header for a mistake.
#pragma GCC diagnostic push
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#include "cpu/kernels.h"

namespace cabochon::cpu {
namespace {

constexpr size_t kColumns = 2 * kLanes;  // that one instruction takes
constexpr size_t kRowsInCache = 16;
constexpr size_t kPrefetchBytes = 16384;

inline __m512bh load(const uint16_t* x) {
  return reinterpret_cast<__m512bh>(_mm512_loadu_si512(x));
}

// The first `count` < 32 columns; the others are +0, and their memory is not touched.
inline __m512bh load(const uint16_t* x, size_t count) {
  const auto columns = static_cast<__mmask32>((1u << count) - 1);
  return reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(columns, x));
}

// j and j + 8, then j and j + 4, j + 2, j + 1.
inline float add_lanes(__m512 lanes) {
  const __m256 eight =
      _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// kRows rows of `weight` by kTokens tokens. Meanwhile as many bytes are prefetched from `ahead` on,
// null for none. g++ 12 keeps sums in registers only if every loop over them is unrolled.
template <int kRows, int kTokens>
[[gnu::noinline]] void tile(float* out, size_t out_stride, const uint16_t* x,
                            const uint16_t* weight, size_t cols, const uint16_t* ahead) noexcept {
  __m512 sums[kTokens][kRows];
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) sums[t][r] = _mm512_setzero_ps();
  }

  size_t k = 0;
  for (; k + kColumns <= cols; k += kColumns) {
    __m512bh activations[kTokens];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) activations[t] = load(x + t * cols + k);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512bh weights = load(weight + r * cols + k);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        sums[t][r] = _mm512_dpbf16_ps(sums[t][r], activations[t], weights);
      }
    }
    if (ahead) {
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead + r * kColumns), _MM_HINT_T0);
      }
      ahead += kRows * kColumns;
    }
  }
  if (k < cols) {
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      const __m512bh activations = load(x + t * cols + k, cols - k);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        sums[t][r] =
            _mm512_dpbf16_ps(sums[t][r], activations, load(weight + r * cols + k, cols - k));
      }
    }
  }

#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) out[t * out_stride + r] = add_lanes(sums[t][r]);
  }
}

// All rows by kTokens tokens, kRows at a time; `ahead` as in tile.
template <int kRows, int kTokens>
void row_tiles(float* out, size_t out_stride, const uint16_t* x, const uint16_t* weight,
               size_t rows, size_t cols, const uint16_t* ahead) noexcept {
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

void matmul(float* out, size_t out_stride, const uint16_t* x, const uint16_t* weight, size_t tokens,
            size_t rows, size_t cols) noexcept {
  for (size_t first = 0; first < rows; first += kRowsInCache) {
    const size_t count = rows - first < kRowsInCache ? rows - first : kRowsInCache;
    const uint16_t* block = weight + first * cols;
    const uint16_t* ahead = block + kPrefetchBytes / sizeof(uint16_t);
    float* to = out + first;
    const uint16_t* from = x;
    size_t left = tokens;
    while (left >= 2) {
      // Never 3 and 1: one token alone has one sum to wait for.
      const size_t taken = left == 2 || left == 4 ? 2 : 3;
      (taken == 3 ? row_tiles<8, 3> : row_tiles<8, 2>)(to, out_stride, from, block, count, cols,
                                                       ahead);
      to += taken * out_stride;
      from += taken * cols;
      left -= taken;
      ahead = nullptr;
    }
    if (left == 1) row_tiles<1, 1>(to, out_stride, from, block, count, cols, ahead);
  }
}

}  // namespace

void install_avx512bf16(Kernels& kernels) noexcept { kernels.matmul_bf16_pairs = matmul; }

}  // namespace cabochon::cpu
