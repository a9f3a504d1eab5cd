// Projections: weight rows are split over threads, every thread takes all tokens.
#include <algorithm>
#include <type_traits>

#include "cpu/cpu_ops.h"

namespace cabochon::cpu {

void CpuOps::reserve(int64_t tokens, int64_t cols, int64_t ffn) {
  const auto grow = [](auto& buffer, int64_t size) {
    // A new one, not a larger one: that might take more than it was asked for.
    if (std::ssize(buffer) < size)
      buffer = std::decay_t<decltype(buffer)>(static_cast<size_t>(size));
  };
  grow(codes_, tokens * cols);
  grow(scales_, tokens * (cols / kFineGranule));
  grow(sums_, tokens * (cols / 32));
  grow(gated_, gated_scratch(tokens, ffn, threads_));
}

CpuOps::Activations CpuOps::prepare(const float* x, int64_t tokens, int64_t cols,
                                    const PackedWeight& weight) {
  Activations out{.x = x, .tokens = tokens, .cols = cols};
  if (!weight.is_packed()) return out;
  reserve(tokens, cols, 0);
  const int64_t granule = weight.granule;
  const int64_t granules = (cols + granule - 1) / granule;
  const auto n = static_cast<size_t>(cols);
  for_rows(tokens, 1, 8 * cols, [&](RowRange range) noexcept {
    kernels_.quantize_rows(
        codes_.data() + range.begin * cols, scales_.data() + range.begin * granules,
        sums_.data() + range.begin * (cols / 32), x + range.begin * cols,
        static_cast<size_t>(range.end - range.begin), n, static_cast<size_t>(granule));
  });
  out.rounded = {.codes = codes_.data(),
                 .scales = scales_.data(),
                 .sums = sums_.data(),
                 .tokens = static_cast<size_t>(tokens),
                 .cols = n,
                 .granule = static_cast<size_t>(granule)};
  return out;
}

CpuOps::Activations CpuOps::prepare(const Tensor& x, const PackedWeight& weight) {
  return prepare(x.floats(), x.shape[0], x.shape[1], weight);
}

void CpuOps::dot_rows(float* out, int64_t out_stride, const Activations& x,
                      const PackedWeight& weight, int64_t index, int64_t begin_row,
                      int64_t rows) const noexcept {
  const auto stride = static_cast<size_t>(out_stride), r = static_cast<size_t>(rows);
  const auto t = static_cast<size_t>(x.tokens), cols = static_cast<size_t>(x.cols);
  const std::byte* data = weight.at(index, begin_row);
  const auto* bytes = reinterpret_cast<const uint8_t*>(data);
  if (weight.format == &kInt4Format) {
    kernels_.matmul_int4(out, stride, &x.rounded, bytes, r);
  } else if (weight.format == &kInt8Format) {
    kernels_.matmul_int8(out, stride, &x.rounded, bytes, r);
  } else if (weight.format == &kBf16Format) {
    kernels_.matmul_bf16(out, stride, x.x, reinterpret_cast<const uint16_t*>(data), t, r, cols);
  } else {
    kernels_.matmul_f32(out, stride, x.x, reinterpret_cast<const float*>(data), t, r, cols);
  }
}

void CpuOps::compute_project(const ProjectArgs& args) {
  const int64_t tokens = args.x.shape[0], cols = args.x.shape[1];
  int64_t units = 0;  // of 32 rows, part after part
  const PackedWeight* packed = &args.parts[0].weight;
  for (const ProjectArgs::Part& part : args.parts) {
    units += (part.weight.rows + kRowGranule - 1) / kRowGranule;
    if (part.weight.is_packed()) packed = &part.weight;
  }
  const Activations x = prepare(args.x, *packed);
  for_rows(units, 1, kRowGranule * tokens * cols, [&](RowRange range) noexcept {
    int64_t first = 0;  // unit of the part at hand
    for (const ProjectArgs::Part& part : args.parts) {
      const int64_t rows = part.weight.rows, count = (rows + kRowGranule - 1) / kRowGranule;
      const int64_t begin = std::clamp(range.begin - first, int64_t{0}, count) * kRowGranule;
      const int64_t end =
          std::min(std::clamp(range.end - first, int64_t{0}, count) * kRowGranule, rows);
      if (begin < end) {
        dot_rows(part.out.floats() + begin, rows, x, part.weight, 0, begin, end - begin);
      }
      first += count;
    }
  });
}

void CpuOps::compute_gated_matmul(const GatedMatmulArgs& args) {
  const int64_t tokens = args.x.shape[0], rows = args.gate.rows;
  reserve(tokens, 0, rows);
  const Activations x = prepare(args.x, args.gate.is_packed() ? args.gate : args.up);
  for_rows(rows, kRowGranule, 2 * tokens * args.gate.cols, [&](RowRange range) noexcept {
    // Few rows: all of gate, then all of up, two streams of weights. Many: both for some columns,
    // so that the products meet before they leave the cache.
    const int64_t size = range.end - range.begin;
    const bool is_many = tokens >= kGatedTokens;
    const bool is_blocked = is_many && size >= 2 * kGatedColumns;
    const int64_t step = is_blocked ? kGatedColumns : size;
    // [tokens, step] of up, then the same of gate: in this thread's part of the scratch, which
    // holds 2 * kGatedColumns at most, or at the place of the range itself.
    const int64_t place = is_many ? 2 * kGatedColumns * range.thread : range.begin;
    float* up = gated_.data() + place * tokens;
    for (int64_t first = range.begin; first < range.end; first += step) {
      const int64_t count = std::min(step, range.end - first);
      float* out = args.out.floats() + first;
      float* gate = is_blocked ? up + step * tokens : out;
      const int64_t stride = is_blocked ? step : rows;
      dot_rows(gate, stride, x, args.gate, 0, first, count);
      dot_rows(up, step, x, args.up, 0, first, count);
      for (int64_t t = 0; t < tokens; ++t) {
        kernels_.gelu_multiply(out + t * rows, gate + t * stride, up + t * step,
                               static_cast<size_t>(count));
      }
    }
  });
}

void CpuOps::compute_per_layer_gate(const PerLayerGateArgs& args) {
  const int64_t tokens = args.x.shape[0], rows = args.gate.rows, stride = args.input.shape[1];
  const Activations x = prepare(args.x, args.gate);
  for_rows(rows, kRowGranule, tokens * args.gate.cols, [&](RowRange range) noexcept {
    const int64_t count = range.end - range.begin;
    float* gate = args.out.floats() + range.begin;
    const float* input = args.input.floats() + args.offset + range.begin;
    dot_rows(gate, rows, x, args.gate, 0, range.begin, count);
    for (int64_t t = 0; t < tokens; ++t) {
      kernels_.gelu_multiply(gate + t * rows, gate + t * rows, input + t * stride,
                             static_cast<size_t>(count));
    }
  });
}

}  // namespace cabochon::cpu
