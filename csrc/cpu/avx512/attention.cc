// Queries against a block of keys inside their running softmaxes, and the merge of two such states,
// AVX-512.
//
// Math      attend_*, round_row, merge_attention in cpu/kernels.h; cpu/scalar/attention.cc
//           defines them.
// Layout    queries and attended [count, columns], keys and values [kKeyBlock, columns].
// Method    Queries go in tiles of up to 6. Scores are a matmul of the keys that any query sees, 16
//           keys at a time so that they stay in L1 while all queries pass; meanwhile the values are
//           prefetched. Values pass 128 columns at a time, 6 x 64 sums in registers, for the keys
//           that all queries of a tile see; keys that only some see go by the query.
// Numerics  same bits as scalar: a sum has one accumulator, filled in the order of keys. A NaN
// score
//           stays out of the maximum, as there.
#include "cpu/avx512/matmul.h"

namespace cabochon::cpu::avx512_tier {
namespace {

constexpr size_t kColumnsInCache = 128;  // of the values of a block

inline __m512 widen(__m128i codes) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)); }
inline __m512 load(const int8_t* x) {
  return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}
inline __m512 load(const int8_t* x, __mmask16 lanes) {
  return widen(_mm_maskz_loadu_epi8(lanes, x));
}

// exp(from - to), 1 where they are equal.
float rescale(float from, float to) {
  return from == to ? 1.0f : _mm512_cvtss_f32(exp_lanes(_mm512_set1_ps(from - to)));
}

// attended [kQueries][kVectors * 16] = attended * factor + weighted values of the keys `seen`, key
// by key. With one vector, it has the given lanes. g++ 12 keeps sums in registers only if every
// loop over them is unrolled.
template <int kQueries, int kVectors, class Kv>
[[gnu::noinline]] void value_tile(float* attended, const float* factors, const float* weights,
                                  const Kv* values, KeyRange seen, size_t head_dim,
                                  __mmask16 lanes) noexcept {
  __m512 sums[kQueries][kVectors];
#pragma GCC unroll 16
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      const float* from = attended + q * head_dim + v * kLanes;
      const __m512 kept = kVectors == 1 ? load(from, lanes) : load(from);
      sums[q][v] = _mm512_mul_ps(kept, _mm512_set1_ps(factors[q]));
    }
  }
  for (size_t i = seen.first; i < seen.last; ++i) {
    const Kv* value = values + i * head_dim;
    __m512 widened[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      widened[v] = kVectors == 1 ? load(value, lanes) : load(value + v * kLanes);
    }
#pragma GCC unroll 16
    for (int q = 0; q < kQueries; ++q) {
      const __m512 weight = _mm512_set1_ps(weights[q * kKeyBlock + i]);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        sums[q][v] = _mm512_fmadd_ps(weight, widened[v], sums[q][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      store(attended + q * head_dim + v * kLanes, sums[q][v], kVectors == 1 ? lanes : kAllLanes);
    }
  }
}

// `columns` of kQueries queries that see the same keys.
template <int kQueries, class Kv>
void add_values(float* attended, const float* factors, const float* weights, const Kv* values,
                KeyRange seen, size_t columns, size_t head_dim) {
  constexpr int kVectors = kQueries == 1 ? 8 : 4;  // one query alone needs as many chains of fmas
  size_t d = 0;
  for (; d + kVectors * kLanes <= columns; d += kVectors * kLanes) {
    value_tile<kQueries, kVectors>(attended + d, factors, weights, values + d, seen, head_dim,
                                   kAllLanes);
  }
  for (; d < columns; d += kLanes) {
    value_tile<kQueries, 1>(attended + d, factors, weights, values + d, seen, head_dim,
                            first_lanes(columns - d));
  }
}

// The same for queries that may see different keys: those before and after the common ones go by
// the query, so that each still takes its keys in ascending order.
template <int kQueries, class Kv>
void add_values_seen(float* attended, const float* factors, const float* weights, const Kv* values,
                     const KeyRange* visible, size_t columns, size_t head_dim) {
  KeyRange common = visible[0];
  bool is_same = true;
  for (int q = 1; q < kQueries; ++q) {
    const KeyRange seen = visible[q];
    is_same = is_same && seen.first == visible[0].first && seen.last == visible[0].last;
    if (seen.first > common.first) common.first = seen.first;
    if (seen.last < common.last) common.last = seen.last;
  }
  if (is_same) {
    add_values<kQueries>(attended, factors, weights, values, common, columns, head_dim);
    return;
  }
  const float ones[] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
  const bool is_apart = common.first >= common.last;
  for (size_t q = 0; q < kQueries; ++q) {
    const KeyRange before = {visible[q].first, is_apart ? visible[q].last : common.first};
    add_values<1>(attended + q * head_dim, factors + q, weights + q * kKeyBlock, values, before,
                  columns, head_dim);
  }
  if (is_apart) return;
  add_values<kQueries>(attended, ones, weights, values, common, columns, head_dim);
  for (size_t q = 0; q < kQueries; ++q) {
    const KeyRange after = {common.last, visible[q].last};
    if (after.first == after.last) continue;
    add_values<1>(attended + q * head_dim, ones, weights + q * kKeyBlock, values, after, columns,
                  head_dim);
  }
}

// Calls body(first query, how many as a type) for tiles of up to 6 queries, as even as can be.
template <int n>
struct Count {
  static constexpr int value = n;
};
template <class Body>
void for_each_tile(size_t count, Body body) {
  for (size_t q = 0, tiles = (count + 5) / 6; tiles > 0; --tiles) {
    const size_t size = (count - q + tiles - 1) / tiles;
    if (size == 6) body(q, Count<6>{});
    if (size == 5) body(q, Count<5>{});
    if (size == 4) body(q, Count<4>{});
    if (size == 3) body(q, Count<3>{});
    if (size == 2) body(q, Count<2>{});
    if (size == 1) body(q, Count<1>{});
    q += size;
  }
}

// What any of the queries sees.
KeyRange seen_by_any(const AttentionBlock& block) {
  KeyRange any = block.visible[0];
  for (size_t q = 1; q < block.count; ++q) {
    if (block.visible[q].first < any.first) any.first = block.visible[q].first;
    if (block.visible[q].last > any.last) any.last = block.visible[q].last;
  }
  return any;
}

// out [count][kKeyBlock] = this term of the scores, for the keys `seen`. Meanwhile as many bytes
// are prefetched from `ahead` on, null for none.
template <class Kv>
void dot_keys(float* out, const ScoreTerm& term, size_t count, KeyRange seen, const Kv* ahead) {
  const auto* all = static_cast<const float*>(term.queries);
  const Kv* keys = static_cast<const Kv*>(term.keys);
  for (size_t i = seen.first; i < seen.last; i += kRowsInCache) {
    const size_t rows = seen.last - i < kRowsInCache ? seen.last - i : kRowsInCache;
    for_each_tile(count, [&](size_t q, auto size) {
      constexpr int kQueries = decltype(size)::value;
      row_tiles<kQueries == 1 ? 1 : 4, kQueries>(
          out + q * kKeyBlock + i, kKeyBlock, all + q * term.size, keys + i * term.size, rows,
          term.size, q == 0 && ahead ? ahead + i * term.size : nullptr);
    });
  }
}

// Sums of the lanes of four registers; exact in any order.
__m128i add_lanes(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i four =
      _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  const __m256i two =
      _mm256_add_epi32(_mm512_castsi512_si256(four), _mm512_extracti64x4_epi64(four, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1));
}

__m512i load_codes(const int8_t* codes, size_t count) {
  const __mmask64 bytes = count < 64 ? (__mmask64{1} << count) - 1 : ~__mmask64{0};
  return _mm512_maskz_loadu_epi8(bytes, codes);
}

// Four keys from `key` on by kQueries queries from `query` on. vpdpbusd wants one side unsigned:
// keys are taken as code + 128, and 128 times the sum of the query's codes goes off again.
template <int kQueries>
[[gnu::noinline]] void int8_tile(float* out, const ScoreTerm& term, size_t query, size_t key,
                                 const int32_t* query_sums, const int8_t* ahead) noexcept {
  const auto* queries = static_cast<const int8_t*>(term.queries) + query * term.size;
  const auto* keys = static_cast<const int8_t*>(term.keys) + key * term.size;
  const __m512i sign = _mm512_set1_epi8(-128);
  __m512i sums[kQueries][4];
#pragma GCC unroll 16
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
    for (int r = 0; r < 4; ++r) sums[q][r] = _mm512_setzero_si512();
  }
  for (size_t k = 0; k < term.size; k += 64) {
    const size_t left = term.size - k;
    __m512i unsigned_keys[4];
#pragma GCC unroll 16
    for (size_t r = 0; r < 4; ++r) {
      unsigned_keys[r] = _mm512_xor_si512(load_codes(keys + r * term.size + k, left), sign);
      if (ahead) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead + r * term.size + k), _MM_HINT_T0);
      }
    }
#pragma GCC unroll 16
    for (size_t q = 0; q < kQueries; ++q) {
      const __m512i codes = load_codes(queries + q * term.size + k, left);
#pragma GCC unroll 16
      for (int r = 0; r < 4; ++r) {
        sums[q][r] = _mm512_dpbusd_epi32(sums[q][r], unsigned_keys[r], codes);
      }
    }
  }
  const __m128 key_scales = _mm_loadu_ps(term.key_scales + key);
#pragma GCC unroll 16
  for (int q = 0; q < kQueries; ++q) {
    const __m128i dots = _mm_sub_epi32(add_lanes(sums[q][0], sums[q][1], sums[q][2], sums[q][3]),
                                       _mm_set1_epi32(128 * query_sums[q]));
    const __m128 scales = _mm_mul_ps(_mm_set1_ps(term.query_scales[query + q]), key_scales);
    _mm_storeu_ps(out + q * kKeyBlock, _mm_mul_ps(_mm_cvtepi32_ps(dots), scales));
  }
}

template <>
void dot_keys(float* out, const ScoreTerm& term, size_t count, KeyRange seen, const int8_t* ahead) {
  int32_t query_sums[kMaxQueries];
  for (size_t q = 0; q < count; ++q) {
    const auto* codes = static_cast<const int8_t*>(term.queries) + q * term.size;
    __m512i sums = _mm512_setzero_si512();
    for (size_t k = 0; k < term.size; k += 64) {
      sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), load_codes(codes + k, term.size - k));
    }
    query_sums[q] = _mm512_reduce_add_epi32(sums);
  }
  // Whole groups of four, whether all are seen or not.
  for (size_t i = seen.first / 4 * 4; i < seen.last; i += 4) {
    for_each_tile(count, [&](size_t q, auto size) {
      int8_tile<decltype(size)::value>(out + q * kKeyBlock + i, term, q, i, query_sums + q,
                                       q == 0 && ahead ? ahead + i * term.size : nullptr);
    });
  }
}

// Dots to weights, in place; returns what attended is to be multiplied by.
float take_scores(SoftmaxState* state, float* weights, KeyRange seen, float scale) {
  const uint64_t visible = (~uint64_t{0} >> (kKeyBlock - (seen.last - seen.first))) << seen.first;
  __m512 scores[kKeyBlock / kLanes];
  __m512 largest = _mm512_set1_ps(state->max);
#pragma GCC unroll 16
  for (size_t v = 0; v < kKeyBlock / kLanes; ++v) {
    const auto lanes = static_cast<__mmask16>(visible >> (v * kLanes));
    scores[v] = _mm512_mul_ps(_mm512_set1_ps(scale), load(weights + v * kLanes, lanes));
    // max gives its second operand where one is NaN.
    largest = _mm512_mask_max_ps(largest, lanes, scores[v], largest);
  }
  const float max = _mm512_reduce_max_ps(largest) + 0.0f;

  __m512 sums = _mm512_setzero_ps();
#pragma GCC unroll 16
  for (size_t v = 0; v < kKeyBlock / kLanes; ++v) {
    const auto lanes = static_cast<__mmask16>(visible >> (v * kLanes));
    const __m512 terms =
        _mm512_maskz_mov_ps(lanes, exp_lanes(_mm512_sub_ps(scores[v], _mm512_set1_ps(max))));
    sums = _mm512_add_ps(sums, terms);
    _mm512_storeu_ps(weights + v * kLanes, terms);
  }

  const float factor = rescale(state->max, max);
  state->max = max;
  state->sum = __builtin_fmaf(state->sum, factor, add_lanes(sums));
  return factor;
}

template <class Kv>
void attend(SoftmaxState* states, float* attended, const AttentionBlock* block) noexcept {
  const size_t head_dim = block->head_dim;
  const Kv* values = static_cast<const Kv*>(block->values);
  const KeyRange any = seen_by_any(*block);
  float weights[kMaxQueries * kKeyBlock];
  float factors[kMaxQueries];
  dot_keys<Kv>(weights, block->terms[0], block->count, any,
               block->terms[0].keys == values ? nullptr : values);
  if (block->term_count == 2) {
    float more[kMaxQueries * kKeyBlock];
    dot_keys<Kv>(more, block->terms[1], block->count, any, nullptr);
    for (size_t q = 0; q < block->count; ++q) {
      for (size_t i = any.first; i < any.last; ++i) {
        weights[q * kKeyBlock + i] += more[q * kKeyBlock + i];
      }
    }
  }
  for (size_t q = 0; q < block->count; ++q) {
    const KeyRange seen = block->visible[q];
    float* of_query = weights + q * kKeyBlock;
    factors[q] = take_scores(states + q, of_query, seen, block->scale);
    for (size_t i = seen.first; i < seen.last && block->value_scales; ++i) {
      of_query[i] *= block->value_scales[i];
    }
  }
  for (size_t d = 0; d < head_dim; d += kColumnsInCache) {
    const size_t columns = head_dim - d < kColumnsInCache ? head_dim - d : kColumnsInCache;
    for_each_tile(block->count, [&](size_t q, auto size) {
      add_values_seen<decltype(size)::value>(attended + q * head_dim + d, factors + q,
                                             weights + q * kKeyBlock, values + d,
                                             block->visible + q, columns, head_dim);
    });
  }
}

float round_row(int8_t* codes, const float* x, size_t n) noexcept {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i bits = _mm512_setzero_si512();
  for_each_block(n, [&](size_t i, __mmask16 lanes) {
    bits = _mm512_max_epu32(bits,
                            _mm512_and_si512(_mm512_castps_si512(load(x + i, lanes)), magnitude));
  });
  const uint32_t largest = _mm512_reduce_max_epu32(bits);
  float absmax;
  __builtin_memcpy(&absmax, &largest, sizeof absmax);
  const __mmask16 finite = largest < 0x7f800000 ? kAllLanes : __mmask16{0};
  const __m512 factor = _mm512_set1_ps(absmax < 0x1p-120f ? 0.0f : 127.0f / absmax);
  for_each_block(n, [&](size_t i, __mmask16 lanes) {
    const __m512i code =
        _mm512_maskz_cvtps_epi32(finite, _mm512_mul_ps(load(x + i, lanes), factor));
    _mm_mask_storeu_epi8(codes + i, lanes, _mm512_cvtepi32_epi8(code));
  });
  return finite ? absmax / 127.0f : __builtin_nanf("");
}

void merge_attention(SoftmaxState* state, float* attended, const SoftmaxState* part_state,
                     const float* part, size_t head_dim) noexcept {
  const float max = (part_state->max > state->max ? part_state->max : state->max) + 0.0f;
  const float factor = rescale(state->max, max);
  const float part_factor = rescale(part_state->max, max);
  state->max = max;
  state->sum = __builtin_fmaf(part_state->sum, part_factor, state->sum * factor);
  for_each_block(head_dim, [=](size_t d, __mmask16 lanes) {
    const __m512 kept = _mm512_mul_ps(load(attended + d, lanes), _mm512_set1_ps(factor));
    store(attended + d, _mm512_fmadd_ps(load(part + d, lanes), _mm512_set1_ps(part_factor), kept),
          lanes);
  });
}

}  // namespace

void install_attention(Kernels& kernels) noexcept {
  kernels.attend_f32 = attend<float>;
  kernels.attend_bf16 = attend<uint16_t>;
  kernels.attend_int8 = attend<int8_t>;
  kernels.round_row = round_row;
  kernels.merge_attention = merge_attention;
}

}  // namespace cabochon::cpu::avx512_tier
