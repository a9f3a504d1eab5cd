// The model as data: one LayerPlan a layer. Python makes it from config.json; the decoder follows
// it and never asks which Gemma it is. Every field always has a value.
#pragma once

#include <cstddef>
#include <vector>

namespace cabochon {

struct LayerPlan {
  int kv_source;  // the layer whose keys and values this one reads; itself unless shared
  int window;     // keys a query sees, itself included; 0: all before it
  int heads, kv_heads, head_dim;
  float rope_theta;
  float rope_scaling;                          // frequencies are divided by it
  int rope_pairs;                              // pairs (i, i + head_dim / 2) that turn, from i = 0
  float score_scale;                           // of query times key
  bool value_norm;                             // rms without weight on values
  bool values_from_keys;                       // values are the raw key projection, normed
  bool block_attention;                        // image tokens of one block see each other
  int ffn;                                     // width of the dense MLP
  int experts, experts_per_token, expert_ffn;  // 0 without experts
  int per_layer_input;                         // width of the per-layer input, 0 for none

  // Columns of a key that rope turns, where the others can be had from the value: the cache then
  // holds values and these alone. 0 where keys and values stand apart.
  int turned_columns() const { return values_from_keys ? 2 * rope_pairs : 0; }
};

struct ModelPlan {
  int hidden, vocab;
  float embed_scale, norm_epsilon;
  float logit_softcap;  // 0: none
  float norm_offset;    // added to every norm weight at load: 1 where files store w of 1 + w
  bool layer_scalars;   // every layer ends in a multiplication by its own number
  int per_layer_vocab;  // rows of the per-layer table, 0 without one
  int first_shared;  // no layer from here on owns keys and values; the number of layers if all do
  std::vector<LayerPlan> layers;

  int layer_count() const { return static_cast<int>(layers.size()); }
  bool owns_kv(int layer) const { return layers[static_cast<size_t>(layer)].kv_source == layer; }
  // How many kinds of rope the layers have between them, and how many there may be.
  int rope_kinds() const;
  static constexpr int kMaxRopeKinds = 4;
  // The longest row that a projection reads.
  int widest_input() const;
  int widest_ffn() const;  // of the dense MLPs
  // All per-layer inputs of a token side by side; 0 without them.
  int per_layer_width() const {
    return layers.empty() ? 0 : layers[0].per_layer_input * layer_count();
  }
};

// True for layers whose rope turns alike.
bool is_same_rope(const LayerPlan& a, const LayerPlan& b);

// Throws InvalidArgument naming the layer, the field and both values when the plan contradicts
// itself. Whoever holds a ModelPlan below the bindings may trust it.
void check_plan(const ModelPlan& plan);

}  // namespace cabochon
