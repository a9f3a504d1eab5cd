#include "model/tensors.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>
#include <unordered_set>

namespace cabochon {
namespace {

// Prefixes of the text model in use: Gemma 4 and new Gemma 3 files, Gemma 3 on the hub, text only.
constexpr std::array<std::string_view, 4> kPrefixes = {"model.language_model.",
                                                       "language_model.model.", "model.", ""};

// Towers and projectors of other modalities: recognised, not computed yet.
constexpr std::array<std::string_view, 9> kTowers = {
    "model.vision_tower.",    "model.audio_tower.",           "model.embed_vision.",
    "model.embed_audio.",     "model.vision_embedder.",       "vision_tower.",
    "multi_modal_projector.", "model.multi_modal_projector.", "audio_tower."};

// Tensors that only a drafter has.
constexpr std::array<std::string_view, 3> kDrafter = {"pre_projection.", "post_projection.",
                                                      "masked_embedding."};

// What stands behind the name of a matrix that is stored as int4 codes: three tensors in its place.
constexpr std::string_view kWords = "_packed", kScales = "_scale", kStoredShape = "_shape";

constexpr int64_t kCodesOfWord = 8, kCodesOfScale = 32;

// Matrices whose x is rounded with one scale for 128 columns; all others have one for 32. These two
// are most of the multiplications of a prompt, and 32 cost it more than they gain
// (docs/numerics.md).
constexpr std::array<std::string_view, 3> kCoarse = {".gate_proj.", ".up_proj.", ".gate_up_proj"};

// Two classes answer differently. The per-layer table is looked up by row: rounded, it is rows and
// no panels. The context projection goes into the inputs of all layers, too sensitive to be
// rounded; but codes that it was trained in are its weights.
constexpr std::array<ClassFacts, kTensorClasses> kClasses = {{
    {TensorClass::kEmbedding, "embedding", false, false},
    {TensorClass::kHead, "head", true, true},
    {TensorClass::kPerLayerTable, "per_layer_table", true, false},
    {TensorClass::kPerLayerContext, "per_layer_context", false, true},
    {TensorClass::kPerLayer, "per_layer", true, true},
    {TensorClass::kAttention, "attention", true, true},
    {TensorClass::kMlp, "mlp", true, true},
    {TensorClass::kExperts, "experts", true, true},
    {TensorClass::kRouter, "router", false, false},
    {TensorClass::kSmall, "norms and scales", false, false},
}};
static_assert([] {  // in the order of the enum, none missing
  for (size_t i = 0; i < kClasses.size(); ++i) {
    if (static_cast<size_t>(kClasses[i].tensor_class) != i || kClasses[i].name == nullptr) {
      return false;
    }
  }
  return true;
}());

template <size_t n>
bool begins_with_any(std::string_view name, const std::array<std::string_view, n>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

Shape shape_of(const TensorEntry& entry) {
  return entry.shape.size() <= Shape::kMaxRank ? Shape(std::span<const int64_t>(entry.shape))
                                               : Shape();
}

// The same with its last size divided.
Shape divided(const Shape& shape, int64_t by) {
  int64_t sizes[Shape::kMaxRank] = {};
  for (int axis = 0; axis < shape.rank(); ++axis) sizes[axis] = shape[axis];
  sizes[shape.rank() - 1] /= by;
  return Shape(std::span<const int64_t>(sizes, static_cast<size_t>(shape.rank())));
}

std::string shape_text(const TensorEntry& entry) {
  std::string out = "[";
  for (size_t i = 0; i < entry.shape.size(); ++i) {
    out += (i == 0 ? "" : ", ") + std::to_string(entry.shape[i]);
  }
  return out + "]";
}

class Binder {
 public:
  Binder(const Checkpoint& checkpoint, const ModelPlan& plan)
      : checkpoint_(checkpoint), plan_(plan), prefix_(find_prefix()) {}

  void vector(const std::string& name, const Shape& shape, Tensor& field, bool is_norm) {
    bound_.push_back({.entry = find(name, shape),
                      .shape = shape,
                      .tensor_class = TensorClass::kSmall,
                      .is_norm = is_norm,
                      .vector = &field});
  }
  void norm(const std::string& name, int64_t n, Tensor& field) { vector(name, {n}, field, true); }
  void matrix(const std::string& name, const Shape& shape, PackedWeight& field,
              TensorClass tensor_class) {
    rows(name, shape, field, tensor_class, 0, shape[shape.rank() == 3 ? 1 : 0]);
  }
  void rows(const std::string& name, const Shape& shape, PackedWeight& field,
            TensorClass tensor_class, int64_t first_row, int64_t count) {
    BoundTensor bound{.entry = nullptr,
                      .shape = shape,
                      .tensor_class = tensor_class,
                      .matrix = &field,
                      .first_row = first_row,
                      .rows = count};
    find_matrix(name, bound);
    bound_.push_back(bound);
  }
  // The last matrix is multiplied in parts of so many rows.
  void require_panels(int64_t rows) const {
    const BoundTensor& last = bound_.back();
    if (last.has_codes() && rows % kPanelRows != 0) {
      throw Unsupported(text("tensor ", last.entry->name, ": int4 codes in parts of ", rows,
                             " rows, expected a multiple of ", kPanelRows));
    }
  }
  void table(const std::string& name, const Shape& shape) {
    bound_.push_back(
        {.entry = find(name, shape), .shape = shape, .tensor_class = TensorClass::kPerLayerTable});
  }
  // A tensor that may be there and is not used.
  void leftover(const std::string& name) {
    for (const std::string_view part : {std::string_view(), kWords, kScales, kStoredShape}) {
      leftovers_.insert(text(prefix_, name, part));
    }
  }

  std::vector<BoundTensor> finish() {
    std::unordered_set<std::string_view> used;
    for (const BoundTensor& bound : bound_) {
      for (const TensorEntry* entry : {bound.entry, bound.scales, bound.stored_shape}) {
        if (entry != nullptr) used.insert(entry->name);
      }
    }
    for (const TensorEntry& entry : checkpoint_.entries()) {
      if (used.contains(entry.name) || leftovers_.contains(entry.name) ||
          begins_with_any(entry.name, kTowers)) {
        continue;
      }
      const std::string advice =
          begins_with_any(entry.name, kDrafter)
              ? "it belongs to a drafter, which is loaded beside its model and not alone"
          : entry.name.ends_with("lm_head.weight")
              ? "the head of this model is its embedding; a head of its own is not supported"
          : entry.name.ends_with(kScales) || entry.name.ends_with(kStoredShape)
              ? "it belongs to int4 codes, and there are none beside it"
              : "no part of this model has that name; is config.json that of this checkpoint?";
      fail(entry, text("found ", entry.dtype, " ", shape_text(entry),
                       ", expected no such tensor: ", advice));
    }
    return std::move(bound_);
  }

 private:
  [[noreturn]] void fail(const TensorEntry& entry, const std::string& what) const {
    const std::string& path = checkpoint_.file(entry).path();
    throw CheckpointError(text(path, ": tensor ", entry.name, ": ", what), path, entry.name);
  }

  std::string find_prefix() const {
    for (const std::string_view prefix : kPrefixes) {
      if (checkpoint_.find(std::string(prefix) + "embed_tokens.weight") != nullptr) {
        return std::string(prefix);
      }
    }
    throw CheckpointError(
        text("no tensor model.language_model.embed_tokens.weight (nor with another known prefix) "
             "among ",
             checkpoint_.entries().size(), " tensors: this is no Gemma text model"),
        "", "embed_tokens.weight");
  }

  // A matrix under its own name, or its int4 codes in three parts.
  void find_matrix(const std::string& name, BoundTensor& bound) const {
    const auto part = [&](std::string_view which) { return text(prefix_, name, which); };
    const TensorEntry* plain = checkpoint_.find(part(""));
    const TensorEntry* words = checkpoint_.find(part(kWords));
    if (words == nullptr && (plain != nullptr || checkpoint_.find(part(kScales)) == nullptr)) {
      bound.entry = find(name, bound.shape);
      return;
    }
    const Shape& shape = bound.shape;
    if (words != nullptr && plain != nullptr) {
      fail(*words, text("found beside ", plain->name, ", expected one of them: which one counts?"));
    }
    if (words != nullptr && shape.back() % kCodesOfScale != 0) {
      fail(*words,
           text("found codes of ", shape, ", expected columns in whole groups of ", kCodesOfScale));
    }
    if (!facts_of(bound.tensor_class).may_hold_codes) {
      throw Unsupported(text("tensor ", part(kWords), ": int4 codes of the class ",
                             name_of(bound.tensor_class),
                             " are not computed with, expected float numbers: load the bf16 "
                             "checkpoint of the same model"));
    }
    bound.entry = find(text(name, kWords), divided(shape, kCodesOfWord), {"I32"});
    bound.scales = find(text(name, kScales), divided(shape, kCodesOfScale), {"BF16"});
    bound.stored_shape = find(text(name, kStoredShape), {shape.rank()}, {"I64"});
  }

  const TensorEntry* find(const std::string& name, const Shape& shape,
                          std::initializer_list<std::string_view> types = {"BF16", "F16",
                                                                           "F32"}) const {
    const std::string full = prefix_ + name;
    const TensorEntry* entry = checkpoint_.find(full);
    if (entry == nullptr) {
      throw CheckpointError(text("tensor ", full, " is missing from ", checkpoint_.entries().size(),
                                 " tensors; expected ", shape,
                                 ": is the download complete, and config.json that of this "
                                 "checkpoint?"),
                            "", full);
    }
    if (!(shape_of(*entry) == shape) || entry->shape.size() > Shape::kMaxRank) {
      fail(*entry, text("found shape ", shape_text(*entry), ", expected ", shape));
    }
    if (std::find(types.begin(), types.end(), entry->dtype) == types.end()) {
      fail(*entry, text("found type ", entry->dtype, ", expected ",
                        types.size() == 1 ? *types.begin() : "BF16, F16 or F32"));
    }
    return entry;
  }

  const Checkpoint& checkpoint_;
  const ModelPlan& plan_;
  std::string prefix_;
  std::vector<BoundTensor> bound_;
  std::unordered_set<std::string> leftovers_;
};

void bind_layer(Binder& binder, const ModelPlan& plan, int index, LayerWeights& w) {
  const LayerPlan& layer = plan.layers[static_cast<size_t>(index)];
  const std::string at = text("layers.", index, ".");
  const int64_t hidden = plan.hidden, ffn = layer.ffn, experts = layer.experts;
  const int64_t query_rows = int64_t{layer.heads} * layer.head_dim;
  const int64_t kv_rows = int64_t{layer.kv_heads} * layer.head_dim;

  binder.norm(at + "input_layernorm.weight", hidden, w.norm_before_attention);
  binder.norm(at + "post_attention_layernorm.weight", hidden, w.norm_after_attention);
  binder.norm(at + "pre_feedforward_layernorm.weight", hidden, w.norm_before_mlp);
  binder.norm(at + "post_feedforward_layernorm.weight", hidden, w.norm_after_mlp);
  binder.matrix(at + "self_attn.q_proj.weight", {query_rows, hidden}, w.query,
                TensorClass::kAttention);
  binder.matrix(at + "self_attn.o_proj.weight", {hidden, query_rows}, w.output,
                TensorClass::kAttention);
  binder.norm(at + "self_attn.q_norm.weight", layer.head_dim, w.query_norm);
  if (plan.owns_kv(index)) {
    binder.matrix(at + "self_attn.k_proj.weight", {kv_rows, hidden}, w.key,
                  TensorClass::kAttention);
    binder.norm(at + "self_attn.k_norm.weight", layer.head_dim, w.key_norm);
    if (!layer.values_from_keys) {
      binder.matrix(at + "self_attn.v_proj.weight", {kv_rows, hidden}, w.value,
                    TensorClass::kAttention);
    }
  } else {
    // Base checkpoints store them, although nothing reads them.
    for (const char* name : {"k_proj", "v_proj", "k_norm"}) {
      binder.leftover(at + "self_attn." + name + ".weight");
    }
  }
  binder.matrix(at + "mlp.gate_proj.weight", {ffn, hidden}, w.gate, TensorClass::kMlp);
  binder.matrix(at + "mlp.up_proj.weight", {ffn, hidden}, w.up, TensorClass::kMlp);
  binder.matrix(at + "mlp.down_proj.weight", {hidden, ffn}, w.down, TensorClass::kMlp);
  if (plan.layer_scalars) binder.vector(at + "layer_scalar", {1}, w.scalar, false);
  if (layer.per_layer_input > 0) {
    const int64_t width = layer.per_layer_input;
    binder.matrix(at + "per_layer_input_gate.weight", {width, hidden}, w.per_layer_gate,
                  TensorClass::kPerLayer);
    binder.matrix(at + "per_layer_projection.weight", {hidden, width}, w.per_layer_projection,
                  TensorClass::kPerLayer);
    binder.norm(at + "post_per_layer_input_norm.weight", hidden, w.norm_after_per_layer);
  }
  if (experts > 0) {
    const int64_t expert_ffn = layer.expert_ffn;
    binder.matrix(at + "router.proj.weight", {experts, hidden}, w.router, TensorClass::kRouter);
    binder.vector(at + "router.scale", {hidden}, w.router_scale, false);
    binder.vector(at + "router.per_expert_scale", {experts}, w.per_expert_scale, false);
    const Shape gate_up{experts, 2 * expert_ffn, hidden};
    binder.rows(at + "experts.gate_up_proj", gate_up, w.expert_gate, TensorClass::kExperts, 0,
                expert_ffn);
    binder.rows(at + "experts.gate_up_proj", gate_up, w.expert_up, TensorClass::kExperts,
                expert_ffn, expert_ffn);
    binder.matrix(at + "experts.down_proj", {experts, hidden, expert_ffn}, w.expert_down,
                  TensorClass::kExperts);
    binder.norm(at + "pre_feedforward_layernorm_2.weight", hidden, w.norm_before_experts);
    binder.norm(at + "post_feedforward_layernorm_1.weight", hidden, w.norm_after_dense);
    binder.norm(at + "post_feedforward_layernorm_2.weight", hidden, w.norm_after_experts);
  }
}

}  // namespace

const ClassFacts& facts_of(TensorClass tensor_class) {
  return kClasses[static_cast<size_t>(tensor_class)];
}

int granule_of(std::string_view name) {
  const auto is_part = [&](std::string_view part) { return name.find(part) != name.npos; };
  return std::any_of(kCoarse.begin(), kCoarse.end(), is_part) ? kCoarseGranule : kFineGranule;
}

std::string describe_granules() {
  return text("int8, a scale for ", kFineGranule, " columns, for ", kCoarseGranule,
              " before gate and up");
}

std::vector<BoundTensor> bind_tensors(const Checkpoint& checkpoint, const ModelPlan& plan,
                                      ModelWeights& weights) {
  Binder binder(checkpoint, plan);
  const int64_t hidden = plan.hidden, width = plan.per_layer_width();
  weights.layers.resize(plan.layers.size());
  binder.matrix("embed_tokens.weight", {plan.vocab, hidden}, weights.embedding,
                TensorClass::kEmbedding);
  binder.matrix("embed_tokens.weight", {plan.vocab, hidden}, weights.head, TensorClass::kHead);
  binder.norm("norm.weight", hidden, weights.norm);
  if (width > 0) {
    binder.table("embed_tokens_per_layer.weight", {plan.per_layer_vocab, width});
    binder.matrix("per_layer_model_projection.weight", {width, hidden},
                  weights.per_layer_model_projection, TensorClass::kPerLayerContext);
    binder.require_panels(plan.layers[0].per_layer_input);
    binder.norm("per_layer_projection_norm.weight", plan.layers[0].per_layer_input,
                weights.per_layer_norm);
  }
  for (int index = 0; index < plan.layer_count(); ++index) {
    bind_layer(binder, plan, index, weights.layers[static_cast<size_t>(index)]);
  }
  return binder.finish();
}

}  // namespace cabochon
