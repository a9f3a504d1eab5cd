// `_core.testing`: every kernel by tier, for tests. Arrays in, arrays out.
//
// Every array is copied between guard elements, `offset` elements past an aligned address. Guards
// around inputs are NaN, so that a kernel which uses what lies outside shows it; changed guards
// around an output raise RuntimeError.
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "bindings/convert.h"
#include "bindings/testing.h"
#include "cpu/select.h"

namespace cabochon {

namespace {

constexpr size_t kGuards = 64;

using State = std::pair<float, float>;  // max, sum

template <class T>
size_t length(const Array<T>& array) {
  return static_cast<size_t>(array.size());
}

template <class T>
size_t extent(const Array<T>& array, py::ssize_t axis) {
  require(array.ndim() == 2, "expected an array of two dimensions");
  return static_cast<size_t>(array.shape(axis));
}

template <class T>
class Guarded {
 public:
  Guarded(size_t count, size_t offset)
      : count_(count), front_(kGuards + offset), elements_(front_ + count + kGuards, guard()) {}

  Guarded(const Array<T>& content, size_t offset) : Guarded(length(content), offset) {
    std::copy_n(content.data(), count_, data());
  }

  T* data() { return elements_.data() + front_; }

  // Of rows of `row` elements, the first `kept` of each; the others are guards too.
  Array<T> taken(std::vector<py::ssize_t> shape, size_t row = 1, size_t kept = 1) {
    Array<T> array(std::move(shape));
    T* to = array.mutable_data();
    for (size_t i = 0; i < elements_.size(); ++i) {
      const bool inside = front_ <= i && i < front_ + count_ && (i - front_) % row < kept;
      if (inside) {
        *to++ = elements_[i];
      } else if (std::memcmp(&elements_[i], &kGuardBytes, sizeof(T)) != 0) {
        throw std::runtime_error("testing: the kernel wrote outside its output, at element " +
                                 std::to_string(static_cast<py::ssize_t>(i - front_)) + " of " +
                                 std::to_string(count_));
      }
    }
    return array;
  }
  Array<T> taken() { return taken({static_cast<py::ssize_t>(count_)}); }

 private:
  static constexpr uint32_t kGuardBytes = 0xffffffff;  // a NaN as float32 and as bf16

  static T guard() {
    T value;
    std::memcpy(&value, &kGuardBytes, sizeof value);
    return value;
  }

  size_t count_;
  size_t front_;
  std::vector<T> elements_;
};

template <class Activation, class Weight, auto kKernel>
Array<float> matmul(const std::string& tier, const Array<Activation>& x,
                    const Array<Weight>& weight, size_t gap, size_t offset) {
  const size_t tokens = extent(x, 0), cols = extent(x, 1), rows = extent(weight, 0);
  require(extent(weight, 1) == cols, "x and weight differ in columns");
  Guarded<Activation> activations(x, offset);
  Guarded<float> out(tokens * (rows + gap), offset);
  Guarded<Weight> weights(weight, offset);
  const auto kernel = cpu::kernels_for(tier).*kKernel;
  require(kernel != nullptr, "this tier has no such kernel");
  kernel(out.data(), rows + gap, activations.data(), weights.data(), tokens, rows, cols);
  return out.taken({x.shape(0), weight.shape(0)}, std::max<size_t>(rows + gap, 1), rows);
}

py::tuple quantize_rows(const std::string& tier, const Array<float>& x, size_t granule,
                        size_t offset) {
  require_granule(granule);
  const size_t tokens = extent(x, 0), cols = extent(x, 1);
  require(cols % cpu::kInt4Block == 0, "columns are no multiple of 32");
  const size_t granules = (cols + granule - 1) / granule;
  Guarded<float> in(x, offset), scales(tokens * granules, offset);
  Guarded<int8_t> codes(tokens * cols, offset);
  Guarded<int32_t> sums(tokens * cols / cpu::kInt4Block, offset);
  cpu::kernels_for(tier).quantize_rows(codes.data(), scales.data(), sums.data(), in.data(), tokens,
                                       cols, granule);
  const auto columns = [](size_t n) { return static_cast<py::ssize_t>(n); };
  return py::make_tuple(codes.taken({x.shape(0), x.shape(1)}),
                        scales.taken({x.shape(0), columns(granules)}),
                        sums.taken({x.shape(0), columns(cols / cpu::kInt4Block)}));
}

Array<uint8_t> search_int4(const std::string& tier, const Array<float>& columns,
                           const Array<float>& importance, size_t offset) {
  require(extent(columns, 0) == cpu::kInt4Block && extent(columns, 1) == cpu::kPanelRows &&
              length(importance) == cpu::kInt4Block,
          "columns are [32, 32], importance is [32]");
  Guarded<float> in(columns, offset), weighs(importance, offset);
  Guarded<uint8_t> unit(cpu::kInt4UnitBytes, offset);
  cpu::kernels_for(tier).search_int4(unit.data(), in.data(), weighs.data());
  return unit.taken();
}

template <size_t kBlock, size_t kUnitBytes, auto kKernel>
Array<float> matmul_integer(const std::string& tier, const Array<int8_t>& codes,
                            const Array<float>& scales, const Array<int32_t>& sums,
                            const Array<uint8_t>& panels, size_t rows, size_t gap, size_t granule,
                            size_t offset) {
  require_granule(granule);
  const size_t tokens = extent(codes, 0), cols = extent(codes, 1);
  require(cols % cpu::kInt4Block == 0, "columns are no multiple of 32");
  require(extent(scales, 0) == tokens && extent(sums, 0) == tokens &&
              extent(scales, 1) == (cols + granule - 1) / granule &&
              extent(sums, 1) == cols / cpu::kInt4Block,
          "scales or sums: wrong shape");
  const size_t scale_bytes = cpu::kPanelRows * sizeof(uint16_t);
  const size_t panel_bytes =
      cols * (kUnitBytes - scale_bytes) / kBlock + (cols + kBlock - 1) / kBlock * scale_bytes;
  require(length(panels) == (rows + cpu::kPanelRows - 1) / cpu::kPanelRows * panel_bytes,
          "panels: wrong size");
  Guarded<int8_t> code(codes, offset);
  Guarded<float> scale(scales, offset), out(tokens * (rows + gap), offset);
  Guarded<int32_t> sum(sums, offset);
  Guarded<uint8_t> packed(panels, offset);
  const cpu::QuantizedRows x{.codes = code.data(),
                             .scales = scale.data(),
                             .sums = sum.data(),
                             .tokens = tokens,
                             .cols = cols,
                             .granule = granule};
  (cpu::kernels_for(tier).*kKernel)(out.data(), rows + gap, &x, packed.data(), rows);
  return out.taken({codes.shape(0), static_cast<py::ssize_t>(rows)},
                   std::max<size_t>(rows + gap, 1), rows);
}

Array<float> rms_norm(const std::string& tier, const Array<float>& x,
                      const std::optional<Array<float>>& weight, float epsilon, bool in_place,
                      size_t offset) {
  const size_t n = length(x);
  require(n > 0 && (!weight || length(*weight) == n), "expected n > 0 weights, one for each x");
  Guarded<float> in(x, offset), fresh(n, offset);
  Guarded<float> weights = weight ? Guarded<float>(*weight, offset) : Guarded<float>(0, offset);
  Guarded<float>& out = in_place ? in : fresh;
  cpu::kernels_for(tier).rms_norm(out.data(), in.data(), weight ? weights.data() : nullptr, n,
                                  epsilon);
  return out.taken();
}

Array<float> rms_norm_add(const std::string& tier, const Array<float>& out, const Array<float>& x,
                          const std::optional<Array<float>>& weight, float epsilon, size_t offset) {
  const size_t n = length(x);
  require(n > 0 && length(out) == n && (!weight || length(*weight) == n), "lengths differ");
  Guarded<float> sum(out, offset), in(x, offset);
  Guarded<float> weights = weight ? Guarded<float>(*weight, offset) : Guarded<float>(0, offset);
  cpu::kernels_for(tier).rms_norm_add(sum.data(), in.data(), weight ? weights.data() : nullptr, n,
                                      epsilon);
  return sum.taken();
}

Array<float> rope(const std::string& tier, const Array<float>& x, const Array<float>& cos,
                  const Array<float>& sin, size_t offset) {
  require(length(cos) == length(sin) && length(cos) <= length(x) / 2, "too many pairs");
  Guarded<float> head(x, offset), cosines(cos, offset), sines(sin, offset);
  cpu::kernels_for(tier).rope(head.data(), cosines.data(), sines.data(), length(x), length(cos));
  return head.taken();
}

Array<float> gelu_multiply(const std::string& tier, const Array<float>& gate,
                           const Array<float>& up, const std::string& in_place, size_t offset) {
  require(length(gate) == length(up), "gate and up differ in length");
  require(in_place.empty() || in_place == "gate" || in_place == "up",
          "in_place is '', 'gate' or 'up'");
  Guarded<float> gates(gate, offset), ups(up, offset), fresh(length(gate), offset);
  Guarded<float>& out = in_place == "gate" ? gates : in_place == "up" ? ups : fresh;
  cpu::kernels_for(tier).gelu_multiply(out.data(), gates.data(), ups.data(), length(gate));
  return out.taken();
}

Array<float> softcap(const std::string& tier, const Array<float>& x, float cap, size_t offset) {
  Guarded<float> out(x, offset);
  cpu::kernels_for(tier).softcap(out.data(), cap, length(x));
  return out.taken();
}

py::tuple exp_sum(const std::string& tier, const Array<float>& x, float max, bool terms,
                  bool in_place, size_t offset) {
  Guarded<float> in(x, offset), fresh(length(x), offset);
  Guarded<float>& out = in_place ? in : fresh;
  const float sum =
      cpu::kernels_for(tier).exp_sum(terms ? out.data() : nullptr, in.data(), max, length(x));
  return py::make_tuple(sum, out.taken());
}

Array<float> scale(const std::string& tier, const Array<float>& x, float factor, size_t offset) {
  Guarded<float> in(x, offset), out(length(x), offset);
  cpu::kernels_for(tier).scale(out.data(), in.data(), factor, length(x));
  return out.taken();
}

Array<float> add(const std::string& tier, const Array<float>& out, const Array<float>& x,
                 size_t offset) {
  require(length(out) == length(x), "out and x differ in length");
  Guarded<float> sum(out, offset), in(x, offset);
  cpu::kernels_for(tier).add(sum.data(), in.data(), length(x));
  return sum.taken();
}

Array<float> add_scaled(const std::string& tier, const Array<float>& out, const Array<float>& x,
                        float factor, size_t offset) {
  require(length(out) == length(x), "out and x differ in length");
  Guarded<float> sum(out, offset), in(x, offset);
  cpu::kernels_for(tier).add_scaled(sum.data(), in.data(), factor, length(x));
  return sum.taken();
}

Array<float> add_scaled_then_scale(const std::string& tier, const Array<float>& out,
                                   const Array<float>& x, float x_factor, float factor,
                                   size_t offset) {
  require(length(out) == length(x), "out and x differ in length");
  Guarded<float> sum(out, offset), in(x, offset);
  cpu::kernels_for(tier).add_scaled_then_scale(sum.data(), in.data(), x_factor, factor, length(x));
  return sum.taken();
}

Array<float> widen_bf16(const std::string& tier, const Array<uint16_t>& x, size_t offset) {
  Guarded<uint16_t> in(x, offset);
  Guarded<float> out(length(x), offset);
  cpu::kernels_for(tier).widen_bf16(out.data(), in.data(), length(x));
  return out.taken();
}

Array<uint16_t> narrow_bf16(const std::string& tier, const Array<float>& x, size_t offset) {
  Guarded<float> in(x, offset);
  Guarded<uint16_t> out(length(x), offset);
  cpu::kernels_for(tier).narrow_bf16(out.data(), in.data(), length(x));
  return out.taken();
}

// states [count, 2]: max and sum; visible [count, 2]: first and last; terms: one or two tuples of
// queries, keys, query scales, key scales (scales are empty but for int8).
template <class Kv, auto kKernel>
py::tuple attend(const std::string& tier, const Array<float>& states, const Array<float>& attended,
                 const py::list& terms, const Array<Kv>& values, const Array<float>& value_scales,
                 const Array<int64_t>& visible, float scale, size_t offset) {
  constexpr bool kIsInt8 = std::is_same_v<Kv, int8_t>;
  using Query = std::conditional_t<kIsInt8, int8_t, float>;
  const size_t count = extent(attended, 0), head_dim = extent(attended, 1);
  require(count > 0 && count <= cpu::kMaxQueries, "expected 1 to kMaxQueries queries");
  require(head_dim > 0 && head_dim <= cpu::kMaxHeadDim, "expected 1 to kMaxHeadDim columns");
  require(extent(states, 0) == count && extent(states, 1) == 2, "states: wrong shape");
  require(extent(visible, 0) == count && extent(visible, 1) == 2, "visible: wrong shape");
  require(extent(values, 0) == cpu::kKeyBlock && extent(values, 1) == head_dim,
          "values: wrong shape");
  require(length(value_scales) == (kIsInt8 ? cpu::kKeyBlock : 0), "value_scales: wrong length");
  require(terms.size() == 1 || terms.size() == 2, "expected one or two terms");
  std::vector<Guarded<Query>> queries;
  std::vector<Guarded<Kv>> keys;
  std::vector<Guarded<float>> query_scales, key_scales;
  cpu::AttentionBlock block{};
  for (const py::handle& item : terms) {
    const auto [q, k, q_scales, k_scales] =
        item.cast<std::tuple<Array<Query>, Array<Kv>, Array<float>, Array<float>>>();
    const size_t size = extent(q, 1);
    require(extent(q, 0) == count && size > 0 && size <= cpu::kMaxHeadDim, "queries: wrong shape");
    require(extent(k, 0) == cpu::kKeyBlock && extent(k, 1) == size, "keys: wrong shape");
    require(length(q_scales) == (kIsInt8 ? count : 0), "query scales: wrong length");
    require(length(k_scales) == (kIsInt8 ? cpu::kKeyBlock : 0), "key scales: wrong length");
    queries.emplace_back(q, offset);
    keys.emplace_back(k, offset);
    query_scales.emplace_back(q_scales, offset);
    key_scales.emplace_back(k_scales, offset);
    block.terms[block.term_count++] = {.queries = queries.back().data(),
                                       .keys = keys.back().data(),
                                       .query_scales = query_scales.back().data(),
                                       .key_scales = key_scales.back().data(),
                                       .size = size};
  }
  std::vector<cpu::KeyRange> ranges;
  std::vector<cpu::SoftmaxState> softmax;
  for (size_t q = 0; q < count; ++q) {
    const int64_t first = visible.data()[2 * q], last = visible.data()[2 * q + 1];
    require(0 <= first && first < last && last <= 64, "expected first < last <= 64");
    ranges.push_back({static_cast<size_t>(first), static_cast<size_t>(last)});
    softmax.push_back({states.data()[2 * q], states.data()[2 * q + 1]});
  }
  Guarded<float> out(attended, offset), scales(value_scales, offset);
  Guarded<Kv> value_block(values, offset);
  block.visible = ranges.data();
  block.count = count;
  block.values = value_block.data();
  block.value_scales = kIsInt8 ? scales.data() : nullptr;
  block.head_dim = head_dim;
  block.scale = scale;
  (cpu::kernels_for(tier).*kKernel)(softmax.data(), out.data(), &block);
  Array<float> after({count, size_t{2}});
  for (size_t q = 0; q < count; ++q) {
    after.mutable_data()[2 * q] = softmax[q].max;
    after.mutable_data()[2 * q + 1] = softmax[q].sum;
  }
  return py::make_tuple(
      after, out.taken({static_cast<py::ssize_t>(count), static_cast<py::ssize_t>(head_dim)}));
}

py::tuple round_row(const std::string& tier, const Array<float>& x, size_t offset) {
  Guarded<float> in(x, offset);
  Guarded<int8_t> codes(length(x), offset);
  const float scale = cpu::kernels_for(tier).round_row(codes.data(), in.data(), length(x));
  return py::make_tuple(codes.taken(), scale);
}

py::tuple merge_attention(const std::string& tier, State state, const Array<float>& attended,
                          State part_state, const Array<float>& part, size_t offset) {
  require(length(attended) == length(part), "attended and part differ in length");
  Guarded<float> out(attended, offset), later(part, offset);
  cpu::SoftmaxState softmax{state.first, state.second};
  const cpu::SoftmaxState later_softmax{part_state.first, part_state.second};
  cpu::kernels_for(tier).merge_attention(&softmax, out.data(), &later_softmax, later.data(),
                                         length(part));
  return py::make_tuple(State(softmax.max, softmax.sum), out.taken());
}

}  // namespace

void bind_testing(py::module_& module) {
  const auto offset = py::arg("offset") = 0;
  const auto tier = py::arg("tier");
  const auto x = py::arg("x");
  const auto granule = py::arg("granule") = 128;
  std::vector<std::string> names;
  const auto define = [&](const char* name, auto function, const auto&... arguments) {
    module.def(name, function, tier, arguments..., py::kw_only(), offset);
    names.emplace_back(name);
  };

  define("matmul_f32", matmul<float, float, &cpu::Kernels::matmul_f32>, x, py::arg("weight"),
         py::arg("gap") = 0);
  define("matmul_bf16", matmul<float, uint16_t, &cpu::Kernels::matmul_bf16>, x, py::arg("weight"),
         py::arg("gap") = 0);
  define("matmul_bf16_pairs", matmul<uint16_t, uint16_t, &cpu::Kernels::matmul_bf16_pairs>, x,
         py::arg("weight"), py::arg("gap") = 0);
  define("quantize_rows", quantize_rows, x, granule);
  define("search_int4", search_int4, py::arg("columns"), py::arg("importance"));
  const auto define_integer = [&](const char* name, auto function) {
    define(name, function, py::arg("codes"), py::arg("scales"), py::arg("sums"), py::arg("panels"),
           py::arg("rows"), py::arg("gap") = 0, granule);
  };
  define_integer("matmul_int4",
                 matmul_integer<cpu::kInt4Block, cpu::kInt4UnitBytes, &cpu::Kernels::matmul_int4>);
  define_integer("matmul_int8",
                 matmul_integer<cpu::kInt8Block, cpu::kInt8UnitBytes, &cpu::Kernels::matmul_int8>);
  define("rms_norm", rms_norm, x, py::arg("weight"), py::arg("epsilon"),
         py::arg("in_place") = false);
  define("rms_norm_add", rms_norm_add, py::arg("out"), x, py::arg("weight"), py::arg("epsilon"));
  define("rope", rope, x, py::arg("cos"), py::arg("sin"));
  define("gelu_multiply", gelu_multiply, py::arg("gate"), py::arg("up"), py::arg("in_place") = "");
  define("softcap", softcap, x, py::arg("cap"));
  define("exp_sum", exp_sum, x, py::arg("max"), py::arg("terms") = true,
         py::arg("in_place") = false);
  define("scale", scale, x, py::arg("factor"));
  define("add", add, py::arg("out"), x);
  define("add_scaled", add_scaled, py::arg("out"), x, py::arg("factor"));
  define("add_scaled_then_scale", add_scaled_then_scale, py::arg("out"), x, py::arg("x_factor"),
         py::arg("factor"));
  define("widen_bf16", widen_bf16, x);
  define("narrow_bf16", narrow_bf16, x);
  const auto define_attend = [&](const char* name, auto function) {
    define(name, function, py::arg("states"), py::arg("attended"), py::arg("terms"),
           py::arg("values"), py::arg("value_scales"), py::arg("visible"), py::arg("scale"));
  };
  define_attend("attend_f32", attend<float, &cpu::Kernels::attend_f32>);
  define_attend("attend_bf16", attend<uint16_t, &cpu::Kernels::attend_bf16>);
  define_attend("attend_int8", attend<int8_t, &cpu::Kernels::attend_int8>);
  define("round_row", round_row, x);
  define("merge_attention", merge_attention, py::arg("state"), py::arg("attended"),
         py::arg("part_state"), py::arg("part"));
  module.def("kernel_names", [names] { return names; });
}

}  // namespace cabochon
