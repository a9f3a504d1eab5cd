// The head: logits of the whole vocabulary, the largest of each block of ids, and the logarithm of
// the sum of exponentials.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"

namespace cabochon::cpu {

void CpuOps::compute_head(const HeadArgs& args) {
  const int64_t tokens = args.x.shape[0], vocab = args.weight.rows;
  const int64_t blocks = args.largest.shape[1], chunks = args.chunk_sums.shape[1];
  const Activations x = prepare(args.x, args.weight);
  for_rows(blocks, 1, kLogitBlock * tokens * args.weight.cols, [&](RowRange range) noexcept {
    for (int64_t block = range.begin; block < range.end; ++block) {
      const int64_t begin = block * kLogitBlock, count = std::min(kLogitBlock, vocab - begin);
      float* logits = args.logits.floats() + begin;
      dot_rows(logits, vocab, x, args.weight, 0, begin, count);
      const auto n = static_cast<size_t>(count);
      for (int64_t t = 0; t < tokens; ++t) {
        float* row = logits + t * vocab;
        if (args.softcap != 0.0f) kernels_.softcap(row, args.softcap, n);
        args.largest.floats()[t * blocks + block] = largest_of({row, n});
      }
    }
  });

  const auto largest = [&](int64_t token) {
    return largest_of({args.largest.floats() + token * blocks, static_cast<size_t>(blocks)});
  };
  for_rows(tokens * chunks, 1, 16 * kLogitChunk, [&](RowRange range) noexcept {
    for (int64_t at = range.begin; at < range.end; ++at) {
      const int64_t token = at / chunks, begin = at % chunks * kLogitChunk;
      args.chunk_sums.floats()[at] =
          kernels_.exp_sum(nullptr, args.logits.floats() + token * vocab + begin, largest(token),
                           static_cast<size_t>(std::min(kLogitChunk, vocab - begin)));
    }
  });
  for (int64_t t = 0; t < tokens; ++t) {
    double sum = 0.0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      sum += args.chunk_sums.floats()[t * chunks + chunk];
    }
    args.log_sums[static_cast<size_t>(t)] = static_cast<double>(largest(t)) + std::log(sum);
  }
}

}  // namespace cabochon::cpu
