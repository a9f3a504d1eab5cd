// Queries against a block of keys inside their running softmaxes, and the merge of two such states;
// the definition.
//
// Math      attend_f32, attend_bf16, merge_attention in cpu/kernels.h.
// Layout    keys and values [kKeyBlock, head_dim], row-major; attended [head_dim].
// Numerics  scores in 16 lanes, weights of the whole block in 16 lanes, values key by key.
//           A NaN score takes no part in the maximum but its weight is NaN, and so is the sum. A
//           maximum of -0 is stored as +0, so that it does not depend on which zero came first.
#include "cpu/scalar/scalar.h"

namespace cabochon::cpu::scalar_tier {
namespace {

float larger(float x, float than) noexcept { return x > than ? x : than; }

// What a sum taken relative to `from` is multiplied by to be relative to `to`; 1 also where both
// are -infinity.
float rescale(float from, float to) noexcept { return from == to ? 1.0f : exp_f32(from - to); }

// One query. `seen` is what it sees of the block.
template <class Kv>
void attend_one(SoftmaxState* state, float* attended, const float* query, KeyRange seen,
                const AttentionBlock& block) noexcept {
  const size_t head_dim = block.head_dim;
  const Kv* keys = static_cast<const Kv*>(block.keys);
  const Kv* values = static_cast<const Kv*>(block.values);

  float scores[kKeyBlock];
  float max = state->max;
  for (size_t i = seen.first; i < seen.last; ++i) {
    scores[i] = block.scale * dot(query, keys + i * head_dim, head_dim);
    max = larger(scores[i], max);
  }
  max += 0.0f;

  float weights[kKeyBlock] = {};
  float lanes[kLanes] = {};
  for (size_t i = 0; i < kKeyBlock; ++i) {
    if (seen.first <= i && i < seen.last) weights[i] = exp_f32(scores[i] - max);
    lanes[i % kLanes] += weights[i];
  }

  const float factor = rescale(state->max, max);
  state->max = max;
  state->sum = std::fma(state->sum, factor, add_lanes(lanes));
  for (size_t d = 0; d < head_dim; ++d) {
    float sum = attended[d] * factor;
    for (size_t i = seen.first; i < seen.last; ++i) {
      sum = std::fma(weights[i], widen(values[i * head_dim + d]), sum);
    }
    attended[d] = sum;
  }
}

template <class Kv>
void attend(SoftmaxState* states, float* attended, const AttentionBlock* block) noexcept {
  for (size_t q = 0; q < block->count; ++q) {
    const size_t row = q * block->head_dim;
    attend_one<Kv>(states + q, attended + row, block->queries + row, block->visible[q], *block);
  }
}

void merge_attention(SoftmaxState* state, float* attended, const SoftmaxState* part_state,
                     const float* part, size_t head_dim) noexcept {
  const float max = larger(part_state->max, state->max) + 0.0f;
  const float factor = rescale(state->max, max);
  const float part_factor = rescale(part_state->max, max);
  state->max = max;
  state->sum = std::fma(part_state->sum, part_factor, state->sum * factor);
  for (size_t d = 0; d < head_dim; ++d) {
    attended[d] = std::fma(part[d], part_factor, attended[d] * factor);
  }
}

}  // namespace

void install_attention(Kernels& kernels) noexcept {
  kernels.attend_f32 = attend<float>;
  kernels.attend_bf16 = attend<uint16_t>;
  kernels.merge_attention = merge_attention;
}

}  // namespace cabochon::cpu::scalar_tier
