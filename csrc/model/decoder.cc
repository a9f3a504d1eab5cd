#include "model/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace cabochon {
namespace {

// Moves rows `wanted` of a buffer to its front. They ascend, so no row is overwritten unread.
void compact(const Tensor& buffer, int64_t columns, std::span<const int32_t> wanted) {
  const int64_t bytes = columns * byte_size(buffer.dtype);
  std::byte* data = buffer.as<std::byte>();
  for (size_t i = 0; i < wanted.size(); ++i) {
    std::memmove(data + static_cast<int64_t>(i) * bytes, data + wanted[i] * bytes,
                 static_cast<size_t>(bytes));
  }
}

float sqrt_of(int n) { return static_cast<float>(std::sqrt(static_cast<double>(n))); }
float inverse_sqrt_of(int n) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(n))); }

}  // namespace

Decoder::Decoder(const ModelPlan& plan, const ModelWeights& weights, RowSource* per_layer_rows,
                 Ops& ops, int64_t max_rows, int64_t after_layers)
    : plan_(plan),
      weights_(weights),
      per_layer_rows_(per_layer_rows),
      ops_(ops),
      scratch_(plan, max_rows, per_layer_rows == nullptr ? Dtype::kF32 : per_layer_rows->dtype(),
               after_layers) {
  for (int index = 0; index < plan.layer_count(); ++index) {
    const LayerPlan& layer = plan.layers[static_cast<size_t>(index)];
    int first = 0;  // the first layer whose rope is the same
    while (!is_same_rope(plan.layers[static_cast<size_t>(first)], layer)) ++first;
    if (first == index) {
      rope_of_layer_.push_back(static_cast<int>(ropes_.size()));
      ropes_.emplace_back(layer.rope_theta, layer.rope_scaling, layer.head_dim, layer.rope_pairs);
    } else {
      rope_of_layer_.push_back(rope_of_layer_[static_cast<size_t>(first)]);
    }
  }
  rows_.sequences.reserve(static_cast<size_t>(max_rows));
  rows_.positions.reserve(static_cast<size_t>(max_rows));
}

Tensor Decoder::forward(const DecoderStep& step, const std::function<void()>& after_layer) {
  rows_.count = std::ssize(step.tokens);
  rows_.sequences.assign(step.sequences.begin(), step.sequences.end());
  rows_.positions.assign(step.positions.begin(), step.positions.end());
  embed(step);
  fill_ropes();
  for (int index = 0; index < plan_.layer_count(); ++index) {
    run_layer(index, step);
    if (rows_.count == 0) break;
    after_layer();
  }
  const Tensor out = rows_of(scratch_.normed, plan_.hidden);
  ops_.rms_norm({.out = out,
                 .x = rows_of(scratch_.residual, plan_.hidden),
                 .weight = weights_.norm,
                 .epsilon = plan_.norm_epsilon});
  return out;
}

void Decoder::embed(const DecoderStep& step) {
  ops_.embed({.out = rows_of(scratch_.residual, plan_.hidden),
              .ids = step.tokens,
              .table = weights_.embedding,
              .scale = plan_.embed_scale});
  if (plan_.per_layer_width() > 0) make_per_layer_inputs(step);
}

void Decoder::make_per_layer_inputs(const DecoderStep& step) {
  const int64_t hidden = plan_.hidden, all = plan_.per_layer_width();
  const int width = plan_.layers[0].per_layer_input;
  const int64_t early = scratch_.early.shape[1];
  // Rows that nobody wants end before the layers that only wanted ones reach.
  per_layer_rows_->gather({.ids = step.tokens,
                           .whole = step.wanted,
                           .front = early,
                           .out = scratch_.stored.as<std::byte>(),
                           .failures = step.failures});

  const auto compute = [&](const Tensor& out, const Tensor& x, int64_t begin) {
    const int64_t tokens = out.shape[0], columns = out.shape[1];
    ops_.matmul(
        {.out = out, .x = x, .weight = weights_.per_layer_model_projection.slice(begin, columns)});
    ops_.per_layer_sum({.out = out,
                        .norm = weights_.per_layer_norm,
                        .stored = reshape(scratch_.stored, {tokens, all}),
                        .begin = begin,
                        .projection_scale = inverse_sqrt_of(plan_.hidden),
                        .stored_scale = sqrt_of(width),
                        .result_scale = inverse_sqrt_of(2),
                        .epsilon = plan_.norm_epsilon});
  };
  rows_.per_layer_inputs = rows_of(scratch_.early, early);
  rows_.first_layer = 0;
  compute(rows_.per_layer_inputs, rows_of(scratch_.residual, hidden), 0);
  if (step.wanted.empty()) return;

  // The rows that somebody wants get those of the other layers now, while the embedding is at hand.
  const int64_t wanted = std::ssize(step.wanted);
  const Tensor x = reshape(scratch_.normed, {wanted, hidden});
  for (int64_t i = 0; i < wanted; ++i) {
    std::memcpy(x.floats() + i * hidden,
                scratch_.residual.floats() + step.wanted[static_cast<size_t>(i)] * hidden,
                static_cast<size_t>(hidden) * sizeof(float));
  }
  compact(scratch_.stored, all, step.wanted);
  compute(reshape(scratch_.late, {wanted, all - early}), x, early);
}

void Decoder::keep_wanted(const DecoderStep& step) {
  compact(scratch_.residual, plan_.hidden, step.wanted);
  compact(scratch_.normed, plan_.hidden, step.wanted);
  for (size_t i = 0; i < step.wanted.size(); ++i) {
    const auto row = static_cast<size_t>(step.wanted[i]);
    rows_.sequences[i] = step.sequences[row];
    rows_.positions[i] = step.positions[row];
  }
  rows_.count = std::ssize(step.wanted);
  rows_.sequences.resize(step.wanted.size());
  rows_.positions.resize(step.wanted.size());
  rows_.per_layer_inputs = rows_of(scratch_.late, scratch_.late.shape[1]);
  rows_.first_layer = plan_.first_shared - 1;
  fill_ropes();
}

void Decoder::fill_ropes() {
  for (int index = 0; index < plan_.layer_count(); ++index) {
    const auto kind = static_cast<size_t>(rope_of_layer_[static_cast<size_t>(index)]);
    const auto first = std::find(rope_of_layer_.begin(), rope_of_layer_.end(), kind);
    if (first - rope_of_layer_.begin() != index) continue;  // this kind is filled already
    ropes_[kind].fill(rows_.positions, rope_rows(scratch_.cos, index),
                      rope_rows(scratch_.sin, index));
  }
}

Tensor Decoder::rope_rows(const Tensor& table, int layer) const {
  const int kind = rope_of_layer_[static_cast<size_t>(layer)];
  return reshape(table.rows(kind, 1), {rows_.count, ropes_[static_cast<size_t>(kind)].pairs()});
}

RowPlaces Decoder::places(const DecoderStep& step, bool is_sliding) const {
  return {.sequences = rows_.sequences,
          .positions = rows_.positions,
          .tables = is_sliding ? step.sliding_tables : step.global_tables};
}

}  // namespace cabochon
