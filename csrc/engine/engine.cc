#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/float_mode.h"
#include "base/thread_pool.h"
#include "engine/devices.h"

namespace cabochon {
namespace {

constexpr auto kAskEvery = std::chrono::milliseconds(50);

ModelPlan checked(ModelPlan plan, const EngineOptions& options) {
  check_plan(plan);
  check_sizes(options.max_rows, 1, options.global_pages, options.sliding_pages, options.threads);
  return plan;
}

std::unique_ptr<RowSource> row_source(const PerLayerTable& table, const EngineOptions& options) {
  if (table.entry == nullptr) return nullptr;
  if (table.rows != nullptr) {
    return std::make_unique<RowSource>(table.layout, table.rows, options.threads, options.max_rows);
  }
  return std::make_unique<RowSource>(table.layout, *table.file, table.begin, options.threads,
                                     options.max_rows);
}

// The parts make a message only when there is something to say.
template <typename... Parts>
void require(bool is_true, const Parts&... parts) {
  if (!is_true) throw InvalidArgument(text("step: ", parts...));
}

void require_pages(std::span<const int32_t> pages, int64_t count, const char* kind, size_t index) {
  for (const int32_t page : pages) {
    require(page >= 0 && page < count, "sequence ", index, " has ", kind, " page ", page,
            ", the cache has ", count);
  }
}

// Two rows that write to one place, or one that writes what another reads, would make results
// depend on who comes first. Pages that nobody writes to may be shared.
void require_own_pages(const Batch& batch, std::span<const int32_t> SequenceSlice::* pages,
                       const char* kind) {
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const SequenceSlice& s = batch.sequences[i];
    const std::span<const int32_t> own = s.*pages;
    const int64_t last = (s.position + s.tokens - 1) / kPagePositions;
    for (int64_t index = s.position / kPagePositions; index <= last; ++index) {
      const int32_t page = own[static_cast<size_t>(index % std::ssize(own))];
      int64_t held = 0;
      for (const SequenceSlice& other : batch.sequences) {
        held += std::count((other.*pages).begin(), (other.*pages).end(), page);
      }
      require(held == 1, "sequence ", i, " writes to ", kind, " page ", page, ", which stands ",
              held, " times in the page tables of this batch");
    }
  }
}

}  // namespace

Engine::Engine(std::shared_ptr<const Checkpoint> checkpoint, ModelPlan plan,
               const EngineOptions& options, const std::function<void(int64_t, int64_t)>& progress)
    : plan_(checked(std::move(plan), options)),
      options_(options),
      checkpoint_(std::move(checkpoint)),
      ops_(make_ops("cpu", options.threads, options.is_fast)),
      // In exact arithmetic always: packed weights are the same files for both.
      moments_(options.packed.weights == nullptr
                   ? calibrate(checkpoint_, plan_, options.weights,
                               *make_ops("cpu", options.threads), options.threads,
                               [&] { progress(0, 1); })
                   : Moments{}),
      loaded_(checkpoint_, plan_, options.weights, options.threads, options.packed,
              ops_->search_int4(), moments_, progress),
      per_layer_rows_(row_source(loaded_.per_layer_table(), options)),
      cache_(plan_, options.kv, options.global_pages, options.sliding_pages),
      decoder_(plan_, loaded_.weights(), per_layer_rows_.get(), *ops_, options.max_rows,
               head_bytes(plan_.vocab)),
      head_arena_(decoder_.after_layers()),
      logits_(head_arena_.take(Dtype::kF32, {kHeadRows, plan_.vocab})),
      largest_(head_arena_.take(Dtype::kF32,
                                {kHeadRows, (plan_.vocab + kLogitBlock - 1) / kLogitBlock})),
      chunk_sums_(head_arena_.take(Dtype::kF32,
                                   {kHeadRows, (plan_.vocab + kLogitChunk - 1) / kLogitChunk})),
      sampler_arena_(samplers_bytes(plan_.vocab, options.threads)) {
  for (int i = 0; i < sampler_count(options.threads); ++i) {
    samplers_.emplace_back(sampler_arena_, plan_.vocab);
  }
  const bool is_any_rounded = loaded_.is_any_packed() || options.is_fast;
  ops_->reserve(options.max_rows, is_any_rounded ? plan_.widest_input() : 0, plan_.widest_ffn());
}

int64_t Engine::scratch_bytes() const {
  return decoder_.scratch_bytes() + sampler_arena_.bytes() + ops_->reserved_bytes();
}

void Engine::check(const Batch& batch) const {
  const int64_t rows = std::ssize(batch.tokens);
  require(rows > 0 && rows <= options_.max_rows, rows, " tokens, expected 1 to ",
          options_.max_rows);
  const int64_t ids =
      plan_.per_layer_vocab > 0 ? std::min(plan_.vocab, plan_.per_layer_vocab) : plan_.vocab;
  for (const int32_t token : batch.tokens) {
    require(token >= 0 && token < ids, "token id ", token, " is not in 0 to ", ids - 1);
  }
  const int64_t window = kv_sizes(plan_, options_.kv).longest_window;
  int64_t next = 0;
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const SequenceSlice& s = batch.sequences[i];
    require(s.first_token == next && s.tokens > 0 && s.tokens <= rows - next && s.position >= 0 &&
                s.position < kMaxPosition,
            "sequence ", i, " takes ", s.tokens, " rows from ", s.first_token, " at position ",
            s.position, ", expected rows from ", next, " of ", rows);
    next += s.tokens;
    require_pages(s.global_pages, cache_.global_pages(), "global", i);
    require_pages(s.sliding_pages, cache_.sliding_pages(), "sliding", i);
    const int64_t end = s.position + s.tokens;
    const int64_t global = kPagePositions * std::ssize(s.global_pages);
    require(end <= global, "sequence ", i, " ends at position ", end, ", its global pages at ",
            global);
    // Before the ring comes round for the first time, every position has a place of its own.
    const int64_t ring = kPagePositions * std::ssize(s.sliding_pages);
    const int64_t needed = window + s.tokens + kPagePositions - 1;
    require(window == 0 || end <= ring || ring >= needed, "sequence ", i, " has a ring of ", ring,
            " positions, expected ", needed, " for a window of ", window, " and ", s.tokens,
            " tokens");
  }
  require(next == rows, "sequences cover ", next, " of ", rows, " rows");
  require_own_pages(batch, &SequenceSlice::global_pages, "global");
  if (window > 0) require_own_pages(batch, &SequenceSlice::sliding_pages, "sliding");
  require(batch.top >= 0 && batch.top <= 256, "top is ", batch.top, ", expected 0 to 256");
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const SequenceSlice& s = batch.sequences[i];
    const bool is_sampled =
        std::any_of(batch.wishes.begin(), batch.wishes.end(), [&](const Wish& wish) {
          return wish.want == Want::kSample && wish.token >= s.first_token &&
                 wish.token < s.first_token + s.tokens;
        });
    require(s.mask.empty() || std::ssize(s.mask) == (plan_.vocab + 31) / 32, "sequence ", i,
            " has a mask of ", s.mask.size(), " words, expected ", (plan_.vocab + 31) / 32, " for ",
            plan_.vocab, " ids");
    require(!is_sampled || s.sampling != nullptr, "sequence ", i,
            " wants a token, but has no sampling");
  }
  Wish last{.token = -1, .want = Want::kTop, .target = -1};
  for (const Wish& wish : batch.wishes) {
    // Drawing changes a row for a while, so a row that is drawn from has no other wish.
    const bool is_same_row =
        wish.token == last.token && wish.want == Want::kTarget && last.want == Want::kTarget;
    require((wish.token > last.token || is_same_row) && wish.token < rows, "a wish for row ",
            wish.token, " after one for row ", last.token, " of ", rows,
            ", expected ascending rows; only targets may be asked for twice of a row");
    require(wish.want != Want::kTarget || (wish.target >= 0 && wish.target < plan_.vocab),
            "target ", wish.target, " is not in 0 to ", plan_.vocab - 1);
    last = wish;
  }
}

void Engine::copy_pages(PageKind kind, std::span<const int32_t> from, std::span<const int32_t> to) {
  if (from.size() != to.size()) {
    throw InvalidArgument(text("copy_pages: ", from.size(), " pages to ", to.size(), " pages"));
  }
  for (size_t i = 0; i < from.size(); ++i) {
    const std::span<const std::byte> source = cache_.page(kind, from[i]);
    if (from[i] != to[i]) std::ranges::copy(source, cache_.page(kind, to[i]).begin());
  }
}

void Engine::read_pages(PageKind kind, std::span<const int32_t> pages, std::span<std::byte> bytes) {
  const auto size = static_cast<size_t>(cache_.page_bytes(kind));
  for (size_t i = 0; i < pages.size(); ++i) {
    std::ranges::copy(cache_.page(kind, pages[i]), bytes.subspan(i * size, size).begin());
  }
}

void Engine::write_pages(PageKind kind, std::span<const int32_t> pages,
                         std::span<const std::byte> bytes) {
  const auto size = static_cast<size_t>(cache_.page_bytes(kind));
  if (bytes.size() != pages.size() * size) {
    throw InvalidArgument(
        text("write_pages: ", bytes.size(), " bytes, expected ", pages.size(), " pages of ", size));
  }
  for (size_t i = 0; i < pages.size(); ++i) {
    std::ranges::copy(bytes.subspan(i * size, size), cache_.page(kind, pages[i]).begin());
  }
}

void Engine::lay_out_rows(const Batch& batch) {
  row_sequences_.clear();
  row_positions_.clear();
  global_tables_.clear();
  sliding_tables_.clear();
  wanted_.clear();
  wish_rows_.clear();
  for (const SequenceSlice& slice : batch.sequences) {
    const auto index = static_cast<int32_t>(global_tables_.size());
    global_tables_.push_back({.pages = slice.global_pages, .is_ring = false});
    sliding_tables_.push_back({.pages = slice.sliding_pages, .is_ring = true});
    for (int64_t i = 0; i < slice.tokens; ++i) {
      row_sequences_.push_back(index);
      row_positions_.push_back(slice.position + i);
    }
  }
  for (const Wish& wish : batch.wishes) {
    if (wanted_.empty() || wanted_.back() != wish.token) wanted_.push_back(wish.token);
    wish_rows_.push_back(std::ssize(wanted_) - 1);
  }
  row_failures_.assign(batch.tokens.size(), 0);
}

void Engine::step(const Batch& batch, StepResult result, const std::function<bool()>& interrupted) {
  const DefaultFloatMode mode;
  check(batch);
  checkpoint_->require_unchanged();
  if (options_.packed.table != nullptr) options_.packed.table->file().require_unchanged();
  lay_out_rows(batch);

  auto asked = std::chrono::steady_clock::now();
  const auto poll = [&] {
    const auto now = std::chrono::steady_clock::now();
    if (now - asked < kAskEvery) return;
    asked = now;
    if (interrupted()) throw Interrupted();
  };
  const Tensor rows = decoder_.forward({.tokens = batch.tokens,
                                        .sequences = row_sequences_,
                                        .positions = row_positions_,
                                        .global_tables = global_tables_,
                                        .sliding_tables = sliding_tables_,
                                        .wanted = wanted_,
                                        .kv = cache_.layers(),
                                        .failures = row_failures_},
                                       poll);

  std::fill(result.failures.begin(), result.failures.end(), 0);
  for (size_t row = 0; row < row_failures_.size(); ++row) {
    if (row_failures_[row] != 0) result.failures[static_cast<size_t>(row_sequences_[row])] = 1;
  }
  const int64_t wanted = std::ssize(wanted_);
  logits_rows_ = 0;
  for (int64_t begin = 0; begin < wanted; begin += kHeadRows) {
    const int64_t count = std::min(kHeadRows, wanted - begin);
    ops_->head({.logits = logits_.first(count),
                .largest = largest_.first(count),
                .log_sums = std::span(log_sums_).first(static_cast<size_t>(count)),
                .chunk_sums = chunk_sums_.first(count),
                .x = rows.rows(begin, count),
                .weight = loaded_.weights().head,
                .softcap = plan_.logit_softcap});
    finish_wishes(batch, begin, count, result);
    poll();
  }
}

// The wishes for wanted rows `begin` to begin + count - 1, which are rows 0 to count - 1 of the
// head's results.
void Engine::finish_wishes(const Batch& batch, int64_t begin, int64_t count,
                           const StepResult& result) {
  const auto first = std::ranges::lower_bound(wish_rows_, begin) - wish_rows_.begin();
  const auto end = std::ranges::lower_bound(wish_rows_, begin + count) - wish_rows_.begin();
  auto finish = [&](RowRange range) noexcept {
    Sampler& sampler = samplers_[static_cast<size_t>(range.thread)];
    for (int64_t i = range.begin; i < range.end; ++i) {
      const auto index = static_cast<size_t>(first + i);
      finish_wish(batch, first, first + i, wish_rows_[index] - begin, sampler, result);
    }
  };
  ThreadPool::shared().parallel_for(sampler_count(options_.threads), end - first, 1, finish);
  logits_rows_ += static_cast<size_t>(
      std::count_if(batch.wishes.begin() + first, batch.wishes.begin() + end,
                    [](const Wish& wish) { return wish.want == Want::kLogits; }));
}

// The wish `at`, of those from `first` on, from row `row` of the head's results.
void Engine::finish_wish(const Batch& batch, int64_t first, int64_t at, int64_t row,
                         Sampler& sampler, const StepResult& result) {
  const auto index = static_cast<size_t>(at), vocab = static_cast<size_t>(plan_.vocab);
  const Wish& wish = batch.wishes[index];
  const int64_t blocks = largest_.shape[1];
  const Logits logits{{logits_.floats() + row * plan_.vocab, vocab},
                      {largest_.floats() + row * blocks, static_cast<size_t>(blocks)}};
  const double log_sum = log_sums_[static_cast<size_t>(row)];
  const auto top = static_cast<size_t>(batch.top);
  const std::span<const Candidate> largest = sampler.largest(logits, std::max<size_t>(1, top));
  result.best[index] = largest[0].id;
  for (size_t i = 0; i < top; ++i) {
    // A vocabulary smaller than `top` leaves entries without a token.
    const bool is_there = i < largest.size();
    result.top_ids[index * top + i] = is_there ? largest[i].id : -1;
    result.top_logprobs[index * top + i] =
        is_there ? static_cast<float>(largest[i].logit - log_sum) : -INFINITY;
  }
  if (wish.want == Want::kLogits) {
    const auto before =
        std::count_if(batch.wishes.begin() + first, batch.wishes.begin() + at,
                      [](const Wish& other) { return other.want == Want::kLogits; });
    const size_t to = logits_rows_ + static_cast<size_t>(before);
    std::copy(logits.values.begin(), logits.values.end(),
              result.logits.begin() + static_cast<int64_t>(to * vocab));
  }

  int32_t token = result.best[index];
  WishStatus status = std::isfinite(log_sum) ? WishStatus::kOk : WishStatus::kNotFinite;
  if (wish.want == Want::kTarget) token = wish.target;
  if (wish.want == Want::kSample && status == WishStatus::kOk) {
    const SequenceSlice& slice = slice_of(batch, wish);
    // The drawn token stands one after the row whose logits it is drawn from.
    const int64_t position = row_positions_[static_cast<size_t>(wish.token)] + 1;
    const int32_t drawn =
        sampler.draw(logits, *slice.sampling, slice.history, slice.mask, position);
    if (drawn < 0) status = WishStatus::kNothingToDraw;
    if (drawn >= 0) token = drawn;
  }
  result.tokens[index] = token;
  result.logprobs[index] = static_cast<float>(logits.values[static_cast<size_t>(token)] - log_sum);
  result.status[index] = static_cast<int32_t>(status);
}

const SequenceSlice& Engine::slice_of(const Batch& batch, const Wish& wish) const {
  return batch.sequences[static_cast<size_t>(row_sequences_[static_cast<size_t>(wish.token)])];
}

}  // namespace cabochon
