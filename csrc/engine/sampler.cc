#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/random.h"

namespace cabochon {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();
constexpr size_t kHeapLimit = 256;  // above it, sorting everything costs less

}  // namespace

std::span<const Candidate> Sampler::largest(std::span<const float> logits, size_t k) {
  k = std::min(k, logits.size());
  candidates_.clear();
  if (k == 0) return {};
  if (k > kHeapLimit) {
    for (size_t id = 0; id < logits.size(); ++id) {
      candidates_.push_back({logits[id], static_cast<int32_t>(id)});
    }
    std::sort(candidates_.begin(), candidates_.end(), precedes);
    candidates_.resize(k);
    return candidates_;
  }
  // A heap whose front is the last of the k: ids ascend, so an equal logit never replaces it.
  for (size_t id = 0; id < logits.size(); ++id) {
    const Candidate next{logits[id], static_cast<int32_t>(id)};
    if (candidates_.size() == k) {
      if (!precedes(next, candidates_.front())) continue;
      std::pop_heap(candidates_.begin(), candidates_.end(), precedes);
      candidates_.pop_back();
    }
    candidates_.push_back(next);
    std::push_heap(candidates_.begin(), candidates_.end(), precedes);
  }
  std::sort_heap(candidates_.begin(), candidates_.end(), precedes);
  return candidates_;
}

int32_t Sampler::draw(std::span<const float> logits, const SamplingArgs& args,
                      std::span<const int32_t> history, int64_t position) {
  changed_.assign(logits.begin(), logits.end());
  for (const int32_t id : args.banned) changed_[static_cast<size_t>(id)] = kBanned;
  for (size_t i = 0; i < args.bias_ids.size(); ++i) {
    changed_[static_cast<size_t>(args.bias_ids[i])] += args.bias_values[i];
  }
  if (args.repetition_penalty != 1.0f) {
    seen_.assign(history.begin(), history.end());
    std::sort(seen_.begin(), seen_.end());
    seen_.erase(std::unique(seen_.begin(), seen_.end()), seen_.end());
    for (const int32_t id : seen_) {
      float& logit = changed_[static_cast<size_t>(id)];
      logit = logit < 0.0f ? logit * args.repetition_penalty : logit / args.repetition_penalty;
    }
  }
  if (args.temperature == 0.0f) {
    const auto best = largest(changed_, 1);
    return best[0].logit == kBanned ? -1 : best[0].id;
  }
  const size_t k = args.top_k == 0 ? changed_.size() : static_cast<size_t>(args.top_k);
  std::span<const Candidate> kept = largest(changed_, k);
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
