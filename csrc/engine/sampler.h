// From logits to one token. Does not know text, devices or who asked.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cabochon {

// Options of one sequence. Ranges are checked by the constructor of the binding.
struct SamplingArgs {
  float temperature = 0.0f;  // 0: the largest logit, ties to the lowest id
  int top_k = 0;             // 0: off
  double top_p = 1.0, min_p = 0.0;
  float repetition_penalty = 1.0f;
  uint64_t seed = 0;
  std::vector<int32_t> banned;    // never drawn
  std::vector<int32_t> bias_ids;  // bias_values[i] is added to logit bias_ids[i]
  std::vector<float> bias_values;
};

struct Candidate {
  float logit;
  int32_t id;
};

// Ids that may be drawn: bit id % 32 of word id / 32, ceil(vocab / 32) words; empty: all of them.
// Bits from vocab on mean nothing.
using Mask = std::span<const uint32_t>;

// Before every other in a list: larger logit, then lower id.
inline bool precedes(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// One row of the head's results (HeadArgs).
struct Logits {
  std::span<float> values;   // [vocab]
  std::span<float> largest;  // of each block of kLogitBlock ids
};

// Buffers that a step reuses.
class Sampler {
 public:
  // Makes room for largest(k) and, with args, for draw(args) with a history of this length: after
  // that they allocate nothing and throw nothing.
  void prepare(size_t vocab, size_t k, const SamplingArgs* args, size_t history);

  // The k first entries of logits by (logit descending, id ascending), of those that mask has:
  // fewer where it has fewer. Valid until the next call.
  std::span<const Candidate> largest(const Logits& logits, size_t k, Mask mask = {});

  // Draws the token of `position`. Order, fixed: bans, bias, repetition penalty (over `history`),
  // mask; temperature 0 ends here; top_k, division by the temperature (which keeps the order),
  // top_p, min_p, each on what the one before left; one 53-bit uniform number against the running
  // float64 sum of probabilities, survivors in the order of `precedes`. -1 when nothing is left to
  // draw. The values of logits are changed on the way and are as before at the end; `largest` is
  // not.
  int32_t draw(const Logits& logits, const SamplingArgs& args, std::span<const int32_t> history,
               Mask mask, int64_t position);

 private:
  void change(const Logits& logits, const SamplingArgs& args, std::span<const int32_t> history);
  int32_t pick(const Logits& logits, const SamplingArgs& args, Mask mask, int64_t position);
  void list_blocks(const Logits& logits, Mask mask);
  void sort_all(std::span<const float> values, Mask mask);

  std::vector<Candidate> candidates_, sorted_;
  std::vector<int32_t> blocks_;
  std::vector<Candidate> changes_;  // values before each change, in order
  std::vector<int32_t> seen_;
  std::vector<double> weights_;
};

}  // namespace cabochon
