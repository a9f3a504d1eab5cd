// The text model: embedding, layers, final norm. Follows its plan and never asks which Gemma it is.
//
// Does not know devices, threads, files, sampling or requests; allocates nothing in a step.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/rope_table.h"
#include "model/scratch.h"
#include "model/tensors.h"
#include "ops/ops.h"
#include "weights/row_source.h"

namespace cabochon {

// One step's rows. Tables are by sequence; sliding layers and global layers have their own.
struct DecoderStep {
  std::span<const int32_t> tokens;     // [tokens]
  std::span<const int32_t> sequences;  // [tokens], index into the tables
  std::span<const int64_t> positions;  // [tokens]
  std::span<const PageTable> global_tables, sliding_tables;
  std::span<const int32_t> wanted;  // rows whose result somebody wants, ascending
  std::span<const KvLayer> kv;      // [layers]; of layers that own none: unused
  std::span<uint8_t> failures;      // [tokens]: set where the per-layer row could not be read
};

class Decoder {
 public:
  // All references must outlive the decoder. per_layer_rows is null without per-layer inputs.
  Decoder(const ModelPlan& plan, const ModelWeights& weights, RowSource* per_layer_rows, Ops& ops,
          int64_t max_rows, int64_t after_layers = 0);

  // Runs all rows until the last layer with keys of its own has stored them, and from there on the
  // wanted ones alone: exact, because nothing that follows reads the others. Returns the normed
  // rows, [wanted, hidden]; valid until the next step. after_layer is called after each layer and
  // may throw to end the step: no later step sees it.
  Tensor forward(const DecoderStep& step, const std::function<void()>& after_layer);

  int64_t scratch_bytes() const { return scratch_.bytes(); }
  // `after_layers` bytes for whoever takes over from forward(); the next step overwrites them.
  std::span<std::byte> after_layers() const { return scratch_.after_layers; }

 private:
  // The rows that a layer computes: all of the step, or those that are wanted.
  struct Rows {
    int64_t count = 0;
    std::vector<int32_t> sequences;
    std::vector<int64_t> positions;
    Tensor per_layer_inputs;  // [count, columns]
    int first_layer = 0;      // column 0 of per_layer_inputs belongs to this layer
  };

  void embed(const DecoderStep& step);
  void make_per_layer_inputs(const DecoderStep& step);
  void keep_wanted(const DecoderStep& step);
  void fill_ropes();

  // decoder_layer.cc
  void run_layer(int index, const DecoderStep& step);
  void store_keys(int index, const DecoderStep& step, bool is_with_queries);
  void attention(int index, const DecoderStep& step, bool has_queries);
  void mlp(int index);
  void mixture(const LayerPlan& layer, const LayerWeights& w);
  void per_layer_branch(int index);
  void add_normed(const Tensor& branch, const Tensor& weight);
  Tensor rows_of(const Tensor& buffer, int64_t columns) const {
    return reshape(buffer, {rows_.count, columns});
  }
  RowPlaces places(const DecoderStep& step, bool is_sliding) const;
  Tensor rope_rows(const Tensor& table, int layer) const;

  const ModelPlan& plan_;
  const ModelWeights& weights_;
  RowSource* per_layer_rows_;
  Ops& ops_;
  Scratch scratch_;
  std::vector<RopeTable> ropes_;
  std::vector<int> rope_of_layer_;
  Rows rows_;
};

}  // namespace cabochon
