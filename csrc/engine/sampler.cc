#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>

#include "base/random.h"
#include "ops/args.h"

namespace cabochon {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();
constexpr size_t kHeapLimit = 256;  // above it, sorting everything costs less
constexpr uint8_t kChanged = 1, kPenalized = 2;

int64_t blocks_of(int64_t vocab) { return (vocab + kLogitBlock - 1) / kLogitBlock; }

template <typename T>
int64_t padded(int64_t count) {
  return Arena::padded_bytes(Dtype::kU8, count * static_cast<int64_t>(sizeof(T)));
}

template <typename T>
std::span<T> take(Arena& arena, int64_t count) {
  const Tensor bytes = arena.take(Dtype::kU8, {count * static_cast<int64_t>(sizeof(T))});
  return {bytes.as<T>(), static_cast<size_t>(count)};
}

}  // namespace

int64_t Sampler::bytes(int64_t vocab) {
  return 2 * padded<Candidate>(vocab) + padded<float>(vocab) + padded<uint8_t>(vocab) +
         padded<int32_t>(blocks_of(vocab));
}

Sampler::Sampler(Arena& arena, int64_t vocab)
    : candidates_(take<Candidate>(arena, vocab)),
      sorted_(take<Candidate>(arena, vocab)),
      before_(take<float>(arena, vocab)),
      marks_(take<uint8_t>(arena, vocab)),
      blocks_(take<int32_t>(arena, blocks_of(vocab))) {}

std::span<const Candidate> Sampler::largest(const Logits& logits, size_t k) {
  k = std::min(k, logits.values.size());
  if (k == 0) return {};
  if (k > kHeapLimit) {
    sort_all(logits.values);
    return candidates_.first(k);
  }
  // The first k are in the k blocks whose largest come first: each of those has an entry that
  // comes before all entries of any other block.
  const auto comes_first = [&](int32_t a, int32_t b) {
    const float x = logits.largest[static_cast<size_t>(a)];
    const float y = logits.largest[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  const std::span<int32_t> blocks = blocks_.first(logits.largest.size());
  std::iota(blocks.begin(), blocks.end(), 0);
  const auto end = blocks.begin() + static_cast<int64_t>(std::min(k, blocks.size()));
  std::partial_sort(blocks.begin(), end, blocks.end(), comes_first);
  // A heap whose front is the last of the k.
  const auto heap = candidates_.begin();
  auto last = heap;
  for (auto block = blocks.begin(); block != end; ++block) {
    const auto begin = static_cast<size_t>(*block * kLogitBlock);
    const size_t count = std::min(size_t{kLogitBlock}, logits.values.size() - begin);
    for (size_t id = begin; id < begin + count; ++id) {
      const Candidate next{logits.values[id], static_cast<int32_t>(id)};
      if (last == heap + static_cast<int64_t>(k)) {
        if (!precedes(next, *heap)) continue;
        std::pop_heap(heap, last--, precedes);
      }
      *last++ = next;
      std::push_heap(heap, last, precedes);
    }
  }
  std::sort_heap(heap, last, precedes);
  return {heap, last};
}

// Digit by digit, from the last: each pass keeps the order of equal digits, so equal logits stay
// in the order of their ids.
void Sampler::sort_all(std::span<const float> values) {
  constexpr int kBits = 11, kPasses = 3;
  constexpr size_t kDigits = size_t{1} << kBits;
  // A whole number that is smaller where the logit is larger; + 0 makes -0 and +0 equal.
  const auto key = [](float logit) {
    const auto bits = std::bit_cast<uint32_t>(logit + 0.0f);
    return (bits >> 31) != 0 ? bits : ~bits & 0x7fffffffu;
  };
  for (size_t id = 0; id < values.size(); ++id) {
    candidates_[id] = {values[id], static_cast<int32_t>(id)};
  }
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto digit = [&](const Candidate& c) {
      return size_t{key(c.logit) >> (kBits * pass)} & (kDigits - 1);
    };
    std::array<uint32_t, kDigits> places{};
    const std::span<const Candidate> all = candidates_.first(values.size());
    for (const Candidate& c : all) ++places[digit(c)];
    std::exclusive_scan(places.begin(), places.end(), places.begin(), 0u);
    for (const Candidate& c : all) sorted_[places[digit(c)]++] = c;
    std::swap(candidates_, sorted_);
  }
}

void Sampler::change(const Logits& logits, const SamplingArgs& args,
                     std::span<const int32_t> history) {
  const std::span<int32_t> blocks = blocks_.first(logits.largest.size());
  std::fill(blocks.begin(), blocks.end(), 0);
  const auto set = [&](int32_t id, auto&& changed) {
    const auto at = static_cast<size_t>(id);
    float& logit = logits.values[at];
    if (marks_[at] == 0) before_[at] = logit;
    marks_[at] |= kChanged;
    blocks[at / kLogitBlock] = 1;
    logit = changed(logit);
  };
  for (const int32_t id : args.banned) set(id, [](float) { return kBanned; });
  for (size_t i = 0; i < args.bias_ids.size(); ++i) {
    set(args.bias_ids[i], [&](float logit) { return logit + args.bias_values[i]; });
  }
  if (args.repetition_penalty != 1.0f) {
    const float penalty = args.repetition_penalty;
    for (const int32_t id : history) {
      if ((marks_[static_cast<size_t>(id)] & kPenalized) != 0) continue;
      set(id, [&](float logit) { return logit < 0.0f ? logit * penalty : logit / penalty; });
      marks_[static_cast<size_t>(id)] |= kPenalized;
    }
  }
  for (size_t block = 0; block < blocks.size(); ++block) {
    if (blocks[block] == 0) continue;
    const size_t begin = block * kLogitBlock;
    const size_t count = std::min(size_t{kLogitBlock}, logits.values.size() - begin);
    logits.largest[block] = largest_of(logits.values.subspan(begin, count));
  }
}

int32_t Sampler::draw(const Logits& logits, const SamplingArgs& args,
                      std::span<const int32_t> history, int64_t position) {
  change(logits, args, history);
  const int32_t token = pick(logits, args, position);
  const std::span<const int32_t> changed[] = {args.banned, args.bias_ids, history};
  for (const std::span<const int32_t> ids : changed) {
    for (const int32_t id : ids) {
      const auto at = static_cast<size_t>(id);
      if (marks_[at] != 0) logits.values[at] = before_[at];
      marks_[at] = 0;
    }
  }
  return token;
}

int32_t Sampler::pick(const Logits& logits, const SamplingArgs& args, int64_t position) {
  if (args.temperature == 0.0f) {
    const auto best = largest(logits, 1);
    return best[0].logit == kBanned ? -1 : best[0].id;
  }
  const size_t k = args.top_k == 0 ? logits.values.size() : static_cast<size_t>(args.top_k);
  std::span<const Candidate> kept = largest(logits, k);
  while (!kept.empty() && kept.back().logit == kBanned) kept = kept.first(kept.size() - 1);
  if (kept.empty()) return -1;

  // Nothing is sorted any more, and a weight is as large as a candidate.
  static_assert(sizeof(double) == sizeof(Candidate));
  auto* const weights = reinterpret_cast<double*>(sorted_.data());
  double total = 0.0;
  for (size_t i = 0; i < kept.size(); ++i) {
    // Divided by the temperature after the subtraction: a tiny one cannot overflow, and the order
    // of the candidates does not depend on it.
    const double below = double{kept[i].logit} - double{kept[0].logit};
    std::construct_at(weights + i, std::exp(below / double{args.temperature}));
    total += weights[i];
  }
  // The smallest set whose probability reaches top_p; the first is always in it.
  size_t count = 0;
  for (double sum = 0.0; count < kept.size() && (count == 0 || sum < args.top_p * total); ++count) {
    sum += weights[count];
  }
  while (count > 1 && weights[count - 1] < args.min_p * weights[0]) --count;

  total = 0.0;
  for (size_t i = 0; i < count; ++i) total += weights[i];
  const double target = uniform(args.seed, static_cast<uint64_t>(position)) * total;
  double sum = 0.0;
  for (size_t i = 0; i < count; ++i) {
    sum += weights[i];
    if (target < sum) return kept[i].id;
  }
  return kept[count - 1].id;
}

}  // namespace cabochon
