// cabochon.ops: single operations on arrays, by the same code that the model runs.
#include <pybind11/stl.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <vector>

#include "base/buffer.h"
#include "base/float_mode.h"
#include "base/thread_pool.h"
#include "bindings/convert.h"
#include "bindings/core_call.h"
#include "engine/devices.h"
#include "engine/kv_cache.h"
#include "model/rope_table.h"
#include "ops/ops.h"
#include "weights/logical.h"
#include "weights/quantized_weight.h"

namespace cabochon {
namespace {

// CABOCHON_THREADS where it is set, as for load.
int asked_threads() {
  const char* text_of = std::getenv("CABOCHON_THREADS");
  if (text_of == nullptr) return ThreadPool::default_threads();
  const std::string_view value(text_of);
  int threads = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), threads);
  if (error != std::errc() || end != value.data() + value.size() || threads < 1 || threads > 1024) {
    throw InvalidArgument(text("CABOCHON_THREADS is '", value, "', expected 1 to 1024"));
  }
  return threads;
}

// What cabochon.ops computes with: made once a process (a forked child makes its own), used by one
// thread at a time.
struct SharedOps {
  std::mutex owner;
  std::unique_ptr<Ops> ops;
};

SharedOps& shared_ops() {
  static SharedOps* shared = nullptr;
  static pid_t process = 0;
  if (process != getpid()) {  // with the GIL held
    shared = new SharedOps;
    process = getpid();
  }
  if (shared->ops == nullptr) shared->ops = make_ops("cpu", asked_threads());
  return *shared;
}

// Computes with the process's tier and threads, without the GIL.
template <typename Fn>
void compute(Fn&& fn) {
  SharedOps& shared = shared_ops();
  const CoreCall inside;
  const DefaultFloatMode mode;
  const std::scoped_lock lock(shared.owner);
  fn(*shared.ops);
}

Tensor tensor_of(Array<float>& array) { return to_tensor(array, "result"); }

void require_rank(const Tensor& tensor, int rank, const char* name) {
  if (tensor.shape.rank() != rank) {
    throw InvalidArgument(text(name, " is ", tensor.shape, ", expected ", rank, " dimensions"));
  }
}

// [..., rows, cols] in float32 or bf16.
PackedWeight weight_of(const py::array& array, const char* name, int rank) {
  const Tensor tensor = to_tensor(array, name);
  require_rank(tensor, rank, name);
  return as_stored(tensor);
}

// The same, or what `quantize` made.
PackedWeight weight_of(const py::object& weight, const char* name, int rank) {
  if (!py::isinstance<QuantizedWeight>(weight)) {
    return weight_of(weight.cast<py::array>(), name, rank);
  }
  const auto& quantized = weight.cast<const QuantizedWeight&>();
  if (quantized.shape().rank() != rank) {
    throw InvalidArgument(
        text(name, " is ", quantized.shape(), ", expected ", rank, " dimensions"));
  }
  return quantized.packed();
}

std::unique_ptr<QuantizedWeight> quantize(const py::array& weight, const std::string& format,
                                          bool is_searched) {
  const Tensor numbers = to_tensor(weight, "weight");
  const int threads = asked_threads();
  std::unique_ptr<QuantizedWeight> out;
  // Inside, because the pool's threads are those that the process's Ops has hired.
  compute([&](Ops& ops) {
    out = std::make_unique<QuantizedWeight>(numbers, format,
                                            is_searched ? ops.search_int4() : nullptr, threads);
  });
  return out;
}

std::vector<py::ssize_t> sizes_of(const Shape& shape) {
  std::vector<py::ssize_t> sizes;
  for (int axis = 0; axis < shape.rank(); ++axis) sizes.push_back(shape[axis]);
  return sizes;
}

// Codes, and bf16 bits of scales (none of bf16).
py::tuple unpack(const QuantizedWeight& weight) {
  const Format& format = weight.format();
  std::vector<py::ssize_t> sizes = sizes_of(weight.shape());
  const py::dtype type = format.dtype == Dtype::kBf16 ? py::dtype::of<uint16_t>()
                         : format.dtype == Dtype::kI8 ? py::dtype::of<int8_t>()
                                                      : py::dtype::of<uint8_t>();
  py::array codes(type, sizes);
  sizes.back() = format.block == 0 ? 0 : blocks_of(format, weight.shape().back());
  Array<uint16_t> scales(sizes);
  auto* code_bytes = static_cast<std::byte*>(codes.mutable_data());
  uint16_t* scale_bits = scales.mutable_data();
  {
    const CoreCall inside;
    weight.unpack(code_bytes, scale_bits);
  }
  return py::make_tuple(codes, scales);
}

Array<float> dequantize(const QuantizedWeight& weight) {
  Array<float> out = make_floats(weight.shape());
  float* numbers = out.mutable_data();
  {
    const CoreCall inside;
    weight.dequantize(numbers);
  }
  return out;
}

Array<float> rms_norm(const py::array& x, const std::optional<py::array>& weight, float epsilon) {
  const Tensor in = to_tensor(x, "x");
  Array<float> out = make_floats(in.shape);
  const Tensor result = tensor_of(out);
  const Tensor scale = weight.has_value() ? to_tensor(*weight, "weight") : Tensor{};
  compute([&](Ops& ops) {
    ops.rms_norm({.out = result, .x = in, .weight = scale, .epsilon = epsilon});
  });
  return out;
}

Array<float> rope(const py::array& x, const Array<int64_t>& positions, float theta, double rotated,
                  float scaling) {
  const Tensor in = to_tensor(x, "x");
  require_rank(in, 3, "x");
  if (positions.ndim() != 1 || positions.size() != in.shape[0]) {
    throw InvalidArgument(text("positions has ", positions.size(), " entries, expected ",
                               in.shape[0], " (tokens of x)"));
  }
  if (in.dtype != Dtype::kF32) {
    throw InvalidArgument(text("x is ", in.dtype, ", expected F32"));
  }
  if (!(rotated >= 0.0 && rotated <= 1.0) || !(theta >= 1.0f && theta <= 1e12f) ||
      !(scaling >= 1e-3f && scaling <= 1e6f) || in.shape[2] > 1 << 16) {
    throw InvalidArgument(text("rotated is ", rotated, ", theta ", theta, ", scaling ", scaling,
                               ", head_dim ", in.shape[2],
                               "; expected 0 to 1, 1 to 1e12, 1e-3 to 1e6, at most 65536"));
  }
  const DefaultFloatMode mode;
  const auto head_dim = static_cast<int>(in.shape[2]);
  const int pairs = static_cast<int>(std::floor(rotated * head_dim / 2));
  const RopeTable table(theta, scaling, head_dim, pairs);
  Array<float> out = make_floats(in.shape);
  const Tensor result = tensor_of(out);
  std::copy_n(in.floats(), in.shape.elements(), result.floats());
  const auto where = view(positions);
  compute([&](Ops& ops) {
    Arena arena(2 * Arena::padded_bytes(Dtype::kF32, in.shape[0] * pairs));
    const Tensor cos = arena.take(Dtype::kF32, {in.shape[0], pairs});
    const Tensor sin = arena.take(Dtype::kF32, {in.shape[0], pairs});
    table.fill(where, cos, sin);
    ops.rope({.x = result, .cos = cos, .sin = sin});
  });
  return out;
}

Array<float> matmul(const py::array& x, const py::object& weight) {
  const Tensor in = to_tensor(x, "x");
  require_rank(in, 2, "x");
  const PackedWeight matrix = weight_of(weight, "weight", 2);
  Array<float> out = make_floats({in.shape[0], matrix.rows});
  const Tensor result = tensor_of(out);
  compute([&](Ops& ops) { ops.matmul({.out = result, .x = in, .weight = matrix}); });
  return out;
}

// Keys and values go into pages of a cache of their own, as in the model; then queries read them.
Array<float> attention(const py::array& q, const py::array& k, const py::array& v, int64_t window,
                       float scale) {
  const Tensor queries = to_tensor(q, "q"), keys = to_tensor(k, "k"), values = to_tensor(v, "v");
  require_rank(queries, 3, "q");
  require_rank(keys, 3, "k");
  const int64_t tokens = queries.shape[0], count = keys.shape[0];
  if (!(values.shape == keys.shape) || keys.shape[1] < 1 || keys.shape[2] < 1 ||
      keys.shape[2] > 1024) {
    throw InvalidArgument(text("k is ", keys.shape, ", values is ", values.shape,
                               ": expected equal shapes with kv_heads >= 1, head_dim 1 to 1024"));
  }
  if (count < tokens) {
    throw InvalidArgument(text("k has ", count, " keys, expected at least the ", tokens,
                               " tokens of q: query t stands at keys - tokens + t"));
  }
  if (queries.shape[2] != keys.shape[2]) {
    throw InvalidArgument(text("q has heads of ", queries.shape[2], ", k of ", keys.shape[2]));
  }
  Array<float> out = make_floats(queries.shape);
  const Tensor result = tensor_of(out);
  compute([&](Ops& ops) {
    const int64_t pages = (count + kPagePositions - 1) / kPagePositions;
    KvLayer layer = kv_layer(Dtype::kF32, keys.shape[1], keys.shape[2], 0, 0);
    const Buffer cache(pages * layer.bytes);
    layer.pages = cache.data();
    layer.page_bytes = layer.bytes;
    std::vector<int32_t> numbers(static_cast<size_t>(pages));
    std::iota(numbers.begin(), numbers.end(), 0);
    const PageTable table{.pages = numbers, .is_ring = false};
    const std::vector<int32_t> sequence(static_cast<size_t>(count), 0);
    std::vector<int64_t> positions(static_cast<size_t>(count));
    std::iota(positions.begin(), positions.end(), 0);
    const auto last = static_cast<size_t>(tokens);
    const std::span<const int64_t> all(positions);
    ops.store_kv(
        {.kv = layer, .keys = keys, .values = values, .places = {sequence, all, {&table, 1}}});
    const int64_t needed = attention_scratch(tokens, queries.shape[1], queries.shape[2], 0);
    const Buffer scratch(needed * byte_size(Dtype::kF32));
    ops.attention({.out = result,
                   .queries = queries,
                   .kv = layer,
                   .places = {std::span(sequence).first(last), all.last(last), {&table, 1}},
                   .window = window,
                   .scale = scale,
                   .key_norm = {},
                   .scratch = {Dtype::kF32, {needed}, scratch.data()}});
  });
  return out;
}

Array<float> per_layer_input(const Array<int32_t>& token_ids, const py::array& x,
                             const py::array& table, const py::array& projection,
                             const py::array& norm, float epsilon) {
  const Tensor in = to_tensor(x, "x"), rows = to_tensor(table, "table");
  const Tensor weight = to_tensor(norm, "norm");
  const PackedWeight matrix = weight_of(projection, "projection", 2);
  require_rank(in, 2, "x");
  require_rank(rows, 2, "table");
  require_rank(weight, 1, "norm");
  const int64_t tokens = in.shape[0], all = rows.shape[1], width = weight.shape[0];
  const auto ids = view(token_ids);
  if (std::ssize(ids) != tokens || width == 0 || all % width != 0 || matrix.rows != all) {
    throw InvalidArgument(text("token_ids has ", ids.size(), " ids for x ", in.shape, ", table is ",
                               rows.shape, ", projection [", matrix.rows, ", ", matrix.cols,
                               "], norm ", weight.shape,
                               ": expected [tokens], [vocab, layers * width], "
                               "[layers * width, hidden], [width]"));
  }
  for (const int32_t id : ids) {
    if (id < 0 || id >= rows.shape[0]) {
      throw InvalidArgument(
          text("token_ids: ", id, " is not in 0 to ", rows.shape[0] - 1, " (rows of table)"));
    }
  }
  Array<float> out = make_floats({tokens, all / width, width});
  const Tensor result = reshape(tensor_of(out), {tokens, all});
  compute([&](Ops& ops) {
    Arena arena(Arena::padded_bytes(rows.dtype, tokens * all));
    const Tensor stored = arena.take(rows.dtype, {tokens, all});
    const int64_t row_bytes = all * byte_size(rows.dtype);
    for (int64_t t = 0; t < tokens; ++t) {
      std::copy_n(rows.as<std::byte>() + ids[static_cast<size_t>(t)] * row_bytes, row_bytes,
                  stored.as<std::byte>() + t * row_bytes);
    }
    ops.matmul({.out = result, .x = in, .weight = matrix});
    const auto hidden = static_cast<double>(in.shape[1]);
    ops.per_layer_sum({.out = result,
                       .norm = weight,
                       .stored = stored,
                       .begin = 0,
                       .projection_scale = static_cast<float>(1.0 / std::sqrt(hidden)),
                       .stored_scale = static_cast<float>(std::sqrt(static_cast<double>(width))),
                       .result_scale = static_cast<float>(1.0 / std::sqrt(2.0)),
                       .epsilon = epsilon});
  });
  return out;
}

py::tuple route(const py::array& x, const py::array& weight, const py::array& scale,
                const py::array& per_expert_scale, int top_k, float epsilon) {
  const Tensor in = to_tensor(x, "x");
  require_rank(in, 2, "x");
  const PackedWeight matrix = weight_of(weight, "weight", 2);
  const Tensor factors = to_tensor(scale, "scale");
  const Tensor expert_factors = to_tensor(per_expert_scale, "per_expert_scale");
  if (top_k < 1 || top_k > matrix.rows) {
    throw InvalidArgument(text("top_k is ", top_k, ", expected 1 to ", matrix.rows, " (experts)"));
  }
  Array<int32_t> ids({in.shape[0], int64_t{top_k}});
  Array<float> weights = make_floats({in.shape[0], top_k});
  const Tensor chosen{Dtype::kI32, {in.shape[0], top_k}, ids.mutable_data()};
  const Tensor result = tensor_of(weights);
  compute([&](Ops& ops) {
    Arena arena(Arena::padded_bytes(Dtype::kF32, in.shape.elements()) +
                Arena::padded_bytes(Dtype::kF32, in.shape[0] * matrix.rows));
    ops.route({.ids = chosen,
               .weights = result,
               .x = in,
               .weight = matrix,
               .scale = factors,
               .per_expert_scale = expert_factors,
               .normed = arena.take(Dtype::kF32, in.shape),
               .scores = arena.take(Dtype::kF32, {in.shape[0], matrix.rows}),
               .epsilon = epsilon});
  });
  return py::make_tuple(ids, weights);
}

Array<float> experts(const py::array& x, const Array<int32_t>& ids, const py::array& weights,
                     const py::object& gate_up, const py::object& down) {
  const Tensor in = to_tensor(x, "x"), factors = to_tensor(weights, "weights");
  require_rank(in, 2, "x");
  if (ids.ndim() != 2)
    throw InvalidArgument(text("ids has ", ids.ndim(), " dimensions, expected 2"));
  const PackedWeight both = weight_of(gate_up, "gate_up", 3), out_rows = weight_of(down, "down", 3);
  const int64_t tokens = in.shape[0], hidden = in.shape[1], top = ids.shape(1);
  const int64_t ffn = out_rows.cols;
  if (both.rows != 2 * ffn || both.count != out_rows.count) {
    throw InvalidArgument(text("gate_up is ", both.count, " of [", both.rows, ", ", both.cols,
                               "], expected ", out_rows.count, " of [", 2 * ffn, ", ", hidden,
                               "]: down is [", out_rows.count, ", ", out_rows.rows, ", ", ffn,
                               "]"));
  }
  if (both.format->block != 0 && ffn % kPanelRows != 0) {
    throw InvalidArgument(text("gate_up is ", both.format->name, " [", both.count, ", ", both.rows,
                               ", ", both.cols, "], expected an ffn that is a multiple of ",
                               kPanelRows, ": rows are kept in panels, and up must begin one"));
  }
  Array<float> out = make_floats(in.shape);
  const Tensor result = tensor_of(out);
  const Tensor chosen{Dtype::kI32, {ids.shape(0), top}, const_cast<int32_t*>(ids.data())};
  compute([&](Ops& ops) {
    const int64_t experts = out_rows.count;
    Arena arena(Arena::padded_bytes(Dtype::kI32, tokens * top) +
                2 * Arena::padded_bytes(Dtype::kI32, experts) +
                Arena::padded_bytes(Dtype::kF32, 2 * tokens * top * ffn) +
                Arena::padded_bytes(Dtype::kF32, tokens * top * hidden));
    ops.experts({.out = result,
                 .x = in,
                 .ids = chosen,
                 .weights = factors,
                 .gate = both.slice(0, ffn),
                 .up = both.slice(ffn, ffn),
                 .down = out_rows,
                 .slots = arena.take(Dtype::kI32, {tokens, top}),
                 .used = arena.take(Dtype::kI32, {experts}),
                 .ends = arena.take(Dtype::kI32, {experts}),
                 .activated = arena.take(Dtype::kF32, {2, tokens * top, ffn}),
                 .results = arena.take(Dtype::kF32, {tokens * top, hidden})});
  });
  return out;
}

}  // namespace

void bind_ops(py::module_& module) {
  py::class_<QuantizedWeight>(module, "QuantizedWeight")
      .def_property_readonly("format", [](const QuantizedWeight& w) { return w.format().name; })
      .def_property_readonly(
          "shape",
          [](const QuantizedWeight& w) { return py::tuple(py::cast(sizes_of(w.shape()))); })
      .def_property_readonly("nbytes", &QuantizedWeight::bytes)
      .def("unpack", &unpack)
      .def("dequantize", py::overload_cast<const QuantizedWeight&>(&dequantize));
  module.def("quantize", py::overload_cast<const py::array&, const std::string&, bool>(&quantize),
             py::arg("weight"), py::arg("format"), py::arg("is_searched"));
  module.def("rms_norm", &rms_norm, py::arg("x"), py::arg("weight"), py::arg("epsilon"));
  module.def("rope", &rope, py::arg("x"), py::arg("positions").noconvert(), py::arg("theta"),
             py::arg("rotated"), py::arg("scaling"));
  module.def("matmul", &matmul, py::arg("x"), py::arg("weight"));
  module.def("attention", &attention, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("window"),
             py::arg("scale"));
  module.def("per_layer_input", &per_layer_input, py::arg("token_ids").noconvert(), py::arg("x"),
             py::arg("table"), py::arg("projection"), py::arg("norm"), py::arg("epsilon"));
  module.def("route", &route, py::arg("x"), py::arg("weight"), py::arg("scale"),
             py::arg("per_expert_scale"), py::arg("top_k"), py::arg("epsilon") = 1e-6f);
  module.def("experts", &experts, py::arg("x"), py::arg("ids").noconvert(), py::arg("weights"),
             py::arg("gate_up"), py::arg("down"));
}

}  // namespace cabochon
