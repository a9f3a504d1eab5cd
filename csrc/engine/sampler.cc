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

std::span<const Candidate> Sampler::largest(const Logits& logits, size_t k, Mask mask) {
  k = std::min(k, logits.values.size());
  if (k == 0) return {};
  if (k > kHeapLimit) {
    return candidates_.first(std::min(k, sort_all(logits.values, mask)));
  }
  const std::span<int32_t> blocks = list_blocks(logits, mask);
  const auto first_of = [&](int32_t block) {
    return Candidate{logits.largest[static_cast<size_t>(block)],
                     block * static_cast<int32_t>(kLogitBlock)};
  };
  const auto comes_later = [&](int32_t a, int32_t b) { return precedes(first_of(b), first_of(a)); };
  std::make_heap(blocks.begin(), blocks.end(), comes_later);
  // A heap whose front is the last of the k.
  const auto heap = candidates_.begin();
  auto last = heap;
  for (auto end = blocks.end(); end != blocks.begin();) {
    // No entry of this block, or of one after it, comes before what its largest would be at its
    // first id.
    const int32_t block = blocks.front();
    const bool is_full = last == heap + static_cast<int64_t>(k);
    if (is_full && !precedes(first_of(block), *heap)) break;
    std::pop_heap(blocks.begin(), end--, comes_later);
    for_each_allowed(logits.values.size(), mask, static_cast<size_t>(block), [&](size_t id) {
      const Candidate next{logits.values[id], static_cast<int32_t>(id)};
      if (last == heap + static_cast<int64_t>(k)) {
        if (!precedes(next, *heap)) return;
        std::pop_heap(heap, last--, precedes);
      }
      *last++ = next;
      std::push_heap(heap, last, precedes);
    });
  }
  std::sort_heap(heap, last, precedes);
  return {heap, last};
}

// Those that have an id which the mask has. Their largest may be one that it has not: it bounds
// the others all the same.
std::span<int32_t> Sampler::list_blocks(const Logits& logits, Mask mask) {
  const std::span<int32_t> blocks = blocks_.first(logits.largest.size());
  std::iota(blocks.begin(), blocks.end(), 0);
  if (mask.empty()) return blocks;
  const auto is_empty = [&](int32_t block) {
    const auto words = words_of(mask, static_cast<size_t>(block));
    return std::all_of(words.begin(), words.end(), [](uint32_t word) { return word == 0; });
  };
  return {blocks.begin(), std::remove_if(blocks.begin(), blocks.end(), is_empty)};
}

// Digit by digit, from the last: each pass keeps the order of equal digits, so equal logits stay
// in the order of their ids. How many there are.
size_t Sampler::sort_all(std::span<const float> values, Mask mask) {
  constexpr int kBits = 11, kPasses = 3;
  constexpr size_t kDigits = size_t{1} << kBits;
  // A whole number that is smaller where the logit is larger; + 0 makes -0 and +0 equal.
  const auto key = [](float logit) {
    const auto bits = std::bit_cast<uint32_t>(logit + 0.0f);
    return (bits >> 31) != 0 ? bits : ~bits & 0x7fffffffu;
  };
  size_t count = 0;
  for (size_t block = 0; block * size_t{kLogitBlock} < values.size(); ++block) {
    for_each_allowed(values.size(), mask, block, [&](size_t id) {
      candidates_[count++] = {values[id], static_cast<int32_t>(id)};
    });
  }
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto digit = [&](const Candidate& c) {
      return size_t{key(c.logit) >> (kBits * pass)} & (kDigits - 1);
    };
    std::array<uint32_t, kDigits> places{};
    const std::span<const Candidate> all = candidates_.first(count);
    for (const Candidate& c : all) ++places[digit(c)];
    std::exclusive_scan(places.begin(), places.end(), places.begin(), 0u);
    for (const Candidate& c : all) sorted_[places[digit(c)]++] = c;
    std::swap(candidates_, sorted_);
  }
  return count;
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
                      std::span<const int32_t> history, Mask mask, int64_t position) {
  change(logits, args, history);
  const int32_t token = pick(logits, args, mask, position);
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

int32_t Sampler::pick(const Logits& logits, const SamplingArgs& args, Mask mask, int64_t position) {
  if (args.temperature == 0.0f) {
    const auto best = largest(logits, 1, mask);
    return best.empty() || best[0].logit == kBanned ? -1 : best[0].id;
  }
  const size_t k = args.top_k == 0 ? logits.values.size() : static_cast<size_t>(args.top_k);
  std::span<const Candidate> kept = largest(logits, k, mask);
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
