// From logits to one token. Does not know text, devices or who asked.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.h"

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

// Buffers that a step reuses: room for sorting a whole vocabulary and for changing all of it, so
// drawing allocates nothing and throws nothing, whatever is asked for.
class Sampler {
 public:
  // Rows of logits have up to `vocab` ids. The arena, which must outlive the sampler, has
  // bytes(vocab) left.
  Sampler(Arena& arena, int64_t vocab);

  // What the constructor takes.
  static int64_t bytes(int64_t vocab);

  // The k first entries of logits by (logit descending, id ascending), of those that mask has:
  // fewer where it has fewer. Valid until the next call.
  std::span<const Candidate> largest(const Logits& logits, size_t k, Mask mask = {});

  // Draws the token of `position`. Order, fixed: bans, bias, repetition penalty (over `history`),
  // mask; temperature 0 ends here; top_k, division by the temperature (which keeps the order),
  // top_p, min_p, each on what the one before left; one 53-bit uniform number against the running
  // float64 sum of probabilities, survivors in the order of `precedes`. -1 when nothing is left to
  // draw. The values of logits are changed on the way and are as before at the end; `largest` is
  // not. Ids of args and of the history are those of logits.
  int32_t draw(const Logits& logits, const SamplingArgs& args, std::span<const int32_t> history,
               Mask mask, int64_t position);

 private:
  void change(const Logits& logits, const SamplingArgs& args, std::span<const int32_t> history);
  int32_t pick(const Logits& logits, const SamplingArgs& args, Mask mask, int64_t position);
  std::span<int32_t> list_blocks(const Logits& logits, Mask mask);
  size_t sort_all(std::span<const float> values, Mask mask);

  std::span<Candidate> candidates_, sorted_;  // [vocab] each; the second is free once sorted
  std::span<float> before_;                   // [vocab]: of a marked id, its logit before
  std::span<uint8_t> marks_;                  // [vocab]: what was done to an id; 0 between calls
  std::span<int32_t> blocks_;                 // [ceil(vocab / kLogitBlock)]
};

}  // namespace cabochon
