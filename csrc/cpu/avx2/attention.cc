// One query against a block of keys inside a running softmax, and the merge of two such states,
// AVX2.
//
// Math      attend_f32, attend_bf16, merge_attention in cpu/kernels.h; cpu/scalar/attention.cc
//           defines them.
// Layout    keys and values [kKeyBlock, head_dim], row-major; attended [head_dim].
// Method    scores are a matmul of the visible keys with one token; meanwhile the values are
//           prefetched. They pass 64 columns at a time, sums in 8 registers for all keys.
// Numerics  same bits as scalar. A NaN score stays out of the maximum, as there.
#include "cpu/avx2/matmul.h"

namespace cabochon::cpu::avx2_tier {
namespace {

// exp(from - to), 1 where they are equal.
float rescale(float from, float to) {
  return from == to ? 1.0f : _mm256_cvtss_f32(exp_lanes(_mm256_set1_ps(from - to)));
}

// attended [kVectors * 8] = attended * factor + weighted values, key by key. The last vector has
// `count` columns.
template <int kVectors, class Kv>
void add_values(float* attended, float factor, const float* weights, const Kv* values,
                const AttentionBlock& block, size_t count) {
  __m256 sums[kVectors];
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) {
    sums[v] = _mm256_mul_ps(load(attended + v * kWidth, count), _mm256_set1_ps(factor));
  }
  for (size_t i = block.first; i < block.last; ++i) {
    const __m256 weight = _mm256_set1_ps(weights[i]);
    const Kv* value = values + i * block.head_dim;
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      sums[v] = _mm256_fmadd_ps(weight, load(value + v * kWidth, count), sums[v]);
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) store(attended + v * kWidth, sums[v], count);
}

// All ones for the visible keys among the 8 from i on.
__m256 visible(const AttentionBlock& block, size_t i) {
  const __m256i before = first_lanes(block.first > i ? block.first - i : 0);
  const __m256i until = first_lanes(block.last > i ? block.last - i : 0);
  return _mm256_castsi256_ps(_mm256_andnot_si256(before, until));
}

template <class Kv>
void attend(SoftmaxState* state, float* attended, const AttentionBlock* block) noexcept {
  const size_t head_dim = block->head_dim;
  const Kv* keys = static_cast<const Kv*>(block->keys) + block->first * head_dim;
  const Kv* values = static_cast<const Kv*>(block->values);

  float weights[kKeyBlock] = {};
  const size_t count = block->last - block->first;
  row_tiles<1>(weights + block->first, count, block->query, keys, count, head_dim,
               values + block->first * head_dim);

  __m256 largest = _mm256_set1_ps(state->max);
  for (size_t i = 0; i < kKeyBlock; i += kWidth) {
    const __m256 scores = _mm256_mul_ps(_mm256_set1_ps(block->scale), load(weights + i));
    _mm256_storeu_ps(weights + i, scores);
    // max gives its second operand where one is NaN.
    largest = _mm256_blendv_ps(largest, _mm256_max_ps(scores, largest), visible(*block, i));
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
    const __m256 terms = _mm256_and_ps(exps, visible(*block, i));
    __m256& sums = i % kLanes == 0 ? low : high;
    sums = _mm256_add_ps(sums, terms);
    _mm256_storeu_ps(weights + i, terms);
  }

  const float factor = rescale(state->max, max);
  state->max = max;
  state->sum = __builtin_fmaf(state->sum, factor, add_lanes(low, high));
  size_t d = 0;
  for (; d + 8 * kWidth <= head_dim; d += 8 * kWidth) {
    add_values<8>(attended + d, factor, weights, values + d, *block, kWidth);
  }
  for (; d < head_dim; d += kWidth) {
    const size_t left = head_dim - d;
    add_values<1>(attended + d, factor, weights, values + d, *block, left < kWidth ? left : kWidth);
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
