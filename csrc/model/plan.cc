#include "model/plan.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace cabochon {
namespace {

void require(bool is_true, const std::string& place, const std::string& message) {
  if (!is_true) throw InvalidArgument(place + ": " + message);
}

template <typename T>
void require_range(const std::string& place, const char* field, T value, T least, T most) {
  // Written so that NaN fails too.
  if (!(value >= least && value <= most)) {
    throw InvalidArgument(
        text(place, ": ", field, " is ", value, ", expected ", least, " to ", most));
  }
}

void check_layer(const ModelPlan& plan, int index) {
  const LayerPlan& layer = plan.layers[static_cast<size_t>(index)];
  const std::string place = text("layer ", index);
  require_range(place, "heads", layer.heads, 1, 256);
  require_range(place, "kv_heads", layer.kv_heads, 1, 256);
  require_range(place, "head_dim", layer.head_dim, 2, 1024);
  require_range(place, "window", layer.window, 0, 1 << 30);
  require_range(place, "ffn", layer.ffn, 1, 1 << 20);
  require_range(place, "rope_theta", layer.rope_theta, 1.0f, 1e12f);
  require_range(place, "rope_scaling", layer.rope_scaling, 1e-3f, 1e6f);
  require_range(place, "rope_pairs", layer.rope_pairs, 0, layer.head_dim / 2);
  require_range(place, "score_scale", layer.score_scale, 1e-6f, 1e6f);
  require_range(place, "per_layer_input", layer.per_layer_input, 0, 4096);
  require(layer.head_dim % 2 == 0, place, text("head_dim is ", layer.head_dim, ", expected even"));
  require(layer.value_norm || !layer.values_from_keys, place,
          "values_from_keys without value_norm is no known model");
  require(layer.heads % layer.kv_heads == 0, place,
          text(layer.heads, " heads cannot share ", layer.kv_heads, " kv_heads"));
  require(layer.per_layer_input == plan.layers[0].per_layer_input, place,
          text("per_layer_input is ", layer.per_layer_input, ", in layer 0 ",
               plan.layers[0].per_layer_input));
  require_range(place, "experts", layer.experts, 0, 1024);
  require_range(place, "experts_per_token", layer.experts_per_token, layer.experts > 0 ? 1 : 0,
                layer.experts);
  require_range(place, "expert_ffn", layer.expert_ffn, layer.experts > 0 ? 1 : 0, 1 << 20);

  require_range(place, "kv_source", layer.kv_source, 0, index);
  if (layer.kv_source == index) {
    require(index < plan.first_shared, place,
            text("owns keys and values, but first_shared is ", plan.first_shared));
    return;
  }
  require(index >= plan.first_shared, place,
          text("reads layer ", layer.kv_source, ", but first_shared is ", plan.first_shared));
  const LayerPlan& donor = plan.layers[static_cast<size_t>(layer.kv_source)];
  require(donor.kv_source == layer.kv_source, place,
          text("kv_source ", layer.kv_source, " has no keys of its own"));
  require(donor.kv_heads == layer.kv_heads && donor.head_dim == layer.head_dim &&
              donor.window == layer.window,
          place,
          text("kv_heads, head_dim, window are ", layer.kv_heads, ", ", layer.head_dim, ", ",
               layer.window, ", but those of its kv_source ", layer.kv_source, " are ",
               donor.kv_heads, ", ", donor.head_dim, ", ", donor.window));
}

}  // namespace

bool is_same_rope(const LayerPlan& a, const LayerPlan& b) {
  return a.rope_theta == b.rope_theta && a.rope_scaling == b.rope_scaling &&
         a.head_dim == b.head_dim && a.rope_pairs == b.rope_pairs;
}

int ModelPlan::rope_kinds() const {
  int kinds = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto here = layers.begin() + static_cast<std::ptrdiff_t>(i);
    kinds += std::none_of(layers.begin(), here,
                          [&](const LayerPlan& before) { return is_same_rope(before, *here); });
  }
  return kinds;
}

int ModelPlan::widest_input() const {
  int widest = hidden;
  for (const LayerPlan& layer : layers) {
    widest = std::max({widest, layer.heads * layer.head_dim, layer.ffn});
  }
  return widest;
}

int ModelPlan::widest_ffn() const {
  int widest = 0;
  for (const LayerPlan& layer : layers) widest = std::max(widest, layer.ffn);
  return widest;
}

void check_plan(const ModelPlan& plan) {
  require_range("plan", "hidden", plan.hidden, 1, 1 << 16);
  require_range("plan", "vocab", plan.vocab, 1, 1 << 20);
  require_range("plan", "layers", plan.layer_count(), 1, 256);
  require_range("plan", "first_shared", plan.first_shared, 1, plan.layer_count());
  require_range("plan", "embed_scale", plan.embed_scale, 1e-6f, 1e6f);
  require_range("plan", "norm_epsilon", plan.norm_epsilon, 0.0f, 1.0f);
  require_range("plan", "logit_softcap", plan.logit_softcap, 0.0f, 1e6f);
  require_range("plan", "norm_offset", plan.norm_offset, 0.0f, 1.0f);
  require_range("plan", "per_layer_vocab", plan.per_layer_vocab,
                plan.layers[0].per_layer_input > 0 ? 1 : 0, 1 << 20);
  for (int index = 0; index < plan.layer_count(); ++index) check_layer(plan, index);
  require_range("plan", "rope_kinds", plan.rope_kinds(), 1, ModelPlan::kMaxRopeKinds);
}

}  // namespace cabochon
