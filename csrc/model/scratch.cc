#include "model/scratch.h"

#include <algorithm>
#include <vector>

#include "ops/args.h"

namespace cabochon {
namespace {

struct Need {
  Tensor Scratch::* field;
  Dtype dtype;
  Shape shape;
};

// One list for the sum of bytes and for the tensors, so they cannot differ.
std::vector<Need> needs(const ModelPlan& plan, int64_t rows, Dtype stored_dtype) {
  int64_t query = 0, attention = 0, kv = 0, top = 0, experts = 0, expert_ffn = 0, pairs = 0;
  for (const LayerPlan& layer : plan.layers) {
    query = std::max<int64_t>(query, int64_t{layer.heads} * layer.head_dim);
    attention = std::max(
        attention,
        attention_scratch(rows, layer.heads, layer.head_dim,
                          plan.layers[static_cast<size_t>(layer.kv_source)].turned_columns()));
    kv = std::max<int64_t>(kv, int64_t{layer.kv_heads} * layer.head_dim);
    top = std::max<int64_t>(top, layer.experts_per_token);
    experts = std::max<int64_t>(experts, layer.experts);
    expert_ffn = std::max<int64_t>(expert_ffn, layer.expert_ffn);
    pairs = std::max<int64_t>(pairs, layer.rope_pairs);
  }
  const int64_t hidden = plan.hidden, width = plan.layers[0].per_layer_input;
  const int64_t early = width * (plan.first_shared - 1), all = plan.per_layer_width();
  const int64_t expert_rows = experts > 0 ? rows : 0;
  const Dtype f32 = Dtype::kF32;
  return {{&Scratch::normed, f32, {rows, hidden}},
          {&Scratch::residual, f32, {rows, hidden}},
          {&Scratch::branch, f32, {rows, hidden}},
          {&Scratch::queries, f32, {rows, query}},
          {&Scratch::keys, f32, {rows, kv}},
          {&Scratch::values, f32, {rows, kv}},
          {&Scratch::attended, f32, {rows, query}},
          {&Scratch::attention, f32, {attention}},
          {&Scratch::gate, f32, {rows, plan.widest_ffn()}},
          {&Scratch::stored, stored_dtype, {rows, all}},
          {&Scratch::early, f32, {rows, early}},
          {&Scratch::late, f32, {rows, all - early}},
          {&Scratch::per_layer, f32, {rows, width}},
          {&Scratch::experts_out, f32, {expert_rows, hidden}},
          {&Scratch::expert_ids, Dtype::kI32, {expert_rows, top}},
          {&Scratch::expert_weights, f32, {expert_rows, top}},
          {&Scratch::expert_scores, f32, {expert_rows, experts}},
          {&Scratch::expert_slots, Dtype::kI32, {expert_rows, top}},
          {&Scratch::expert_used, Dtype::kI32, {experts}},
          {&Scratch::expert_ends, Dtype::kI32, {experts}},
          {&Scratch::expert_activated, f32, {2, expert_rows * top, expert_ffn}},
          {&Scratch::expert_results, f32, {expert_rows * top, hidden}},
          {&Scratch::cos, f32, {ModelPlan::kMaxRopeKinds, rows, pairs}},
          {&Scratch::sin, f32, {ModelPlan::kMaxRopeKinds, rows, pairs}}};
}

}  // namespace

int64_t Scratch::bytes(const ModelPlan& plan, int64_t rows, Dtype stored_dtype,
                       int64_t after_layers) {
  int64_t normed = 0, others = 0;
  for (const Need& need : needs(plan, rows, stored_dtype)) {
    (need.field == &Scratch::normed ? normed : others) +=
        Arena::padded_bytes(need.dtype, need.shape.elements());
  }
  return normed + std::max(others, after_layers);
}

Scratch::Scratch(const ModelPlan& plan, int64_t rows, Dtype stored_dtype, int64_t after)
    : arena_(bytes(plan, rows, stored_dtype, after)) {
  for (const Need& need : needs(plan, rows, stored_dtype)) {
    this->*need.field = arena_.take(need.dtype, need.shape);
    if (need.field == &Scratch::normed) {
      after_layers = arena_.rest().first(static_cast<size_t>(after));
    }
  }
}

}  // namespace cabochon
