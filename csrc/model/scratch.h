// The activation buffers of a step, sized from the plan: a step allocates nothing.
#pragma once

#include <span>

#include "base/buffer.h"
#include "model/plan.h"

namespace cabochon {

// All float32 but where said; `rows` is the most tokens a step has. Layers reuse them: widths are
// those of the widest layer, and a narrower layer takes the front.
struct Scratch {
  // `after_layers` bytes are for what follows the last layer: the memory of all but `normed`,
  // again.
  Scratch(const ModelPlan& plan, int64_t rows, Dtype stored_dtype, int64_t after_layers);

  // What the constructor would take, in bytes.
  static int64_t bytes(const ModelPlan& plan, int64_t rows, Dtype stored_dtype,
                       int64_t after_layers);

  int64_t bytes() const { return arena_.bytes(); }

  Tensor normed;  // [rows, hidden]
  std::span<std::byte> after_layers;
  Tensor residual;   // [rows, hidden]
  Tensor branch;     // [rows, hidden]: what attention, the MLP or experts give
  Tensor queries;    // [rows, heads * head_dim]
  Tensor keys;       // [rows, kv_heads * head_dim]
  Tensor values;     // the same
  Tensor attended;   // as queries
  Tensor attention;  // what attention works in
  Tensor gate;       // [rows, ffn]
  Tensor stored;     // [rows, layers * width] in the table's type: rows of the per-layer table
  Tensor early;      // [rows, (first_shared - 1) * width]: per-layer inputs of the layers that run
                     // for all rows
  Tensor late;       // [rows, the rest]: those of the rows that go on
  Tensor per_layer;  // [rows, width]
  Tensor experts_out;               // [rows, hidden]
  Tensor expert_ids;                // [rows, top] int32
  Tensor expert_weights;            // [rows, top]
  Tensor expert_scores;             // [rows, experts]
  Tensor expert_slots;              // [rows, top] int32
  Tensor expert_used, expert_ends;  // [experts] int32
  Tensor expert_activated;          // [2, rows * top, expert_ffn]
  Tensor expert_results;            // [rows * top, hidden]
  // [kinds, rows, pairs]: cos and sin for each of at most kMaxRopeKinds kinds of rope.
  Tensor cos, sin;

 private:
  Arena arena_;
};

}  // namespace cabochon
