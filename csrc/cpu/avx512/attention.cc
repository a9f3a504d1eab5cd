// One query against a block of keys inside a running softmax, and the merge of two such states,
// AVX-512.
//
// Math      attend_f32, attend_bf16, merge_attention in cpu/kernels.h; cpu/scalar/attention.cc
//           defines them.
// Layout    keys and values [kKeyBlock, head_dim], row-major; attended [head_dim].
// Method    scores are a matmul of the visible keys with one token; meanwhile the values are
//           prefetched. They pass 128 columns at a time, sums in 8 registers for all keys.
// Numerics  same bits as scalar. A NaN score stays out of the maximum, as there.
#include "cpu/avx512/matmul.h"

namespace cabochon::cpu::avx512_tier {
namespace {

// exp(from - to), 1 where they are equal.
float rescale(float from, float to) {
  return from == to ? 1.0f : _mm512_cvtss_f32(exp_lanes(_mm512_set1_ps(from - to)));
}

// attended [kVectors * 16] = attended * factor + weighted values, key by key. The last vector has
// the given lanes.
template <int kVectors, class Kv>
void add_values(float* attended, float factor, const float* weights, const Kv* values,
                const AttentionBlock& block, __mmask16 lanes) {
  __m512 sums[kVectors];
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) {
    sums[v] = _mm512_mul_ps(load(attended + v * kLanes, lanes), _mm512_set1_ps(factor));
  }
  for (size_t i = block.first; i < block.last; ++i) {
    const __m512 weight = _mm512_set1_ps(weights[i]);
    const Kv* value = values + i * block.head_dim;
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      sums[v] = _mm512_fmadd_ps(weight, load(value + v * kLanes, lanes), sums[v]);
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) store(attended + v * kLanes, sums[v], lanes);
}

template <class Kv>
void attend(SoftmaxState* state, float* attended, const AttentionBlock* block) noexcept {
  const size_t head_dim = block->head_dim;
  const Kv* keys = static_cast<const Kv*>(block->keys) + block->first * head_dim;
  const Kv* values = static_cast<const Kv*>(block->values);
  const size_t count = block->last - block->first;
  const uint64_t visible = (~uint64_t{0} >> (kKeyBlock - count)) << block->first;

  float weights[kKeyBlock] = {};
  row_tiles<4, 1>(weights + block->first, count, block->query, keys, count, head_dim,
                  values + block->first * head_dim);

  __m512 scores[kKeyBlock / kLanes];
  __m512 largest = _mm512_set1_ps(state->max);
#pragma GCC unroll 16
  for (size_t v = 0; v < kKeyBlock / kLanes; ++v) {
    const auto lanes = static_cast<__mmask16>(visible >> (v * kLanes));
    scores[v] = _mm512_mul_ps(_mm512_set1_ps(block->scale), load(weights + v * kLanes));
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
  size_t d = 0;
  for (; d + 8 * kLanes <= head_dim; d += 8 * kLanes) {
    add_values<8>(attended + d, factor, weights, values + d, *block, kAllLanes);
  }
  for (; d < head_dim; d += kLanes) {
    add_values<1>(attended + d, factor, weights, values + d, *block, first_lanes(head_dim - d));
  }
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
  kernels.merge_attention = merge_attention;
}

}  // namespace cabochon::cpu::avx512_tier
