// Queries against a block of keys inside their running softmaxes, and the merge of two such states;
// the definition.
//
// Math      attend_*, round_row, merge_attention in cpu/kernels.h.
// Layout    keys and values [kKeyBlock, columns], queries and attended [count, columns], row-major.
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

template <class Kv>
float term(const ScoreTerm& term, size_t query, size_t key) noexcept {
  const auto* left = static_cast<const float*>(term.queries) + query * term.size;
  return dot(left, static_cast<const Kv*>(term.keys) + key * term.size, term.size);
}

template <>
float term<int8_t>(const ScoreTerm& term, size_t query, size_t key) noexcept {
  const auto* left = static_cast<const int8_t*>(term.queries) + query * term.size;
  const auto* right = static_cast<const int8_t*>(term.keys) + key * term.size;
  int32_t sum = 0;
  for (size_t k = 0; k < term.size; ++k) sum += left[k] * right[k];
  return static_cast<float>(sum) * (term.query_scales[query] * term.key_scales[key]);
}

float widen(int8_t code) noexcept { return static_cast<float>(code); }

// Query q. `seen` is what it sees of the block.
template <class Kv>
void attend_one(SoftmaxState* state, float* attended, size_t q, KeyRange seen,
                const AttentionBlock& block) noexcept {
  const size_t head_dim = block.head_dim;
  const Kv* values = static_cast<const Kv*>(block.values);

  float scores[kKeyBlock];
  float max = state->max;
  for (size_t i = seen.first; i < seen.last; ++i) {
    float sum = term<Kv>(block.terms[0], q, i);
    if (block.term_count == 2) sum += term<Kv>(block.terms[1], q, i);
    scores[i] = block.scale * sum;
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
  for (size_t i = seen.first; i < seen.last && block.value_scales != nullptr; ++i) {
    weights[i] *= block.value_scales[i];
  }
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
    attend_one<Kv>(states + q, attended + q * block->head_dim, q, block->visible[q], *block);
  }
}

// As in scalar/quantize.cc, which says why.
float round_row(int8_t* codes, const float* x, size_t n) noexcept {
  uint32_t largest = 0;
  for (size_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, &x[i], sizeof bits);
    if ((bits & 0x7fffffffu) > largest) largest = bits & 0x7fffffffu;
  }
  float absmax;
  std::memcpy(&absmax, &largest, sizeof absmax);
  const bool is_finite = std::isfinite(absmax);
  const float factor = absmax < 0x1p-120f ? 0.0f : 127.0f / absmax;
  for (size_t i = 0; i < n; ++i) {
    codes[i] = is_finite ? static_cast<int8_t>(std::lrint(x[i] * factor)) : int8_t{0};
  }
  return is_finite ? absmax / 127.0f : __builtin_nanf("");
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
  kernels.attend_int8 = attend<int8_t>;
  kernels.round_row = round_row;
  kernels.merge_attention = merge_attention;
}

}  // namespace cabochon::cpu::scalar_tier
