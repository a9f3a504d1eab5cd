// Checkpoint names, fields and shapes: the only place that knows what tensors are called.
//
// Goes both ways: every field of the plan finds its tensor with the expected shape, and every
// tensor of the files is used or on the list of known leftovers. Does not read bytes.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "model/plan.h"
#include "weights/checkpoint.h"
#include "weights/format.h"

namespace cabochon {

// What a tensor is for: classes of the memory table, and of formats.
enum class TensorClass {
  kEmbedding,        // rows that are looked up; the head too, where that is not packed
  kHead,             // the embedding once more, for the logits
  kPerLayerTable,    // rows that are looked up, in a file or in memory
  kPerLayerContext,  // projection of the embedding to all per-layer inputs
  kPerLayer,         // gate and projection of one layer's input
  kAttention,
  kMlp,
  kExperts,
  kRouter,
  kSmall,  // norms and scales
};
inline constexpr int kTensorClasses = 10;

// What may become of a class, and what a checkpoint may hold of it: neither follows from the other.
struct ClassFacts {
  TensorClass tensor_class;
  const char* name;
  bool may_be_rounded;  // an integer format may be asked for (policy.py)
  bool may_hold_codes;  // files may hold it as int4 codes, or as numbers on their lattice: it is
                        // multiplied with, in panels
};
const ClassFacts& facts_of(TensorClass tensor_class);
inline const char* name_of(TensorClass tensor_class) { return facts_of(tensor_class).name; }

// Weights of one layer. Matrices are as stored; norms and scales are float32 vectors.
struct LayerWeights {
  PackedWeight query, key, value, output;  // key, value empty where shared; value where K = V
  PackedWeight gate, up, down;
  PackedWeight per_layer_gate, per_layer_projection;
  PackedWeight router, expert_gate, expert_up, expert_down;
  Tensor norm_before_attention, norm_after_attention, norm_before_mlp, norm_after_mlp;
  Tensor query_norm, key_norm, norm_after_per_layer;
  Tensor norm_before_experts, norm_after_dense, norm_after_experts;
  Tensor router_scale, per_expert_scale;
  Tensor scalar;  // [1]; empty: 1
};

struct ModelWeights {
  PackedWeight embedding;  // as stored
  PackedWeight head;       // the embedding, or its packed form
  PackedWeight per_layer_model_projection;
  Tensor norm, per_layer_norm;
  std::vector<LayerWeights> layers;
};

// One tensor that the plan asks for, found in the checkpoint, and where it belongs.
struct BoundTensor {
  const TensorEntry* entry;
  Shape shape;  // of the matrix; its entry has another one where it holds codes
  TensorClass tensor_class;
  bool is_norm = false;            // takes ModelPlan::norm_offset
  Tensor* vector = nullptr;        // a float32 vector,
  PackedWeight* matrix = nullptr;  // or a matrix; neither for the per-layer table
  // The matrix is rows [first_row, first_row + rows) of the tensor, or of each matrix of a stack.
  int64_t first_row = 0, rows = 0;
  // A matrix that is stored as int4 codes (docs/formats.md, "w4a16-ct"): entry is its words, these
  // are its scales [..., cols / 32] and the shape it had. Null for numbers.
  const TensorEntry* scales = nullptr;
  const TensorEntry* stored_shape = nullptr;

  bool has_codes() const { return scales != nullptr; }
};

// The granule of x for a matrix that is packed, by the name of its tensor: the one table of it, and
// the same for people.
int granule_of(std::string_view name);
std::string describe_granules();

// Finds every tensor of the plan. `weights` must outlive the result, whose pointers go into it.
// Throws CheckpointError naming file, tensor, found and expected shape; Unsupported where codes are
// stored of a matrix that is not computed with in int4.
std::vector<BoundTensor> bind_tensors(const Checkpoint& checkpoint, const ModelPlan& plan,
                                      ModelWeights& weights);

}  // namespace cabochon
