#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "base/random.h"
#include "ops/args.h"

namespace cabochon {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();
constexpr size_t kHeapLimit = 256;  // above it, sorting everything costs less

constexpr size_t kWordBits = 32, kBlockWords = size_t{kLogitBlock} / kWordBits;
static_assert(kLogitBlock % kWordBits == 0);

Mask words_of(Mask mask, size_t block) {
  const size_t begin = block * kBlockWords;
  return mask.subspan(begin, std::min(kBlockWords, mask.size() - begin));
}

// call(id) for each id of one block that the mask has, ascending.
template <typename Call>
void for_each_allowed(size_t vocab, Mask mask, size_t block, Call&& call) {
  const size_t begin = block * size_t{kLogitBlock};
  const size_t end = std::min(begin + size_t{kLogitBlock}, vocab);
  if (mask.empty()) {
    for (size_t id = begin; id < end; ++id) call(id);
    return;
  }
  size_t first = begin;
  for (uint32_t word : words_of(mask, block)) {
    for (; word != 0; word &= word - 1) {
      const size_t id = first + static_cast<size_t>(std::countr_zero(word));
      if (id >= end) return;
      call(id);
    }
    first += kWordBits;
  }
}

}  // namespace

void Sampler::prepare(size_t vocab, size_t k, const SamplingArgs* args, size_t history) {
  const bool is_drawn = args != nullptr && args->temperature != 0.0f;
  if (is_drawn) k = std::max(k, args->top_k == 0 ? vocab : static_cast<size_t>(args->top_k));
  const size_t entries = k > kHeapLimit ? vocab : kHeapLimit;
  candidates_.reserve(entries);
  if (k > kHeapLimit) sorted_.reserve(entries);
  if (is_drawn) weights_.reserve(entries);
  blocks_.reserve(vocab / kLogitBlock + 1);
  if (args == nullptr) return;
  const bool is_penalized = args->repetition_penalty != 1.0f;
  if (is_penalized) seen_.reserve(history);
  changes_.reserve(args->banned.size() + args->bias_ids.size() + (is_penalized ? history : 0));
}

std::span<const Candidate> Sampler::largest(const Logits& logits, size_t k, Mask mask) {
  k = std::min(k, logits.values.size());
  candidates_.clear();
  if (k == 0) return {};
  if (k > kHeapLimit) {
    sort_all(logits.values, mask);
    return std::span<const Candidate>(candidates_).first(std::min(k, candidates_.size()));
  }
  list_blocks(logits, mask);
  const auto first_of = [&](int32_t block) {
    return Candidate{logits.largest[static_cast<size_t>(block)],
                     block * static_cast<int32_t>(kLogitBlock)};
  };
  const auto comes_later = [&](int32_t a, int32_t b) { return precedes(first_of(b), first_of(a)); };
  std::make_heap(blocks_.begin(), blocks_.end(), comes_later);
  while (!blocks_.empty()) {
    // No entry of this block, or of one after it, comes before what its largest would be at its
    // first id.
    const int32_t block = blocks_.front();
    if (candidates_.size() == k && !precedes(first_of(block), candidates_.front())) break;
    std::pop_heap(blocks_.begin(), blocks_.end(), comes_later);
    blocks_.pop_back();
    for_each_allowed(logits.values.size(), mask, static_cast<size_t>(block), [&](size_t id) {
      // A heap whose front is the last of the k.
      const Candidate next{logits.values[id], static_cast<int32_t>(id)};
      if (candidates_.size() == k) {
        if (!precedes(next, candidates_.front())) return;
        std::pop_heap(candidates_.begin(), candidates_.end(), precedes);
        candidates_.pop_back();
      }
      candidates_.push_back(next);
      std::push_heap(candidates_.begin(), candidates_.end(), precedes);
    });
  }
  std::sort_heap(candidates_.begin(), candidates_.end(), precedes);
  return candidates_;
}

// Those that have an id which the mask has. Their largest may be one that it has not: it bounds
// the others all the same.
void Sampler::list_blocks(const Logits& logits, Mask mask) {
  blocks_.resize(logits.largest.size());
  std::iota(blocks_.begin(), blocks_.end(), 0);
  if (mask.empty()) return;
  std::erase_if(blocks_, [&](int32_t block) {
    const auto words = words_of(mask, static_cast<size_t>(block));
    return std::all_of(words.begin(), words.end(), [](uint32_t word) { return word == 0; });
  });
}

// Digit by digit, from the last: each pass keeps the order of equal digits, so equal logits stay
// in the order of their ids.
void Sampler::sort_all(std::span<const float> values, Mask mask) {
  constexpr int kBits = 11, kPasses = 3;
  constexpr size_t kDigits = size_t{1} << kBits;
  // A whole number that is smaller where the logit is larger; + 0 makes -0 and +0 equal.
  const auto key = [](float logit) {
    const auto bits = std::bit_cast<uint32_t>(logit + 0.0f);
    return (bits >> 31) != 0 ? bits : ~bits & 0x7fffffffu;
  };
  candidates_.clear();
  for (size_t block = 0; block * size_t{kLogitBlock} < values.size(); ++block) {
    for_each_allowed(values.size(), mask, block, [&](size_t id) {
      candidates_.push_back({values[id], static_cast<int32_t>(id)});
    });
  }
  sorted_.resize(candidates_.size());
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto digit = [&](const Candidate& c) {
      return size_t{key(c.logit) >> (kBits * pass)} & (kDigits - 1);
    };
    std::array<uint32_t, kDigits> places{};
    for (const Candidate& c : candidates_) ++places[digit(c)];
    std::exclusive_scan(places.begin(), places.end(), places.begin(), 0u);
    for (const Candidate& c : candidates_) sorted_[places[digit(c)]++] = c;
    std::swap(candidates_, sorted_);
  }
}

void Sampler::change(const Logits& logits, const SamplingArgs& args,
                     std::span<const int32_t> history) {
  changes_.clear();
  const auto set = [&](int32_t id, auto&& changed) {
    float& logit = logits.values[static_cast<size_t>(id)];
    changes_.push_back({logit, id});
    logit = changed(logit);
  };
  for (const int32_t id : args.banned) set(id, [](float) { return kBanned; });
  for (size_t i = 0; i < args.bias_ids.size(); ++i) {
    set(args.bias_ids[i], [&](float logit) { return logit + args.bias_values[i]; });
  }
  if (args.repetition_penalty != 1.0f) {
    const float penalty = args.repetition_penalty;
    seen_.assign(history.begin(), history.end());
    std::sort(seen_.begin(), seen_.end());
    seen_.erase(std::unique(seen_.begin(), seen_.end()), seen_.end());
    for (const int32_t id : seen_) {
      set(id, [&](float logit) { return logit < 0.0f ? logit * penalty : logit / penalty; });
    }
  }
  blocks_.assign(logits.largest.size(), 0);
  for (const Candidate& c : changes_) blocks_[static_cast<size_t>(c.id / kLogitBlock)] = 1;
  for (size_t block = 0; block < blocks_.size(); ++block) {
    if (blocks_[block] == 0) continue;
    const size_t begin = block * kLogitBlock;
    const size_t count = std::min(size_t{kLogitBlock}, logits.values.size() - begin);
    logits.largest[block] = largest_of(logits.values.subspan(begin, count));
  }
}

int32_t Sampler::draw(const Logits& logits, const SamplingArgs& args,
                      std::span<const int32_t> history, Mask mask, int64_t position) {
  change(logits, args, history);
  const int32_t token = pick(logits, args, mask, position);
  for (auto c = changes_.rbegin(); c != changes_.rend(); ++c) {
    logits.values[static_cast<size_t>(c->id)] = c->logit;
  }
  return token;
}

int32_t Sampler::pick(const Logits& logits, const SamplingArgs& args, Mask mask, int64_t position) {
  if (args.temperature == 0.0f) {
    const auto best = largest(logits, 1, mask);
    return best.empty() || best[0].logit == kBanned ? -1 : best[0].id;
  }
  const size_t k = args.top_k == 0 ? logits.values.size() : static_cast<size_t>(args.top_k);
  std::span<const Candidate> kept = largest(logits, k, mask);
  while (!kept.empty() && kept.back().logit == kBanned) kept = kept.first(kept.size() - 1);
  if (kept.empty()) return -1;

  double total = 0.0;
  weights_.clear();
  for (const Candidate& candidate : kept) {
    // Divided by the temperature after the subtraction: a tiny one cannot overflow, and the order
    // of the candidates does not depend on it.
    const double below = double{candidate.logit} - double{kept[0].logit};
    weights_.push_back(std::exp(below / double{args.temperature}));
    total += weights_.back();
  }
  // The smallest set whose probability reaches top_p; the first is always in it.
  size_t count = 0;
  for (double sum = 0.0; count < kept.size() && (count == 0 || sum < args.top_p * total); ++count) {
    sum += weights_[count];
  }
  while (count > 1 && weights_[count - 1] < args.min_p * weights_[0]) --count;

  total = 0.0;
  for (size_t i = 0; i < count; ++i) total += weights_[i];
  const double target = uniform(args.seed, static_cast<uint64_t>(position)) * total;
  double sum = 0.0;
  for (size_t i = 0; i < count; ++i) {
    sum += weights_[i];
    if (target < sum) return kept[i].id;
  }
  return kept[count - 1].id;
}

}  // namespace cabochon
