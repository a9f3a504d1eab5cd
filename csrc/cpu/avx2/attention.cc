// Queries against a block of keys inside their running softmaxes, and the merge of two such states,
// AVX2.
//
// Math      attend_*, round_row, merge_attention in cpu/kernels.h; cpu/scalar/attention.cc
//           defines them.
// Layout    queries and attended [count, columns], keys and values [kKeyBlock, columns].
// Method    as in cpu/avx512/attention.cc: scores in tiles of 2 keys x 3 queries, values in tiles
// of
//           6 queries x 16 columns.
// Numerics  same bits as scalar: a sum has one accumulator a lane, filled in the order of keys. A
//           NaN score stays out of the maximum, as there.
#include "cpu/avx2/matmul.h"

namespace cabochon::cpu::avx2_tier {
namespace {

constexpr size_t kColumnsInCache = 64;  // of the values of a block

inline __m256 load(const int8_t* x, size_t count) {
  __m128i codes;
  if (count == kWidth) {
    codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(x));
  } else {
    int8_t padded[16] = {};
    for (size_t i = 0; i < count; ++i) padded[i] = x[i];
    codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(padded));
  }
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
}

// exp(from - to), 1 where they are equal.
float rescale(float from, float to) {
  return from == to ? 1.0f : _mm256_cvtss_f32(exp_lanes(_mm256_set1_ps(from - to)));
}

// attended [kQueries][kVectors * 8] = attended * factor + weighted values of the keys `seen`, key
// by key. With one vector, it has `count` columns. g++ 12 keeps sums in registers only if every
// loop over them is unrolled.
template <int kQueries, int kVectors, class Kv>
[[gnu::noinline]] void value_tile(float* attended, const float* factors, const float* weights,
                                  const Kv* values, KeyRange seen, size_t head_dim,
                                  size_t count) noexcept {
  __m256 sums[kQueries][kVectors];
#pragma GCC unroll 16
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      const float* from = attended + q * head_dim + v * kWidth;
      sums[q][v] =
          _mm256_mul_ps(load(from, kVectors == 1 ? count : kWidth), _mm256_set1_ps(factors[q]));
    }
  }
  for (size_t i = seen.first; i < seen.last; ++i) {
    const Kv* value = values + i * head_dim;
    __m256 widened[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      widened[v] = load(value + v * kWidth, kVectors == 1 ? count : kWidth);
    }
#pragma GCC unroll 16
    for (int q = 0; q < kQueries; ++q) {
      const __m256 weight = _mm256_set1_ps(weights[q * kKeyBlock + i]);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        sums[q][v] = _mm256_fmadd_ps(weight, widened[v], sums[q][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      store(attended + q * head_dim + v * kWidth, sums[q][v], kVectors == 1 ? count : kWidth);
    }
  }
}

// `columns` of kQueries queries that see the same keys.
template <int kQueries, class Kv>
void add_values(float* attended, const float* factors, const float* weights, const Kv* values,
                KeyRange seen, size_t columns, size_t head_dim) {
  constexpr int kVectors = kQueries == 1 ? 8 : 2;  // one query alone needs as many chains of fmas
  size_t d = 0;
  for (; d + kVectors * kWidth <= columns; d += kVectors * kWidth) {
    value_tile<kQueries, kVectors>(attended + d, factors, weights, values + d, seen, head_dim,
                                   kWidth);
  }
  for (; d < columns; d += kWidth) {
    value_tile<kQueries, 1>(attended + d, factors, weights, values + d, seen, head_dim,
                            columns - d < kWidth ? columns - d : kWidth);
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
    for (size_t q = 0; q < count; q += 3) {
      const float* queries = all + q * term.size;
      const Kv* key = keys + i * term.size;
      const Kv* fetched = q == 0 && ahead ? ahead + i * term.size : nullptr;
      float* to = out + q * kKeyBlock + i;
      if (count - q >= 3) row_tiles<3>(to, kKeyBlock, queries, key, rows, term.size, fetched);
      if (count - q == 2) row_tiles<2>(to, kKeyBlock, queries, key, rows, term.size, fetched);
      if (count - q == 1) row_tiles<1>(to, kKeyBlock, queries, key, rows, term.size, fetched);
    }
  }
}

__m256i load_codes(const int8_t* codes) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
}

int32_t add_lanes(__m256i lanes) {
  const __m128i four =
      _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

// Four keys from `key` on by kQueries queries from `query` on, as int16 pairs: exact.
template <int kQueries>
[[gnu::noinline]] void int8_tile(float* out, const ScoreTerm& term, size_t query, size_t key,
                                 const int8_t* ahead) noexcept {
  const auto* queries = static_cast<const int8_t*>(term.queries) + query * term.size;
  const auto* keys = static_cast<const int8_t*>(term.keys) + key * term.size;
  __m256i sums[kQueries][4];
#pragma GCC unroll 16
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
    for (int r = 0; r < 4; ++r) sums[q][r] = _mm256_setzero_si256();
  }
  size_t k = 0;
  for (; k + 16 <= term.size; k += 16) {
    __m256i codes[kQueries];
#pragma GCC unroll 16
    for (size_t q = 0; q < kQueries; ++q) codes[q] = load_codes(queries + q * term.size + k);
#pragma GCC unroll 16
    for (size_t r = 0; r < 4; ++r) {
      const __m256i wide = load_codes(keys + r * term.size + k);
#pragma GCC unroll 16
      for (int q = 0; q < kQueries; ++q) {
        sums[q][r] = _mm256_add_epi32(sums[q][r], _mm256_madd_epi16(wide, codes[q]));
      }
      if (ahead) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead + r * term.size + k), _MM_HINT_T0);
      }
    }
  }
#pragma GCC unroll 16
  for (size_t q = 0; q < kQueries; ++q) {
#pragma GCC unroll 16
    for (size_t r = 0; r < 4; ++r) {
      int32_t dot = add_lanes(sums[q][r]);
      for (size_t i = k; i < term.size; ++i) {
        dot += queries[q * term.size + i] * keys[r * term.size + i];
      }
      out[q * kKeyBlock + r] =
          static_cast<float>(dot) * (term.query_scales[query + q] * term.key_scales[key + r]);
    }
  }
}

template <>
void dot_keys(float* out, const ScoreTerm& term, size_t count, KeyRange seen, const int8_t* ahead) {
  // Whole groups of four, whether all are seen or not.
  for (size_t i = seen.first / 4 * 4; i < seen.last; i += 4) {
    size_t q = 0;
    const int8_t* fetched = ahead ? ahead + i * term.size : nullptr;
    for (; q + 2 <= count; q += 2) {
      int8_tile<2>(out + q * kKeyBlock + i, term, q, i, fetched);
      fetched = nullptr;
    }
    if (q < count) int8_tile<1>(out + q * kKeyBlock + i, term, q, i, fetched);
  }
}

// All ones for the visible keys among the 8 from i on.
__m256i visible_lanes(KeyRange seen, size_t i) {
  const __m256i before = first_lanes(seen.first > i ? seen.first - i : 0);
  const __m256i until = first_lanes(seen.last > i ? seen.last - i : 0);
  return _mm256_andnot_si256(before, until);
}

// Dots to weights, in place; returns what attended is to be multiplied by.
float take_scores(SoftmaxState* state, float* weights, KeyRange seen, float scale) {
  __m256 largest = _mm256_set1_ps(state->max);
  for (size_t i = 0; i < kKeyBlock; i += kWidth) {
    const __m256i lanes = visible_lanes(seen, i);
    const __m256 scores =
        _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_maskload_ps(weights + i, lanes));
    _mm256_storeu_ps(weights + i, scores);
    // max gives its second operand where one is NaN.
    largest = _mm256_blendv_ps(largest, _mm256_max_ps(scores, largest), _mm256_castsi256_ps(lanes));
  }
  float lanes[kWidth];
  _mm256_storeu_ps(lanes, largest);
  float max = lanes[0];
  for (const float lane : lanes) max = lane > max ? lane : max;
  max += 0.0f;

  __m256 low = _mm256_setzero_ps();
  __m256 high = _mm256_setzero_ps();
  for (size_t i = 0; i < kKeyBlock; i += kWidth) {
    const __m256 exps = exp_lanes(_mm256_sub_ps(load(weights + i), _mm256_set1_ps(max)));
    const __m256 terms = _mm256_and_ps(exps, _mm256_castsi256_ps(visible_lanes(seen, i)));
    __m256& sums = i % kLanes == 0 ? low : high;
    sums = _mm256_add_ps(sums, terms);
    _mm256_storeu_ps(weights + i, terms);
  }

  const float factor = rescale(state->max, max);
  state->max = max;
  state->sum = __builtin_fmaf(state->sum, factor, add_lanes(low, high));
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
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i bits = _mm256_setzero_si256();
  for_each_vector(n, [&](size_t i, size_t count) {
    bits = _mm256_max_epu32(bits,
                            _mm256_and_si256(_mm256_castps_si256(load(x + i, count)), magnitude));
  });
  uint32_t lanes[kWidth];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), bits);
  uint32_t largest = 0;
  for (const uint32_t lane : lanes) largest = lane > largest ? lane : largest;
  float absmax;
  __builtin_memcpy(&absmax, &largest, sizeof absmax);
  const bool is_finite = largest < 0x7f800000;
  const __m256i finite = _mm256_set1_epi32(is_finite ? -1 : 0);
  const __m256 factor = _mm256_set1_ps(absmax < 0x1p-120f ? 0.0f : 127.0f / absmax);
  for_each_vector(n, [&](size_t i, size_t count) {
    const __m256i code =
        _mm256_and_si256(finite, _mm256_cvtps_epi32(_mm256_mul_ps(load(x + i, count), factor)));
    const __m128i halves =
        _mm_packs_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
    int8_t bytes[16];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), _mm_packs_epi16(halves, halves));
    for (size_t j = 0; j < count; ++j) codes[i + j] = bytes[j];
  });
  return is_finite ? absmax / 127.0f : __builtin_nanf("");
}

void merge_attention(SoftmaxState* state, float* attended, const SoftmaxState* part_state,
                     const float* part, size_t head_dim) noexcept {
  const float max = (part_state->max > state->max ? part_state->max : state->max) + 0.0f;
  const float factor = rescale(state->max, max);
  const float part_factor = rescale(part_state->max, max);
  state->max = max;
  state->sum = __builtin_fmaf(part_state->sum, part_factor, state->sum * factor);
  for_each_vector(head_dim, [=](size_t d, size_t count) {
    const __m256 kept = _mm256_mul_ps(load(attended + d, count), _mm256_set1_ps(factor));
    store(attended + d, _mm256_fmadd_ps(load(part + d, count), _mm256_set1_ps(part_factor), kept),
          count);
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

}  // namespace cabochon::cpu::avx2_tier
