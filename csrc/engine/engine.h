// The engine: weights, KV bytes and scratch of one model, and the step that uses them.
//
// Used by one thread at a time. Does not know text, Python, or which requests a step serves.
#pragma once

#include <array>
#include <functional>
#include <memory>

#include "engine/batch.h"
#include "engine/kv_cache.h"
#include "engine/loader.h"
#include "engine/memory_plan.h"
#include "model/decoder.h"

namespace cabochon {

struct EngineOptions {
  Dtype kv = Dtype::kBf16;
  WeightFormats weights{};
  int threads = 1;
  bool is_fast = false;    // arithmetic of bf16 matrices: make_ops
  int64_t max_rows = 256;  // tokens of one step
  int64_t global_pages = 0, sliding_pages = 0;
  PackedFiles packed;  // its weights are read during construction alone, its table while it lives
};

class Engine {
 public:
  // progress(done, total) counts tensors read. Throws CheckpointError, OutOfMemory, DeviceError.
  Engine(std::shared_ptr<const Checkpoint> checkpoint, ModelPlan plan, const EngineOptions& options,
         const std::function<void(int64_t, int64_t)>& progress);

  // Refuses a batch that does not fit the plan, the cache or the options.
  void check(const Batch& batch) const;

  // Computes one batch, after check(). `interrupted` is asked between layers, at most every 50 ms;
  // true ends the step with Interrupted. A step that throws has changed nothing that a later step
  // can see: the caller advances positions only when it returns.
  void step(const Batch& batch, StepResult result, const std::function<bool()>& interrupted);

  // Pages to[i] become what from[i] are, one after the other. Between steps.
  void copy_pages(PageKind kind, std::span<const int32_t> from, std::span<const int32_t> to);
  // Bytes of whole pages, [pages, page_bytes(kind)]: what a saved conversation holds.
  int64_t page_bytes(PageKind kind) const { return cache_.page_bytes(kind); }
  void read_pages(PageKind kind, std::span<const int32_t> pages, std::span<std::byte> bytes);
  void write_pages(PageKind kind, std::span<const int32_t> pages, std::span<const std::byte> bytes);

  // What a packed file of these weights holds.
  std::span<const std::byte> weight_arena() const { return loaded_.arena(); }

  const ModelPlan& plan() const { return plan_; }
  std::string tier() const { return ops_->tier(); }
  // What packed matrices multiply with, for `info`.
  std::string activations() const { return describe_granules(); }
  int threads() const { return options_.threads; }
  // As allocated: memory_plan.h says the same before.
  int64_t weight_bytes() const { return loaded_.bytes(); }
  const Int4Blocks& int4_blocks() const { return loaded_.int4_blocks(); }
  int64_t mapped_bytes() const { return loaded_.mapped_bytes(); }
  int64_t kv_bytes() const { return cache_.bytes(); }
  int64_t scratch_bytes() const;

 private:
  void lay_out_rows(const Batch& batch);
  void finish_wishes(const Batch& batch, int64_t begin, int64_t count, const StepResult& result);
  const SequenceSlice& slice_of(const Batch& batch, const Wish& wish) const;
  void finish_wish(const Batch& batch, int64_t first, int64_t at, int64_t row, Sampler& sampler,
                   const StepResult& result);

  const ModelPlan plan_;
  const EngineOptions options_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::unique_ptr<Ops> ops_;
  Moments moments_;
  LoadedWeights loaded_;
  std::unique_ptr<RowSource> per_layer_rows_;
  KvCache cache_;
  Decoder decoder_;
  Arena head_arena_;
  Tensor logits_, largest_, chunk_sums_;  // of kHeadRows rows: HeadArgs
  std::array<double, kHeadRows> log_sums_{};
  Arena sampler_arena_;
  std::vector<Sampler> samplers_;  // one a thread that finishes rows
  size_t logits_rows_ = 0;         // of StepResult::logits, filled before the rows at hand
  // Of the step at hand, kept so that a step allocates nothing.
  std::vector<int32_t> row_sequences_, wanted_;
  std::vector<int64_t> row_positions_;
  std::vector<int64_t> wish_rows_;  // of each wish, its place in wanted_: several may share a row
  std::vector<PageTable> global_tables_, sliding_tables_;
  std::vector<uint8_t> row_failures_;
};

}  // namespace cabochon
