// Queries against a block of keys inside their running softmaxes, and the merge of two such states,
// AVX2.
//
// Math      attend_f32, attend_bf16, merge_attention in cpu/kernels.h; cpu/scalar/attention.cc
//           defines them.
// Layout    queries and attended [count, head_dim], keys and values [kKeyBlock, head_dim].
// Method    as in cpu/avx512/attention.cc: scores in tiles of 2 keys x 3 queries, values in tiles
// of
//           6 queries x 16 columns.
// Numerics  same bits as scalar: a sum has one accumulator a lane, filled in the order of keys. A
//           NaN score stays out of the maximum, as there.
#include "cpu/avx2/matmul.h"

namespace cabochon::cpu::avx2_tier {
namespace {

constexpr size_t kColumnsInCache = 64;  // of the values of a block

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

// weights [count][kKeyBlock] = dots of queries and the keys that any of them sees.
template <class Kv>
void dot_keys(float* weights, const AttentionBlock& block) {
  const size_t head_dim = block.head_dim;
  const Kv* keys = static_cast<const Kv*>(block.keys);
  const Kv* values = static_cast<const Kv*>(block.values);
  KeyRange any = block.visible[0];
  for (size_t q = 1; q < block.count; ++q) {
    if (block.visible[q].first < any.first) any.first = block.visible[q].first;
    if (block.visible[q].last > any.last) any.last = block.visible[q].last;
  }
  for (size_t i = any.first; i < any.last; i += kRowsInCache) {
    const size_t rows = any.last - i < kRowsInCache ? any.last - i : kRowsInCache;
    for (size_t q = 0; q < block.count; q += 3) {
      const float* queries = block.queries + q * head_dim;
      const Kv* ahead = q == 0 ? values + i * head_dim : nullptr;
      float* to = weights + q * kKeyBlock + i;
      const size_t left = block.count - q;
      if (left >= 3)
        row_tiles<3>(to, kKeyBlock, queries, keys + i * head_dim, rows, head_dim, ahead);
      if (left == 2)
        row_tiles<2>(to, kKeyBlock, queries, keys + i * head_dim, rows, head_dim, ahead);
      if (left == 1)
        row_tiles<1>(to, kKeyBlock, queries, keys + i * head_dim, rows, head_dim, ahead);
    }
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
  float weights[kMaxQueries * kKeyBlock];
  float factors[kMaxQueries];
  dot_keys<Kv>(weights, *block);
  for (size_t q = 0; q < block->count; ++q) {
    factors[q] = take_scores(states + q, weights + q * kKeyBlock, block->visible[q], block->scale);
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
  kernels.merge_attention = merge_attention;
}

}  // namespace cabochon::cpu::avx2_tier
