#include "ops/ops.h"

#include <algorithm>

namespace cabochon {
namespace {

// Throws unless the tensor is there with this type and shape; both are named.
void require(const char* op, const char* name, const Tensor& tensor, const Shape& shape,
             Dtype dtype = Dtype::kF32) {
  if (!(tensor.shape == shape)) {
    throw InvalidArgument(text(op, ": ", name, " is ", tensor.shape, ", expected ", shape));
  }
  if (tensor.dtype != dtype) {
    throw InvalidArgument(text(op, ": ", name, " is ", tensor.dtype, ", expected ", dtype));
  }
}

void require_stored(const char* op, const char* name, const Tensor& tensor) {
  if (tensor.dtype != Dtype::kF32 && tensor.dtype != Dtype::kBf16) {
    throw InvalidArgument(text(op, ": ", name, " is ", tensor.dtype, ", expected F32 or BF16"));
  }
}

// A stack of `count` matrices [rows, cols].
void require_weight(const char* op, const char* name, const PackedWeight& weight, int64_t rows,
                    int64_t cols, int64_t count = 1) {
  if (weight.rows != rows || weight.cols != cols || weight.count != count) {
    throw InvalidArgument(text(op, ": ", name, " is ", weight.count, " of [", weight.rows, ", ",
                               weight.cols, "], expected ", count, " of [", rows, ", ", cols, "]"));
  }
}

// Operations that compute with float32 activations alone.
void require_float_weight(const char* op, const char* name, const PackedWeight& weight) {
  if (weight.format->block != 0) {
    throw InvalidArgument(
        text(op, ": ", name, " is ", weight.format->name, ", expected f32 or bf16"));
  }
}

void require_rank(const char* op, const char* name, const Tensor& tensor, int rank) {
  if (tensor.shape.rank() != rank) {
    throw InvalidArgument(
        text(op, ": ", name, " is ", tensor.shape, ", expected ", rank, " dimensions"));
  }
}

// Float32 activations of this many dimensions.
void require_floats(const char* op, const char* name, const Tensor& tensor, int rank) {
  require_rank(op, name, tensor, rank);
  require(op, name, tensor, tensor.shape);
}

// The parts make a message only when there is something to say: a step asks thousands of times.
template <typename... Parts>
void require_true(bool is_true, const Parts&... parts) {
  if (!is_true) throw InvalidArgument(text(parts...));
}

// Rows name sequences that exist, and every page they reach.
void require_places(const char* op, const RowPlaces& places, int64_t tokens) {
  require_true(std::ssize(places.sequences) == tokens && std::ssize(places.positions) == tokens, op,
               ": ", tokens, " rows, but ", places.sequences.size(), " sequences and ",
               places.positions.size(), " positions");
  for (size_t row = 0; row < places.sequences.size(); ++row) {
    const int64_t sequence = places.sequences[row];
    require_true(sequence >= 0 && sequence < std::ssize(places.tables), op, ": row ", row,
                 " belongs to sequence ", sequence, " of ", places.tables.size());
    const PageTable& table = places.tables[static_cast<size_t>(sequence)];
    const int64_t held = 64 * std::ssize(table.pages);
    const int64_t position = places.positions[row];
    require_true(
        position >= 0 && position < kMaxPosition && (table.is_ring ? held > 0 : position < held),
        op, ": row ", row, " stands at position ", position, ", its sequence has ",
        table.pages.size(), " pages of 64");
  }
}

void require_kv(const char* op, const KvLayer& kv) {
  require_true(kv.dtype == Dtype::kF32 || kv.dtype == Dtype::kBf16 || kv.dtype == Dtype::kI8, op,
               ": the cache is ", kv.dtype, ", expected F32, BF16 or I8");
  require_true(kv.head_dim > 0 && kv.head_dim <= 1024, op, ": head_dim is ", kv.head_dim,
               ", expected 1 to 1024");
  require_true(
      kv.turned == 0 ||
          (kv.turned > 0 && kv.turned <= kv.head_dim && kv.turned % 2 == 0 && kv.head_dim % 2 == 0),
      op, ": ", kv.turned, " columns turn in a head of ", kv.head_dim, ", expected whole pairs");
}

void require_norm(const char* op, const NormArgs& args) {
  require_true(args.x.shape.rank() > 0 && args.x.shape.back() > 0, op, ": x is ", args.x.shape,
               ", expected [..., n] with n > 0");
  require(op, "out", args.out, args.x.shape);
  require(op, "x", args.x, args.x.shape);
  if (!args.weight.empty()) require(op, "weight", args.weight, {args.x.shape.back()});
}

}  // namespace

void Ops::embed(const EmbedArgs& args) {
  const int64_t tokens = std::ssize(args.ids);
  require_float_weight("embed", "table", args.table);
  require("embed", "out", args.out, {tokens, args.table.cols});
  for (const int32_t id : args.ids) {
    require_true(id >= 0 && id < args.table.rows, "embed: token id ", id, " is not in 0 to ",
                 args.table.rows - 1);
  }
  compute_embed(args);
}

void Ops::rms_norm(const NormArgs& args) {
  require_norm("rms_norm", args);
  compute_rms_norm(args, false);
}

void Ops::rms_norm_add(const NormArgs& args) {
  require_norm("rms_norm_add", args);
  compute_rms_norm(args, true);
}

void Ops::rope(const RopeArgs& args) {
  require_floats("rope", "x", args.x, 3);
  require_rank("rope", "cos", args.cos, 2);
  const int64_t tokens = args.x.shape[0], head_dim = args.x.shape[2], pairs = args.cos.shape[1];
  require("rope", "cos", args.cos, {tokens, pairs});
  require("rope", "sin", args.sin, {tokens, pairs});
  require_true(head_dim % 2 == 0 && pairs <= head_dim / 2, "rope: ", pairs,
               " pairs turn in a head of ", head_dim,
               ", expected an even head and at most half as many pairs");
  compute_rope(args);
}

void Ops::scale(Tensor x, float factor) {
  require("scale", "x", x, x.shape);
  compute_scale(x, factor);
}

void Ops::add(Tensor out, Tensor x) {
  require("add", "out", out, out.shape);
  require("add", "x", x, out.shape);
  compute_add(out, x);
}

void Ops::matmul(const MatmulArgs& args) {
  require_floats("matmul", "x", args.x, 2);
  require_weight("matmul", "weight", args.weight, args.weight.rows, args.x.shape[1]);
  require("matmul", "out", args.out, {args.x.shape[0], args.weight.rows});
  observe(args.weight, args.x);
  const ProjectArgs::Part part{args.out, args.weight};
  compute_project({.x = args.x, .parts = {&part, 1}});
}

void Ops::project(const ProjectArgs& args) {
  require_floats("project", "x", args.x, 2);
  for (const ProjectArgs::Part& part : args.parts) {
    require_weight("project", "weight", part.weight, part.weight.rows, args.x.shape[1]);
    require("project", "out", part.out, {args.x.shape[0], part.weight.rows});
  }
  for (const ProjectArgs::Part& part : args.parts) observe(part.weight, args.x);
  compute_project(args);
}

void Ops::gated_matmul(const GatedMatmulArgs& args) {
  require_floats("gated_matmul", "x", args.x, 2);
  const Shape out{args.x.shape[0], args.gate.rows};
  require_weight("gated_matmul", "gate", args.gate, args.gate.rows, args.x.shape[1]);
  require_weight("gated_matmul", "up", args.up, args.gate.rows, args.x.shape[1]);
  require("gated_matmul", "out", args.out, out);
  observe(args.gate, args.x);
  observe(args.up, args.x);
  compute_gated_matmul(args);
}

void Ops::store_kv(const StoreKvArgs& args) {
  require_rank("store_kv", "keys", args.keys, 3);
  const Shape shape{args.keys.shape[0], args.kv.kv_heads, args.kv.head_dim};
  require("store_kv", "keys", args.keys, shape);
  require("store_kv", "values", args.values, shape);
  require_kv("store_kv", args.kv);
  require_places("store_kv", args.places, shape[0]);
  compute_store_kv(args);
}

void Ops::attention(const AttentionArgs& args) {
  require_floats("attention", "queries", args.queries, 3);
  const int64_t heads = args.queries.shape[1];
  const Shape shape{args.queries.shape[0], heads, args.kv.head_dim};
  require("attention", "queries", args.queries, shape);
  require("attention", "out", args.out, shape);
  require_true(args.kv.kv_heads > 0 && heads % args.kv.kv_heads == 0, "attention: ", heads,
               " heads cannot share ", args.kv.kv_heads, " kv heads");
  require_true(args.window >= 0, "attention: window is ", args.window, ", expected >= 0");
  require_kv("attention", args.kv);
  if (args.kv.turned > 0) require("attention", "key_norm", args.key_norm, {args.kv.head_dim});
  require_places("attention", args.places, shape[0]);
  require_floats("attention", "scratch", args.scratch, 1);
  const int64_t needed = attention_scratch(shape[0], heads, args.kv.head_dim, args.kv.turned);
  require_true(args.scratch.shape[0] >= needed, "attention: scratch has ", args.scratch.shape[0],
               " values, expected ", needed);
  compute_attention(args);
}

void Ops::per_layer_sum(const PerLayerSumArgs& args) {
  require_rank("per_layer_sum", "out", args.out, 2);
  require_rank("per_layer_sum", "stored", args.stored, 2);
  require_stored("per_layer_sum", "stored", args.stored);
  const int64_t tokens = args.out.shape[0], columns = args.out.shape[1];
  const int64_t all = args.stored.shape[1], width = args.norm.shape.back();
  require("per_layer_sum", "stored", args.stored, {tokens, all}, args.stored.dtype);
  require("per_layer_sum", "norm", args.norm, {width});
  require_true(width > 0 && columns % width == 0 && args.begin >= 0 && args.begin + columns <= all,
               "per_layer_sum: columns ", args.begin, " to ", args.begin + columns, " of ", all,
               " are no whole runs of ", width);
  compute_per_layer_sum(args);
}

void Ops::per_layer_gate(const PerLayerGateArgs& args) {
  require_floats("per_layer_gate", "x", args.x, 2);
  require_floats("per_layer_gate", "input", args.input, 2);
  const int64_t tokens = args.x.shape[0], width = args.gate.rows;
  require_weight("per_layer_gate", "gate", args.gate, width, args.x.shape[1]);
  require("per_layer_gate", "out", args.out, {tokens, width});
  require("per_layer_gate", "input", args.input, {tokens, args.input.shape[1]});
  require_true(args.offset >= 0 && args.offset + width <= args.input.shape[1],
               "per_layer_gate: a slice of ", width, " at ", args.offset, " of ",
               args.input.shape[1]);
  observe(args.gate, args.x);
  compute_per_layer_gate(args);
}

void Ops::route(const RouteArgs& args) {
  require_floats("route", "x", args.x, 2);
  const int64_t tokens = args.x.shape[0], hidden = args.x.shape[1], experts = args.weight.rows;
  require_weight("route", "weight", args.weight, experts, hidden);
  require_float_weight("route", "weight", args.weight);
  require("route", "scale", args.scale, {hidden});
  require("route", "per_expert_scale", args.per_expert_scale, {experts});
  require_rank("route", "ids", args.ids, 2);
  const int64_t top = args.ids.shape[1];
  require_true(top >= 1 && top <= experts, "route: top_k is ", top, ", expected 1 to ", experts,
               " (experts)");
  require("route", "ids", args.ids, {tokens, top}, Dtype::kI32);
  require("route", "weights", args.weights, {tokens, top});
  require("route", "normed", args.normed, {tokens, hidden});
  require("route", "scores", args.scores, {tokens, experts});
  compute_route(args);
}

void Ops::experts(const ExpertsArgs& args) {
  require_floats("experts", "x", args.x, 2);
  require_rank("experts", "ids", args.ids, 2);
  const int64_t tokens = args.x.shape[0], hidden = args.x.shape[1], top = args.ids.shape[1];
  const int64_t ffn = args.down.cols, experts = args.down.count;
  require("experts", "ids", args.ids, {tokens, top}, Dtype::kI32);
  require("experts", "weights", args.weights, {tokens, top});
  require("experts", "out", args.out, {tokens, hidden});
  require_weight("experts", "gate", args.gate, ffn, hidden, experts);
  require_weight("experts", "up", args.up, ffn, hidden, experts);
  require_weight("experts", "down", args.down, hidden, ffn, experts);
  require("experts", "slots", args.slots, {tokens, top}, Dtype::kI32);
  require("experts", "used", args.used, {experts}, Dtype::kI32);
  require("experts", "ends", args.ends, {experts}, Dtype::kI32);
  require("experts", "activated", args.activated, {2, tokens * top, ffn});
  require("experts", "results", args.results, {tokens * top, hidden});
  const std::span<const int32_t> ids(args.ids.as<int32_t>(), static_cast<size_t>(tokens * top));
  for (const int32_t id : ids) {
    require_true(id >= 0 && id < experts, "experts: id ", id, " is not in 0 to ", experts - 1);
  }
  for (int64_t token = 0; token < tokens; ++token) {
    const auto chosen = ids.subspan(static_cast<size_t>(token * top), static_cast<size_t>(top));
    for (size_t i = 0; i < chosen.size(); ++i) {
      require_true(std::count(chosen.begin(), chosen.end(), chosen[i]) == 1, "experts: token ",
                   token, " names expert ", chosen[i], " twice");
    }
  }
  observe(args.gate, args.x);
  observe(args.up, args.x);
  compute_experts(args);
}

void Ops::head(const HeadArgs& args) {
  require_floats("head", "x", args.x, 2);
  require_weight("head", "weight", args.weight, args.weight.rows, args.x.shape[1]);
  const int64_t tokens = args.x.shape[0], vocab = args.weight.rows;
  require("head", "logits", args.logits, {tokens, vocab});
  require("head", "largest", args.largest, {tokens, (vocab + kLogitBlock - 1) / kLogitBlock});
  require("head", "chunk_sums", args.chunk_sums, {tokens, (vocab + kLogitChunk - 1) / kLogitChunk});
  require_true(std::ssize(args.log_sums) == tokens, "head: log_sums has ", args.log_sums.size(),
               " entries, expected ", tokens);
  compute_head(args);
}

}  // namespace cabochon
