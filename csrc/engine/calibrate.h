// What each matrix multiplies: the second moments of its inputs, from one pass of the stored model.
//
// They tell the search for int4 scales which columns matter (docs/formats.md). The pass reads fixed
// random token ids, so it depends on the checkpoint alone: no tokenizer, no text, and the same bits
// with any number of threads. Weights are used where they are mapped; nothing of them is copied.
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/memory_plan.h"
#include "ops/ops.h"
#include "weights/checkpoint.h"

namespace cabochon {

class Moments {
 public:
  // E[x_j^2] of a matrix's inputs, [cols], divided by the largest, but at least 2^-20. Null for a
  // tensor whose inputs were not seen, or were zeros: all columns count alike.
  const float* importance(const TensorEntry& entry) const;

  void set(const TensorEntry& entry, const std::vector<double>& sums);

 private:
  std::unordered_map<const TensorEntry*, std::vector<float>> rows_;
};

// Runs the model as stored over 32 ids of one sequence, for the matrices whose
// class asks for calibrated scales; empty where none does. A row of inputs that is not finite is
// left out. Not seen are: experts' down projections (too few tokens choose an expert), and all
// matrices of a checkpoint that holds one in float16, as codes or out of step with its element:
// the pass would have to copy it. `after_layer` may throw to end the load. Throws CheckpointError.
Moments calibrate(const std::shared_ptr<const Checkpoint>& checkpoint, const ModelPlan& plan,
                  const WeightFormats& formats, Ops& ops, int threads,
                  const std::function<void()>& after_layer);

}  // namespace cabochon
