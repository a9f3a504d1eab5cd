// Ops on a CPU: rows are split over threads, then the kernels of one tier compute.
//
// Every split is by row (of tokens or of a weight), so no sum is ever cut by the number of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <vector>

#include "base/thread_pool.h"
#include "cpu/kernels.h"
#include "ops/ops.h"

namespace cabochon::cpu {

// Queries of attention that are computed together over one partition of their keys: `heads` heads
// of one kv head, of `rows` rows of one sequence whose positions ascend.
struct AttentionItem {
  int64_t row, rows, head, heads;
  int64_t partition;

  bool is_next_of(const AttentionItem& other) const {
    return row == other.row && head == other.head && partition == other.partition + 1;
  }
};

class CpuOps final : public Ops {
 public:
  // threads >= 1. The pool is the process's; this model uses `threads` of it.
  CpuOps(const Kernels& kernels, int threads);

  std::string tier() const override { return kernels_.tier; }
  void reserve(int64_t tokens, int64_t cols, int64_t ffn) override;
  int64_t reserved_bytes() const override {
    return static_cast<int64_t>(codes_.capacity() + sizeof(float) * scales_.capacity() +
                                sizeof(int32_t) * sums_.capacity() +
                                sizeof(float) * gated_.capacity());
  }
  SearchInt4 search_int4() const override { return kernels_.search_int4; }

 private:
  void compute_embed(const EmbedArgs& args) override;
  void compute_rms_norm(const NormArgs& args, bool is_added) override;
  void compute_rope(const RopeArgs& args) override;
  void compute_scale(Tensor x, float factor) override;
  void compute_add(Tensor out, Tensor x) override;
  void compute_project(const ProjectArgs& args) override;
  void compute_gated_matmul(const GatedMatmulArgs& args) override;
  void compute_store_kv(const StoreKvArgs& args) override;
  void compute_attention(const AttentionArgs& args) override;
  void compute_per_layer_sum(const PerLayerSumArgs& args) override;
  void compute_per_layer_gate(const PerLayerGateArgs& args) override;
  void compute_route(const RouteArgs& args) override;
  void compute_experts(const ExpertsArgs& args) override;
  void compute_head(const HeadArgs& args) override;

  // Runs fn over row ranges whose sizes are multiples of `granule` (but for the last): on this
  // thread alone when the whole costs less than a barrier is worth. Each thread has a range of its
  // own, three quarters of its share; threads take the rest piece by piece as they get free, since
  // one may get less of the memory's rate than another, or lose its core for a while.
  template <typename Fn>
  void for_rows(int64_t rows, int64_t granule, int64_t operations_per_row, Fn&& fn) {
    const int64_t units = (rows + granule - 1) / granule;
    const bool is_small = rows * operations_per_row < kOperationsWorthABarrier;
    if (is_small || threads_ == 1 || units <= threads_) {
      pool_.parallel_for(is_small ? 1 : threads_, rows, granule, fn);
      return;
    }
    const int64_t own = units * 3 / 4 / threads_;
    const int64_t piece = std::max<int64_t>(1, units / (threads_ * kRunsPerThread));
    std::atomic<int64_t> next{own * threads_};
    pool_.parallel_for(threads_, threads_, 1, [&](RowRange range) noexcept {
      const auto run = [&](int64_t begin, int64_t end) {
        fn(RowRange{begin * granule, std::min(end * granule, rows), range.thread});
      };
      if (own > 0) run(range.begin * own, range.end * own);
      for (int64_t begin = next.fetch_add(piece); begin < units; begin = next.fetch_add(piece)) {
        run(begin, std::min(begin + piece, units));
      }
    });
  }

  // The same for work that differs from row to row: threads take runs of rows as they get free.
  template <typename Fn>
  void for_runs(int64_t rows, int64_t operations_per_row, Fn&& fn) {
    const bool is_small = rows * operations_per_row < kOperationsWorthABarrier;
    const int64_t threads = is_small ? 1 : threads_;
    const int64_t run = std::max<int64_t>(1, rows / (threads * kRunsPerThread));
    std::atomic<int64_t> next{0};
    pool_.parallel_for(static_cast<int>(threads), threads, 1, [&](RowRange range) noexcept {
      for (int64_t begin = next.fetch_add(run); begin < rows; begin = next.fetch_add(run)) {
        fn({begin, std::min(begin + run, rows), range.thread});
      }
    });
  }

  // Rows of x, and the same rounded to int8 where a weight wants them so.
  struct Activations {
    const float* x = nullptr;  // [tokens, cols]
    int64_t tokens = 0, cols = 0;
    QuantizedRows rounded{};
  };
  // Rounded as `weight` wants them; the rounded rows stand in this object's memory: one set at a
  // time.
  Activations prepare(const float* x, int64_t tokens, int64_t cols, const PackedWeight& weight);
  Activations prepare(const Tensor& x, const PackedWeight& weight);

  // out[t * out_stride + r] = dot(row begin_row + r of matrix `index`, x row t), on this thread.
  void dot_rows(float* out, int64_t out_stride, const Activations& x, const PackedWeight& weight,
                int64_t index, int64_t begin_row, int64_t rows) const noexcept;
  // One row of a stored table as float32.
  void widen(float* out, Dtype dtype, const void* row, int64_t count) const noexcept;

  void take_queries(const AttentionArgs& args, const AttentionItem& item,
                    float* memory) const noexcept;
  void attend(const AttentionArgs& args, const AttentionItem& item, float* memory) const noexcept;
  void merge(const AttentionArgs& args, std::span<const AttentionItem> run, float* memory,
             int64_t slot_floats, int64_t query, SoftmaxState* totals) const noexcept;
  void run_items(const AttentionArgs& args, float* memory, int64_t slot_floats,
                 SoftmaxState* totals);

  static constexpr int64_t kOperationsWorthABarrier = 1 << 18;
  static constexpr int64_t kRunsPerThread = 16;
  static constexpr int64_t kRowGranule = 32;  // weight rows a thread takes at least: one panel

  Kernels kernels_;
  int threads_;
  ThreadPool& pool_;
  ThreadPool::Lease lease_;
  // Of the rounded rows.
  std::vector<int8_t> codes_;
  std::vector<float> scales_;
  std::vector<int32_t> sums_;
  std::vector<float> gated_;  // what gated_matmul works in
  static constexpr int64_t kMostItems = 256;
  std::vector<AttentionItem> items_;  // of attention: those computed before the next barrier
  std::vector<int64_t> runs_;         // where in items_ the partitions of other queries begin
};

}  // namespace cabochon::cpu
