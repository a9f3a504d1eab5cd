// _core.testing: parts of base, ops and engine that Python does not reach otherwise.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "base/bf16.h"
#include "base/buffer.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "bindings/convert.h"
#include "engine/calibrate.h"
#include "engine/devices.h"
#include "engine/sampler.h"
#include "ops/ops.h"
#include "weights/pack.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cabochon {
namespace {

// The range that each thread got, in order of threads; slots of threads without one are (0, 0).
std::vector<std::pair<int64_t, int64_t>> ranges(int threads, int64_t rows, int64_t granule) {
  ThreadPool& pool = ThreadPool::shared();
  const ThreadPool::Lease lease(pool, threads);
  std::vector<std::pair<int64_t, int64_t>> out(static_cast<size_t>(threads));
  const py::gil_scoped_release release;
  auto body = [&](RowRange range) noexcept {
    out[static_cast<size_t>(range.thread)] = {range.begin, range.end};
  };
  pool.parallel_for(threads, rows, granule, body);
  return out;
}

// Half of the smallest normal float, computed by every thread of a region: 0 where denormals are
// flushed. Flushing is set on the calling thread before, as a host library might have done.
std::vector<float> denormals_under_flushing(int threads) {
  ThreadPool& pool = ThreadPool::shared();
  const ThreadPool::Lease lease(pool, threads);
  std::vector<float> out(static_cast<size_t>(threads), -1.0f);
#if defined(__x86_64__)
  const unsigned saved = _mm_getcsr();
  _mm_setcsr(saved | 0x8040);  // flush to zero, denormals are zero
#endif
  volatile float smallest = 0x1p-126f;
  auto body = [&](RowRange range) noexcept {
    out[static_cast<size_t>(range.thread)] = smallest * 0.5f;
  };
  pool.parallel_for(threads, threads, 1, body);
#if defined(__x86_64__)
  _mm_setcsr(saved);
#endif
  return out;
}

// A row of logits as the head leaves it.
struct Row {
  std::vector<float> values, largest;

  explicit Row(const Array<float>& logits) : values(view(logits).begin(), view(logits).end()) {
    const std::span<const float> all(values);
    for (size_t begin = 0; begin < all.size(); begin += kLogitBlock) {
      largest.push_back(
          largest_of(all.subspan(begin, std::min<size_t>(kLogitBlock, all.size() - begin))));
    }
  }
  Logits logits() { return {values, largest}; }
};

// The format's name, an array [experts, ...], the rows and columns of each of its matrices, and the
// granule of x.
using Stack = std::tuple<std::string, py::array, int64_t, int64_t, int>;

PackedWeight stack_of(const Stack& stack) {
  const auto& [name, array, rows, cols, granule] = stack;
  for (const Format* format : {&kF32Format, &kBf16Format, &kInt8Format, &kInt4Format}) {
    if (format->name != name) continue;
    const bool is_packed = format->block != 0;
    const int64_t bytes =
        is_packed ? packed_bytes(*format, rows, cols) : rows * cols * byte_size(format->dtype);
    if (array.ndim() < 1 || array.nbytes() != array.shape(0) * bytes) {
      throw InvalidArgument(
          text("testing: ", array.nbytes(), " bytes of ", name, ", expected ", bytes, " a matrix"));
    }
    return {.format = format,
            .rows = rows,
            .cols = cols,
            .count = array.shape(0),
            .stride = bytes,
            .data = static_cast<const std::byte*>(array.data()),
            .panel_bytes = is_packed ? panel_bytes(*format, cols) : 0,
            .granule = granule};
  }
  throw InvalidArgument(text("testing: no format '", name, "'"));
}

// ops.experts over weights of any format, with so many threads.
Array<float> experts(const Array<float>& x, const Array<int32_t>& ids, const Array<float>& weights,
                     const Stack& gate, const Stack& up, const Stack& down, int threads) {
  const std::unique_ptr<Ops> ops = make_ops("cpu", threads);
  const PackedWeight down_rows = stack_of(down);
  const int64_t tokens = x.shape(0), hidden = x.shape(1), top = ids.shape(1);
  const int64_t pairs = tokens * top, ffn = down_rows.cols, count = down_rows.count;
  Array<float> out({tokens, hidden});
  Arena arena(Arena::padded_bytes(Dtype::kI32, pairs) +
              2 * Arena::padded_bytes(Dtype::kI32, count) +
              Arena::padded_bytes(Dtype::kF32, 2 * pairs * ffn) +
              Arena::padded_bytes(Dtype::kF32, pairs * hidden));
  ops->experts({.out = {Dtype::kF32, {tokens, hidden}, out.mutable_data()},
                .x = to_tensor(x, "x"),
                .ids = {Dtype::kI32, {tokens, top}, const_cast<int32_t*>(ids.data())},
                .weights = to_tensor(weights, "weights"),
                .gate = stack_of(gate),
                .up = stack_of(up),
                .down = down_rows,
                .slots = arena.take(Dtype::kI32, {tokens, top}),
                .used = arena.take(Dtype::kI32, {count}),
                .ends = arena.take(Dtype::kI32, {count}),
                .activated = arena.take(Dtype::kF32, {2, pairs, ffn}),
                .results = arena.take(Dtype::kF32, {pairs, hidden})});
  return out;
}

// Tensor name to importance, of a model whose packed matrices are all int4 with calibrated scales.
std::map<std::string, std::vector<float>> moments(const std::shared_ptr<Checkpoint>& checkpoint,
                                                  const py::object& plan, int threads) {
  const ModelPlan native = to_plan(plan);
  const WeightFormats formats = to_formats(
      {{"attention", "int4"}, {"mlp", "int4"}, {"experts", "int4"}, {"head", "int4"}}, "disk", {});
  const py::gil_scoped_release release;
  const std::unique_ptr<Ops> ops = make_ops("cpu", threads);
  const Moments found = calibrate(checkpoint, native, formats, *ops, threads, [] {});
  std::map<std::string, std::vector<float>> out;
  for (const TensorEntry& entry : checkpoint->entries()) {
    const float* row = found.importance(entry);
    if (row != nullptr) out[entry.name].assign(row, row + entry.shape.back());
  }
  return out;
}

}  // namespace

void bind_testing_engine(py::module_& module) {
  module.def("thread_ranges", &ranges, py::arg("threads"), py::arg("rows"), py::arg("granule"));
  module.def("denormals_under_flushing", &denormals_under_flushing, py::arg("threads"));
  module.def(
      "with_flushing",
      [](const py::function& call) {
#if defined(__x86_64__)
        const unsigned saved = _mm_getcsr();
        _mm_setcsr(saved | 0x8040);
        py::object result = call();
        _mm_setcsr(saved);
        return result;
#else
        return call();
#endif
      },
      py::arg("call"));
  module.def("experts", &experts, py::arg("x").noconvert(), py::arg("ids").noconvert(),
             py::arg("weights").noconvert(), py::arg("gate"), py::arg("up"), py::arg("down"),
             py::arg("threads"));
  module.def("moments", &moments, py::arg("checkpoint"), py::arg("plan"), py::arg("threads"));
  module.def("philox", &philox, py::arg("key"), py::arg("counter"));
  module.def("uniform", &uniform, py::arg("seed"), py::arg("position"));
  module.def("f16_to_float", &f16_to_float, py::arg("bits"));
  module.def(
      "draw",
      [](const Array<float>& logits, const SamplingArgs& args, const Array<int32_t>& history,
         int64_t position, const std::optional<Array<uint32_t>>& mask) {
        Row row(logits);
        Arena arena(Sampler::bytes(logits.size()));
        Sampler sampler(arena, logits.size());
        const Mask allowed = mask.has_value() ? view(*mask) : Mask{};
        const int32_t token = sampler.draw(row.logits(), args, view(history), allowed, position);
        if (std::memcmp(row.values.data(), logits.data(), row.values.size() * sizeof(float)) != 0) {
          throw std::runtime_error("testing: draw left the logits changed");
        }
        Row again(logits);
        if (sampler.draw(again.logits(), args, view(history), allowed, position) != token) {
          throw std::runtime_error("testing: drawn again, it is another token");
        }
        return token;
      },
      py::arg("logits").noconvert(), py::arg("sampling"), py::arg("history").noconvert(),
      py::arg("position"), py::arg("mask") = py::none());
  module.def(
      "largest",
      [](const Array<float>& logits, size_t k) {
        Row row(logits);
        Arena arena(Sampler::bytes(logits.size()));
        Sampler sampler(arena, logits.size());
        std::vector<std::pair<int32_t, float>> out;
        for (const Candidate& c : sampler.largest(row.logits(), k)) {
          out.emplace_back(c.id, c.logit);
        }
        return out;
      },
      py::arg("logits").noconvert(), py::arg("k"));
}

}  // namespace cabochon
