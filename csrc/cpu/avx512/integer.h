// Tiles of 32 rows and up to 6 tokens for integer weights in panels, AVX-512 VNNI.
//
// Math      matmul_int4 and matmul_int8 in cpu/kernels.h; cpu/scalar/integer.h defines them.
// Layout    a lane is a row: a tile of kTokens x 32 rows has two zmm accumulators a token. 64 bytes
//           of codes are 16 rows by 4 columns, which vpdpbusd multiplies by 4 codes of a token.
// Method    One token streams the panel once. Up to 6 read it once together; with more tokens it
//           stays in L1 or L2 while they pass, 6 at a time, the first of them fetching ahead.
//           Weights are stored with an offset that makes them unsigned; an accumulator begins with
//           minus the offset times the sum of the activations, so that taking it off costs nothing.
// Numerics  same bits as scalar: dots are exact, the float steps are those of the definition.
// Measured  docs/performance.md, "Integer matmul".
#pragma once

#include "cpu/avx512/avx512.h"

namespace cabochon::cpu::avx512_tier {
namespace {

constexpr int kTileTokens = 6;
constexpr int kHalves = 2;  // a panel is two times 16 rows
constexpr size_t kLine = 64;
constexpr size_t kSegmentSums = kSegment / kSumColumns;
constexpr size_t kPrefetchBytes = 2304;

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

inline __m512i load_bytes(const void* from) { return _mm512_loadu_si512(from); }

// The same 4 bytes in every lane.
inline __m512i broadcast4(const void* from) {
  int32_t four;
  __builtin_memcpy(&four, from, sizeof four);
  return _mm512_set1_epi32(four);
}

// The 16 scales of half a panel.
inline __m512 load_scales(const uint8_t* scales, int half) {
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales) + half));
}

// kTokens tokens by the rows of one panel, of which `rows` are stored, over a segment of `cols`
// columns; the sums of earlier segments stand in `out`. Returns where the panel goes on.
template <class Format, size_t kGranule, int kTokens>
[[gnu::noinline]] const uint8_t* tile(const Tokens& x, const uint8_t* panel, size_t cols,
                                      size_t rows, bool is_first, bool prefetch) noexcept {
  // The wider of granule and block.
  constexpr size_t kSpan = kGranule < Format::kBlock ? Format::kBlock : kGranule;
  // What the dots of each 32 columns begin with.
  alignas(kLine) int32_t starts[kTokens][kSegmentSums];
  for (int t = 0; t < kTokens; ++t) {
    const int32_t* sums = x.sums + t * x.cols / kSumColumns;
    for_each_block(cols / kSumColumns, [&](size_t i, __mmask16 lanes) {
      const __m512i sum = _mm512_maskz_loadu_epi32(lanes, sums + i);
      _mm512_store_si512(&starts[t][i], Format::template start<kGranule>(sum));
    });
  }

  __m512 acc[kTokens][kHalves];
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
    for (int h = 0; h < kHalves; ++h) acc[t][h] = _mm512_setzero_ps();
  }
  for (size_t k = 0; k < cols; k += kSpan) {
    __m512 f[kTokens][kHalves];
    const float* scales = x.scales + k / kGranule;
    panel = Format::template span<kGranule>(f, panel, x.codes + k, x.cols, scales, x.granules,
                                            &starts[0][k / kSumColumns], at_most(cols - k, kSpan),
                                            prefetch);
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
      for (int h = 0; h < kHalves; ++h) {
        const __m512 scale = kGranule < Format::kBlock ? load_scales(panel - kLine, h)
                                                       : _mm512_set1_ps(scales[t * x.granules]);
        acc[t][h] = _mm512_fmadd_ps(scale, f[t][h], acc[t][h]);
      }
    }
  }

  const __mmask16 lanes[kHalves] = {first_lanes(rows),
                                    first_lanes(rows > kLanes ? rows - kLanes : 0)};
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
    for (int h = 0; h < kHalves; ++h) {
      float* out = x.out + t * x.out_stride + h * kLanes;
      store(out, is_first ? acc[t][h] : _mm512_add_ps(load(out, lanes[h]), acc[t][h]), lanes[h]);
    }
  }
  return panel;
}

// A panel's rows for all tokens over a segment, as tile.
template <class Format, size_t kGranule>
const uint8_t* segment_of_panel(Tokens x, size_t tokens, const uint8_t* panel, size_t cols,
                                size_t rows, bool is_first) noexcept {
  bool prefetch = true;
  const uint8_t* end = panel;
  for (; tokens >= kTileTokens; tokens -= kTileTokens) {
    end = tile<Format, kGranule, kTileTokens>(x, panel, cols, rows, is_first, prefetch);
    x.out += kTileTokens * x.out_stride;
    x.codes += kTileTokens * x.cols;
    x.scales += kTileTokens * x.granules;
    x.sums += kTileTokens * x.cols / kSumColumns;
    prefetch = false;
  }
  switch (tokens) {
    case 5:
      return tile<Format, kGranule, 5>(x, panel, cols, rows, is_first, prefetch);
    case 4:
      return tile<Format, kGranule, 4>(x, panel, cols, rows, is_first, prefetch);
    case 3:
      return tile<Format, kGranule, 3>(x, panel, cols, rows, is_first, prefetch);
    case 2:
      return tile<Format, kGranule, 2>(x, panel, cols, rows, is_first, prefetch);
    case 1:
      return tile<Format, kGranule, 1>(x, panel, cols, rows, is_first, prefetch);
    default:
      return end;
  }
}

template <class Format, size_t kGranule>
void matmul_granules(float* out, size_t out_stride, const QuantizedRows* x, const uint8_t* panels,
                     size_t rows) noexcept {
  const size_t granules = (x->cols + kGranule - 1) / kGranule;
  for (size_t r = 0; r < rows; r += kPanelRows) {
    Tokens tokens{out + r, out_stride, x->codes, x->scales, x->sums, x->cols, granules};
    size_t segment = 0;
    do {  // once without columns: the sums are 0
      panels = segment_of_panel<Format, kGranule>(tokens, x->tokens, panels,
                                                  at_most(x->cols - segment, kSegment),
                                                  at_most(rows - r, kPanelRows), segment == 0);
      tokens.codes += kSegment;
      tokens.scales += kSegment / kGranule;
      tokens.sums += kSegmentSums;
      segment += kSegment;
    } while (segment < x->cols);
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
}  // namespace cabochon::cpu::avx512_tier
