// One layer, read from top to bottom: docs/model.md, "Layer". h is the residual stream.
#include "model/decoder.h"

namespace cabochon {

void Decoder::run_layer(int index, const DecoderStep& step) {
  const LayerPlan& layer = plan_.layers[static_cast<size_t>(index)];
  const LayerWeights& w = weights_.layers[static_cast<size_t>(index)];
  ops_.rms_norm({.out = rows_of(scratch_.normed, plan_.hidden),
                 .x = rows_of(scratch_.residual, plan_.hidden),
                 .weight = w.norm_before_attention,
                 .epsilon = plan_.norm_epsilon});
  // The last layer with keys of its own computes them for all rows, and nothing else for rows that
  // nobody wants: no later layer reads what those would become.
  const bool is_last_owner = index + 1 == plan_.first_shared;
  if (plan_.owns_kv(index)) store_keys(index, step, !is_last_owner);
  if (is_last_owner) keep_wanted(step);
  if (rows_.count == 0) return;
  attention(index, step, plan_.owns_kv(index) && !is_last_owner);
  mlp(index);
  if (layer.per_layer_input > 0) per_layer_branch(index);
  if (!w.scalar.empty()) ops_.scale(rows_of(scratch_.residual, plan_.hidden), *w.scalar.floats());
}

// h += rms(branch) * weight
void Decoder::add_normed(const Tensor& branch, const Tensor& weight) {
  ops_.rms_norm_add({.out = rows_of(scratch_.residual, plan_.hidden),
                     .x = branch,
                     .weight = weight,
                     .epsilon = plan_.norm_epsilon});
}

// Keys and values of the normed rows into the cache; with the queries, since they read the same x.
void Decoder::store_keys(int index, const DecoderStep& step, bool is_with_queries) {
  const LayerPlan& layer = plan_.layers[static_cast<size_t>(index)];
  const LayerWeights& w = weights_.layers[static_cast<size_t>(index)];
  const int64_t tokens = rows_.count, head_dim = layer.head_dim;
  const float epsilon = plan_.norm_epsilon;
  const Tensor query_rows = rows_of(scratch_.queries, layer.heads * head_dim);
  const Tensor key_rows = rows_of(scratch_.keys, layer.kv_heads * head_dim);
  const Tensor value_rows = rows_of(scratch_.values, layer.kv_heads * head_dim);
  ProjectArgs::Part parts[3];
  size_t count = 0;
  parts[count++] = {key_rows, w.key};
  if (!layer.values_from_keys) parts[count++] = {value_rows, w.value};
  if (is_with_queries) parts[count++] = {query_rows, w.query};
  ops_.project(
      {.x = rows_of(scratch_.normed, plan_.hidden), .parts = std::span(parts).first(count)});

  const Tensor keys = reshape(key_rows, {tokens, layer.kv_heads, head_dim});
  const Tensor values = reshape(value_rows, {tokens, layer.kv_heads, head_dim});
  // Values from keys are those of the raw projection: before the key's norm and rope.
  if (layer.value_norm) {
    ops_.rms_norm({.out = values,
                   .x = layer.values_from_keys ? keys : values,
                   .weight = {},
                   .epsilon = epsilon});
  }
  ops_.rms_norm({.out = keys, .x = keys, .weight = w.key_norm, .epsilon = epsilon});
  ops_.rope(
      {.x = keys, .cos = rope_rows(scratch_.cos, index), .sin = rope_rows(scratch_.sin, index)});
  ops_.store_kv({.kv = step.kv[static_cast<size_t>(index)],
                 .keys = keys,
                 .values = values,
                 .places = places(step, layer.window > 0)});
}

void Decoder::attention(int index, const DecoderStep& step, bool has_queries) {
  const LayerPlan& layer = plan_.layers[static_cast<size_t>(index)];
  const LayerWeights& w = weights_.layers[static_cast<size_t>(index)];
  const int64_t tokens = rows_.count, head_dim = layer.head_dim;
  const Tensor query_rows = rows_of(scratch_.queries, layer.heads * head_dim);
  const Tensor queries = reshape(query_rows, {tokens, layer.heads, head_dim});
  if (!has_queries) {
    ops_.matmul(
        {.out = query_rows, .x = rows_of(scratch_.normed, plan_.hidden), .weight = w.query});
  }
  ops_.rms_norm(
      {.out = queries, .x = queries, .weight = w.query_norm, .epsilon = plan_.norm_epsilon});
  ops_.rope(
      {.x = queries, .cos = rope_rows(scratch_.cos, index), .sin = rope_rows(scratch_.sin, index)});
  const Tensor attended = rows_of(scratch_.attended, layer.heads * head_dim);
  ops_.attention({.out = reshape(attended, {tokens, layer.heads, head_dim}),
                  .queries = queries,
                  .kv = step.kv[static_cast<size_t>(layer.kv_source)],
                  .places = places(step, layer.window > 0),
                  .window = layer.window,
                  .scale = layer.score_scale,
                  .key_norm = weights_.layers[static_cast<size_t>(layer.kv_source)].key_norm,
                  .scratch = scratch_.attention});
  const Tensor branch = rows_of(scratch_.branch, plan_.hidden);
  ops_.matmul({.out = branch, .x = attended, .weight = w.output});
  add_normed(branch, w.norm_after_attention);
}

void Decoder::mlp(int index) {
  const LayerPlan& layer = plan_.layers[static_cast<size_t>(index)];
  const LayerWeights& w = weights_.layers[static_cast<size_t>(index)];
  const Tensor x = rows_of(scratch_.normed, plan_.hidden);
  const Tensor gate = rows_of(scratch_.gate, layer.ffn);
  const Tensor branch = rows_of(scratch_.branch, plan_.hidden);
  ops_.rms_norm({.out = x,
                 .x = rows_of(scratch_.residual, plan_.hidden),
                 .weight = w.norm_before_mlp,
                 .epsilon = plan_.norm_epsilon});
  ops_.gated_matmul({.out = gate, .x = x, .gate = w.gate, .up = w.up});
  ops_.matmul({.out = branch, .x = gate, .weight = w.down});
  if (layer.experts > 0) mixture(layer, w);
  add_normed(branch, w.norm_after_mlp);
}

// branch = norm(branch) + norm(experts): the dense MLP is the expert that is always on.
void Decoder::mixture(const LayerPlan& layer, const LayerWeights& w) {
  const int64_t hidden = plan_.hidden, top = layer.experts_per_token;
  const float epsilon = plan_.norm_epsilon;
  const Tensor residual = rows_of(scratch_.residual, hidden);
  const Tensor x = rows_of(scratch_.normed, hidden);
  const Tensor branch = rows_of(scratch_.branch, hidden);
  const Tensor out = rows_of(scratch_.experts_out, hidden);
  const Tensor ids = rows_of(scratch_.expert_ids, top);
  const Tensor weights = rows_of(scratch_.expert_weights, top);
  // The router reads the raw residual, not the experts' normed input.
  ops_.route({.ids = ids,
              .weights = weights,
              .x = residual,
              .weight = w.router,
              .scale = w.router_scale,
              .per_expert_scale = w.per_expert_scale,
              .normed = x,
              .scores = rows_of(scratch_.expert_scores, layer.experts),
              .epsilon = epsilon});
  ops_.rms_norm({.out = x, .x = residual, .weight = w.norm_before_experts, .epsilon = epsilon});
  ops_.experts(
      {.out = out,
       .x = x,
       .ids = ids,
       .weights = weights,
       .gate = w.expert_gate,
       .up = w.expert_up,
       .down = w.expert_down,
       .slots = rows_of(scratch_.expert_slots, top),
       .used = reshape(scratch_.expert_used, {layer.experts}),
       .ends = reshape(scratch_.expert_ends, {layer.experts}),
       .activated = reshape(scratch_.expert_activated, {2, rows_.count * top, layer.expert_ffn}),
       .results = reshape(scratch_.expert_results, {rows_.count * top, hidden})});
  ops_.rms_norm({.out = branch, .x = branch, .weight = w.norm_after_dense, .epsilon = epsilon});
  ops_.rms_norm({.out = out, .x = out, .weight = w.norm_after_experts, .epsilon = epsilon});
  ops_.add(branch, out);
}

void Decoder::per_layer_branch(int index) {
  const LayerPlan& layer = plan_.layers[static_cast<size_t>(index)];
  const LayerWeights& w = weights_.layers[static_cast<size_t>(index)];
  const int64_t width = layer.per_layer_input;
  const Tensor gated = rows_of(scratch_.per_layer, width);
  const Tensor branch = rows_of(scratch_.branch, plan_.hidden);
  // The gate reads the raw residual: there is no norm before it.
  ops_.per_layer_gate({.out = gated,
                       .x = rows_of(scratch_.residual, plan_.hidden),
                       .gate = w.per_layer_gate,
                       .input = rows_.per_layer_inputs,
                       .offset = (index - rows_.first_layer) * width});
  ops_.matmul({.out = branch, .x = gated, .weight = w.per_layer_projection});
  add_normed(branch, w.norm_after_per_layer);
}

}  // namespace cabochon
