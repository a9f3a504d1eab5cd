#include "engine/calibrate.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "base/random.h"
#include "engine/kv_cache.h"
#include "engine/loader.h"
#include "model/decoder.h"

namespace cabochon {
namespace {

constexpr int64_t kTokens = 32;                 // as good as 1,024 of them: docs/formats.md
constexpr uint64_t kSeed = 0x6361626f63686f6e;  // "cabochon"
constexpr float kLeast = 0x1p-20f;

// Sums of squares by matrix, which is known by where its numbers are mapped.
class Sums final : public InputObserver {
 public:
  void expect(const std::byte* data, const TensorEntry& entry, int64_t cols) {
    sums_[data] = {&entry, std::vector<double>(static_cast<size_t>(cols))};
  }
  bool is_empty() const { return sums_.empty(); }

  void observe(const PackedWeight& weight, const Tensor& x) override {
    const auto found = sums_.find(weight.data);
    if (found == sums_.end()) return;
    std::vector<double>& sums = found->second.squares;
    const int64_t cols = weight.cols;
    for (int64_t t = 0; t < x.shape[0]; ++t) {
      const float* row = x.floats() + t * cols;
      if (!std::all_of(row, row + cols, [](float v) { return std::isfinite(v); })) continue;
      for (int64_t i = 0; i < cols; ++i) {
        const auto value = static_cast<double>(row[i]);
        sums[static_cast<size_t>(i)] += value * value;
      }
    }
  }

  Moments moments() const {
    Moments out;
    for (const auto& [data, sum] : sums_) out.set(*sum.entry, sum.squares);
    return out;
  }

 private:
  struct Sum {
    const TensorEntry* entry = nullptr;
    std::vector<double> squares;
  };
  std::unordered_map<const std::byte*, Sum> sums_;
};

// Ids of the whole vocabulary, but those that the per-layer table has no row for.
std::vector<int32_t> token_ids(const ModelPlan& plan) {
  const int ids =
      plan.per_layer_vocab > 0 ? std::min(plan.vocab, plan.per_layer_vocab) : plan.vocab;
  std::vector<int32_t> out(kTokens);
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<int32_t>(uniform(kSeed, i) * ids);
  return out;
}

class Watching {
 public:
  Watching(Ops& ops, InputObserver& observer) : ops_(ops) { ops.set_observer(&observer); }
  ~Watching() { ops_.set_observer(nullptr); }
  Watching(const Watching&) = delete;
  Watching& operator=(const Watching&) = delete;

 private:
  Ops& ops_;
};

}  // namespace

const float* Moments::importance(const TensorEntry& entry) const {
  const auto found = rows_.find(&entry);
  return found == rows_.end() ? nullptr : found->second.data();
}

void Moments::set(const TensorEntry& entry, const std::vector<double>& sums) {
  const double largest = *std::max_element(sums.begin(), sums.end());
  if (!(largest > 0.0)) return;
  std::vector<float>& row = rows_[&entry];
  row.resize(sums.size());
  for (size_t i = 0; i < sums.size(); ++i) {
    row[i] = std::max(kLeast, static_cast<float>(sums[i] / largest));
  }
}

Moments calibrate(const std::shared_ptr<const Checkpoint>& checkpoint, const ModelPlan& plan,
                  const WeightFormats& formats, Ops& ops, int threads,
                  const std::function<void()>& after_layer) {
  Sums sums;
  ModelWeights fields;
  for (const BoundTensor& bound : bind_tensors(*checkpoint, plan, fields)) {
    if (bound.matrix == nullptr) continue;
    if (bound.has_codes() || !is_used_as_stored(*checkpoint, *bound.entry)) return {};
    const bool is_wanted = formats.scales_of(bound.tensor_class) == Int4Scales::kCalibrated &&
                           packed_format(bound, formats) != nullptr;
    if (!is_wanted) continue;
    const PackedWeight weight =
        as_stored(checkpoint->view(*bound.entry)).slice(bound.first_row, bound.rows);
    sums.expect(weight.data, *bound.entry, weight.cols);
  }
  if (sums.is_empty()) return {};

  const Moments none;
  const LoadedWeights stored(checkpoint, plan, {}, threads, {}, nullptr, none,
                             [](int64_t, int64_t) {});
  std::optional<RowSource> per_layer_rows;
  const PerLayerTable& table = stored.per_layer_table();
  if (table.entry != nullptr) {
    per_layer_rows.emplace(table.layout, *table.file, table.begin, threads, kTokens);
  }
  constexpr int64_t kPages = (kTokens + kPagePositions - 1) / kPagePositions;
  const KvCache cache(plan, Dtype::kF32, kPages, kPages);
  Decoder decoder(plan, stored.weights(), per_layer_rows.has_value() ? &*per_layer_rows : nullptr,
                  ops, kTokens);

  const std::vector<int32_t> ids = token_ids(plan);
  std::vector<int32_t> rows(kTokens), pages(kPages);
  std::iota(rows.begin(), rows.end(), 0);
  std::iota(pages.begin(), pages.end(), 0);
  const std::vector<int32_t> sequences(kTokens, 0);
  const std::vector<int64_t> positions(rows.begin(), rows.end());
  std::vector<uint8_t> failures(kTokens, 0);
  const PageTable global{.pages = pages, .is_ring = false};
  const PageTable ring{.pages = pages, .is_ring = true};
  const Watching watching(ops, sums);
  // All rows are wanted: layers that share their keys see them, too.
  const Tensor normed = decoder.forward({.tokens = ids,
                                         .sequences = sequences,
                                         .positions = positions,
                                         .global_tables = {&global, 1},
                                         .sliding_tables = {&ring, 1},
                                         .wanted = rows,
                                         .kv = cache.layers(),
                                         .failures = failures},
                                        after_layer);
  sums.observe(stored.weights().head, normed);
  if (std::count(failures.begin(), failures.end(), 0) != kTokens) {
    const std::string& path = table.file->path();
    checkpoint->require_unchanged();
    throw CheckpointError(text(path, ": tensor ", table.entry->name, ": a row could not be read"),
                          path, table.entry->name);
  }
  checkpoint->release_pages();  // the load reads the file by itself; 26B would hold 46 GB of it
  return sums.moments();
}

}  // namespace cabochon
