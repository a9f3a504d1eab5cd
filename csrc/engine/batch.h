// What one step computes and gives back. A sequence is the caller's and comes in whole each time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sampler.h"

namespace cabochon {

struct SequenceSlice {
  int64_t first_token, tokens;  // its rows of Batch::tokens: a prompt chunk, or one token
  int64_t position;             // absolute position of the first; all before it is in the cache
  std::span<const int32_t> global_pages, sliding_pages;
  const SamplingArgs* sampling = nullptr;  // needed where a row wants kSample
  std::span<const int32_t> history = {};   // prompt and output, for the repetition penalty
  Mask mask = {};                          // of what is drawn in this step
};

enum class Want : uint8_t { kSample, kTarget, kTop, kLogits };
inline constexpr int kWants = 4;

// Rows without a wish stop at the last layer that owns keys and values, once those are stored.
struct Wish {
  // Row of Batch::tokens; wishes ascend by it. Any number of kTarget may share a row, whose logits
  // are computed once.
  int32_t token;
  Want want;
  int32_t target;  // the token whose log-probability kTarget asks for
};

struct Batch {
  std::span<const int32_t> tokens;            // [tokens]
  std::vector<SequenceSlice> sequences = {};  // in the order of their rows, covering all of them
  std::vector<Wish> wishes = {};
  int top = 0;  // how many of the most likely tokens each wish reports
};

enum class WishStatus : int32_t { kOk = 0, kNotFinite = 1, kNothingToDraw = 2 };

// Where the results go: arrays of the caller, one entry a wish, in the order of the wishes.
struct StepResult {
  std::span<int32_t> tokens;      // drawn (kSample), the target (kTarget), else the most likely
  std::span<float> logprobs;      // of that token: the model's own, before any change of the logits
  std::span<int32_t> best;        // the most likely token, ties to the lowest id
  std::span<int32_t> top_ids;     // [wishes, top]
  std::span<float> top_logprobs;  // [wishes, top]
  std::span<float> logits;        // [wishes of kLogits, vocab]
  std::span<int32_t> status;      // WishStatus
  std::span<int32_t> failures;    // [sequences]: 1 where a per-layer row could not be read
};

}  // namespace cabochon
