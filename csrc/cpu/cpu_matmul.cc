// Projections: weight rows are split over threads, every thread takes all tokens.
#include "cpu/cpu_ops.h"

namespace cabochon::cpu {

void CpuOps::dot_rows(float* out, int64_t out_stride, const float* x, const PackedWeight& weight,
                      int64_t begin_row, int64_t rows, int64_t tokens) const noexcept {
  const auto stride = static_cast<size_t>(out_stride);
  const auto t = static_cast<size_t>(tokens), r = static_cast<size_t>(rows);
  const auto cols = static_cast<size_t>(weight.cols);
  const int64_t first = begin_row * weight.cols;
  if (weight.codes.dtype == Dtype::kBf16) {
    kernels_.matmul_bf16(out, stride, x, weight.codes.as<uint16_t>() + first, t, r, cols);
  } else {
    kernels_.matmul_f32(out, stride, x, weight.codes.floats() + first, t, r, cols);
  }
}

void CpuOps::compute_matmul(const MatmulArgs& args) {
  const int64_t tokens = args.x.shape[0], rows = args.weight.rows;
  for_rows(rows, kRowGranule, tokens * args.weight.cols, [&](RowRange range) noexcept {
    dot_rows(args.out.floats() + range.begin, rows, args.x.floats(), args.weight, range.begin,
             range.end - range.begin, tokens);
  });
}

void CpuOps::compute_gated_matmul(const GatedMatmulArgs& args) {
  const int64_t tokens = args.x.shape[0], rows = args.gate.rows;
  for_rows(rows, kRowGranule, 2 * tokens * args.gate.cols, [&](RowRange range) noexcept {
    const int64_t count = range.end - range.begin;
    float* gate = args.out.floats() + range.begin;
    float* up = args.up_rows.floats() + range.begin;
    dot_rows(gate, rows, args.x.floats(), args.gate, range.begin, count, tokens);
    dot_rows(up, rows, args.x.floats(), args.up, range.begin, count, tokens);
    for (int64_t t = 0; t < tokens; ++t) {
      kernels_.gelu_multiply(gate + t * rows, gate + t * rows, up + t * rows,
                             static_cast<size_t>(count));
    }
  });
}

void CpuOps::compute_per_layer_gate(const PerLayerGateArgs& args) {
  const int64_t tokens = args.x.shape[0], rows = args.gate.rows, stride = args.input.shape[1];
  for_rows(rows, kRowGranule, tokens * args.gate.cols, [&](RowRange range) noexcept {
    const int64_t count = range.end - range.begin;
    float* gate = args.out.floats() + range.begin;
    const float* input = args.input.floats() + args.offset + range.begin;
    dot_rows(gate, rows, args.x.floats(), args.gate, range.begin, count, tokens);
    for (int64_t t = 0; t < tokens; ++t) {
      kernels_.gelu_multiply(gate + t * rows, gate + t * rows, input + t * stride,
                             static_cast<size_t>(count));
    }
  });
}

}  // namespace cabochon::cpu
