// The head: logits of the whole vocabulary, and the logarithm of their sum of exponentials.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"

namespace cabochon::cpu {
namespace {

constexpr int64_t kChunk = 4096;  // entries whose exponentials are summed in float32

}  // namespace

void CpuOps::compute_head(const HeadArgs& args) {
  const int64_t tokens = args.x.shape[0], vocab = args.weight.rows;
  const Activations x = prepare(args.x, args.weight);
  for_rows(vocab, kRowGranule, tokens * args.weight.cols, [&](RowRange range) noexcept {
    float* logits = args.logits.floats() + range.begin;
    const int64_t count = range.end - range.begin;
    dot_rows(logits, vocab, x, args.weight, 0, range.begin, count);
    if (args.softcap == 0.0f) return;
    for (int64_t t = 0; t < tokens; ++t) {
      kernels_.softcap(logits + t * vocab, args.softcap, static_cast<size_t>(count));
    }
  });
}

double CpuOps::compute_log_sum_exp(Tensor x) {
  const int64_t n = x.shape[0], chunks = (n + kChunk - 1) / kChunk;
  const float* values = x.floats();
  float largest = -INFINITY;
  for (int64_t i = 0; i < n; ++i) largest = values[i] > largest ? values[i] : largest;
  chunk_sums_.resize(static_cast<size_t>(chunks));
  for_rows(chunks, 1, 16 * kChunk, [&](RowRange range) noexcept {
    for (int64_t chunk = range.begin; chunk < range.end; ++chunk) {
      const int64_t begin = chunk * kChunk;
      chunk_sums_[static_cast<size_t>(chunk)] = kernels_.exp_sum(
          nullptr, values + begin, largest, static_cast<size_t>(std::min(kChunk, n - begin)));
    }
  });
  double sum = 0.0;
  for (const float chunk : chunk_sums_) sum += chunk;
  return static_cast<double>(largest) + std::log(sum);
}

}  // namespace cabochon::cpu
