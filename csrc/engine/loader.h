// Checkpoint + plan -> weights.
#pragma once

#include <functional>
#include <memory>

#include "base/buffer.h"
#include "engine/memory_plan.h"
#include "model/tensors.h"
#include "weights/checkpoint.h"

namespace cabochon {

// Weights of a model: matrices point into the checkpoint's mapping; vectors, packed matrices and
// what had to be converted stand in an arena of its own. Neither copied nor moved: bound tensors
// point into it.
class LoadedWeights {
 public:
  // progress(done, total) counts tensors; what it throws ends the load. Throws CheckpointError.
  LoadedWeights(std::shared_ptr<const Checkpoint> checkpoint, const ModelPlan& plan,
                const WeightFormats& formats, int threads,
                const std::function<void(int64_t, int64_t)>& progress);
  LoadedWeights(const LoadedWeights&) = delete;
  LoadedWeights& operator=(const LoadedWeights&) = delete;

  const ModelWeights& weights() const { return weights_; }
  const TensorEntry* per_layer_table() const { return per_layer_table_; }  // null without one
  int64_t arena_bytes() const { return arena_.bytes(); }
  int64_t mapped_bytes() const { return mapped_bytes_; }

 private:
  void load_matrix(const BoundTensor& bound, const WeightFormats& formats, int threads);
  void pack_matrix(const BoundTensor& bound, const Format& format, int threads);

  std::shared_ptr<const Checkpoint> checkpoint_;
  ModelWeights weights_;
  Arena arena_;
  const TensorEntry* per_layer_table_ = nullptr;
  int64_t mapped_bytes_ = 0;
};

}  // namespace cabochon
