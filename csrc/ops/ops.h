// The contract of a device: what it can compute. Read this page first.
//
// Public methods are plain and check their arguments (ops.cc), once for all devices; the private
// virtuals compute. Every operation treats each row (token) by itself: its bits never depend on the
// other rows, their number or the number of threads. Orders of summation: docs/numerics.md.
// Does not know how a device fulfils it, nor tensor names, nor plans.
#pragma once

#include <string>

#include "ops/args.h"
#include "weights/quantize.h"

namespace cabochon {

// Sees the rows that a matrix is multiplied with, before it is: x is [tokens, cols]. All matrices
// of matmul, project, gated_matmul and per_layer_gate, and gate and up of experts (with the rows of
// all tokens); not the head, nor what experts' down projections read.
class InputObserver {
 public:
  virtual ~InputObserver() = default;
  virtual void observe(const PackedWeight& weight, const Tensor& x) = 0;
};

class Ops {
 public:
  Ops() = default;
  virtual ~Ops() = default;
  Ops(const Ops&) = delete;
  Ops& operator=(const Ops&) = delete;

  // What computes here, for `info` and manifests: "avx512".
  virtual std::string tier() const = 0;

  // Makes room for rounding an x of up to this size to int8 (no columns: nothing is rounded), and
  // for gated_matmul of as many tokens and up to `ffn` rows, so that a step allocates nothing.
  virtual void reserve(int64_t tokens, int64_t cols, int64_t ffn) = 0;
  virtual int64_t reserved_bytes() const = 0;

  // What rounds weights to int4 here; free of state, for any thread.
  virtual SearchInt4 search_int4() const = 0;

  // From now on; null: nobody. It must outlive its being set.
  void set_observer(InputObserver* observer) { observer_ = observer; }

  // rows
  void embed(const EmbedArgs& args);        // out = table[ids] * scale
  void rms_norm(const NormArgs& args);      // out = x / sqrt(mean(x^2) + epsilon) * weight
  void rms_norm_add(const NormArgs& args);  // out += the same
  void rope(const RopeArgs& args);          // pairs (i, i + head_dim / 2) turn by their angle
  void scale(Tensor x, float factor);       // x *= factor
  void add(Tensor out, Tensor x);           // out += x

  // projections
  void matmul(const MatmulArgs& args);             // out = x W^T
  void project(const ProjectArgs& args);           // the same for several W
  void gated_matmul(const GatedMatmulArgs& args);  // out = gelu(x gate^T) * (x up^T)

  // attention
  void store_kv(const StoreKvArgs& args);
  void attention(const AttentionArgs& args);  // softmax(scale q k^T) v over visible keys

  // per-layer inputs
  void per_layer_sum(const PerLayerSumArgs& args);
  void per_layer_gate(const PerLayerGateArgs& args);

  // mixture of experts
  void route(const RouteArgs& args);
  void experts(const ExpertsArgs& args);

  // head
  void head(const HeadArgs& args);  // logits, softcapped; their largest, and log of sum of exp

 private:
  virtual void compute_embed(const EmbedArgs& args) = 0;
  virtual void compute_rms_norm(const NormArgs& args, bool is_added) = 0;
  virtual void compute_rope(const RopeArgs& args) = 0;
  virtual void compute_scale(Tensor x, float factor) = 0;
  virtual void compute_add(Tensor out, Tensor x) = 0;
  virtual void compute_project(const ProjectArgs& args) = 0;
  virtual void compute_gated_matmul(const GatedMatmulArgs& args) = 0;
  virtual void compute_store_kv(const StoreKvArgs& args) = 0;
  virtual void compute_attention(const AttentionArgs& args) = 0;
  virtual void compute_per_layer_sum(const PerLayerSumArgs& args) = 0;
  virtual void compute_per_layer_gate(const PerLayerGateArgs& args) = 0;
  virtual void compute_route(const RouteArgs& args) = 0;
  virtual void compute_experts(const ExpertsArgs& args) = 0;
  virtual void compute_head(const HeadArgs& args) = 0;

  void observe(const PackedWeight& weight, const Tensor& x) {
    if (observer_ != nullptr) observer_->observe(weight, x);
  }

  InputObserver* observer_ = nullptr;
};

}  // namespace cabochon
