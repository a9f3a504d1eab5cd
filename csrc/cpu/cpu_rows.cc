// Operations on rows of tokens: embedding, norms, rope, sums.
#include <algorithm>

#include "cpu/cpu_ops.h"

namespace cabochon::cpu {

CpuOps::CpuOps(const Kernels& kernels, int threads)
    : kernels_(kernels), threads_(threads), pool_(ThreadPool::shared()), lease_(pool_, threads) {
  items_.reserve(kMostItems);
  runs_.reserve(kMostItems + 1);
}

void CpuOps::widen(float* out, Dtype dtype, const void* row, int64_t count) const noexcept {
  const auto n = static_cast<size_t>(count);
  if (dtype == Dtype::kBf16) {
    kernels_.widen_bf16(out, static_cast<const uint16_t*>(row), n);
  } else {
    std::copy_n(static_cast<const float*>(row), n, out);
  }
}

void CpuOps::compute_embed(const EmbedArgs& args) {
  const int64_t hidden = args.table.cols;
  for_rows(std::ssize(args.ids), 1, hidden, [&](RowRange range) noexcept {
    for (int64_t t = range.begin; t < range.end; ++t) {
      float* row = args.out.floats() + t * hidden;
      widen(row, args.table.format->dtype, args.table.at(0, args.ids[static_cast<size_t>(t)]),
            hidden);
      kernels_.scale(row, row, args.scale, static_cast<size_t>(hidden));
    }
  });
}

void CpuOps::compute_rms_norm(const NormArgs& args, bool is_added) {
  const int64_t n = args.x.shape.back();
  const auto kernel = is_added ? kernels_.rms_norm_add : kernels_.rms_norm;
  const float* weight = args.weight.empty() ? nullptr : args.weight.floats();
  for_rows(args.x.shape.elements() / n, 1, 2 * n, [&](RowRange range) noexcept {
    for (int64_t row = range.begin; row < range.end; ++row) {
      kernel(args.out.floats() + row * n, args.x.floats() + row * n, weight, static_cast<size_t>(n),
             args.epsilon);
    }
  });
}

void CpuOps::compute_rope(const RopeArgs& args) {
  const int64_t heads = args.x.shape[1], head_dim = args.x.shape[2], pairs = args.cos.shape[1];
  for_rows(args.x.shape[0], 1, heads * head_dim, [&](RowRange range) noexcept {
    for (int64_t t = range.begin; t < range.end; ++t) {
      for (int64_t head = 0; head < heads; ++head) {
        kernels_.rope(args.x.floats() + (t * heads + head) * head_dim,
                      args.cos.floats() + t * pairs, args.sin.floats() + t * pairs,
                      static_cast<size_t>(head_dim), static_cast<size_t>(pairs));
      }
    }
  });
}

void CpuOps::compute_scale(Tensor x, float factor) {
  for_rows(x.shape.elements(), 1024, 1, [&](RowRange range) noexcept {
    float* begin = x.floats() + range.begin;
    kernels_.scale(begin, begin, factor, static_cast<size_t>(range.end - range.begin));
  });
}

void CpuOps::compute_add(Tensor out, Tensor x) {
  for_rows(x.shape.elements(), 1024, 1, [&](RowRange range) noexcept {
    kernels_.add(out.floats() + range.begin, x.floats() + range.begin,
                 static_cast<size_t>(range.end - range.begin));
  });
}

void CpuOps::compute_per_layer_sum(const PerLayerSumArgs& args) {
  const int64_t columns = args.out.shape[1], all = args.stored.shape[1];
  const int64_t width = args.norm.shape.back();
  const auto n = static_cast<size_t>(width);
  for_rows(args.out.shape[0], 1, 4 * columns, [&](RowRange range) noexcept {
    for (int64_t t = range.begin; t < range.end; ++t) {
      for (int64_t column = 0; column < columns; column += width) {
        float* row = args.out.floats() + t * columns + column;
        kernels_.scale(row, row, args.projection_scale, n);
        kernels_.rms_norm(row, row, args.norm.floats(), n, args.epsilon);
        // In pieces, so that the widened row of the table needs no memory of its own.
        float stored[256];
        for (int64_t begin = 0; begin < width; begin += 256) {
          const int64_t count = std::min<int64_t>(256, width - begin);
          const int64_t at = t * all + args.begin + column + begin;
          widen(stored, args.stored.dtype,
                args.stored.as<std::byte>() + at * byte_size(args.stored.dtype), count);
          kernels_.add_scaled_then_scale(row + begin, stored, args.stored_scale, args.result_scale,
                                         static_cast<size_t>(count));
        }
      }
    }
  });
}

}  // namespace cabochon::cpu
