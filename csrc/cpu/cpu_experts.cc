// Router and experts.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"

namespace cabochon::cpu {
namespace {

bool is_rounded(const PackedWeight& weight) { return weight.format->block != 0; }

}  // namespace

void CpuOps::compute_route(const RouteArgs& args) {
  const int64_t tokens = args.x.shape[0], hidden = args.x.shape[1];
  const int64_t experts = args.weight.rows, top = args.ids.shape[1];
  const auto h = static_cast<size_t>(hidden), e = static_cast<size_t>(experts);
  const float root = static_cast<float>(1.0 / std::sqrt(static_cast<double>(hidden)));
  for_rows(tokens, 1, experts * hidden, [&](RowRange range) noexcept {
    for (int64_t t = range.begin; t < range.end; ++t) {
      float* normed = args.normed.floats() + t * hidden;
      float* p = args.scores.floats() + t * experts;
      kernels_.rms_norm(normed, args.x.floats() + t * hidden, args.scale.floats(), h, args.epsilon);
      kernels_.scale(normed, normed, root, h);
      dot_rows(p, experts, {.x = normed, .tokens = 1, .cols = hidden}, args.weight, 0, 0, experts);
      // The division by the sum over all experts cancels in the weights, but rounds first: it is
      // done as the reference does it.
      const float largest = *std::max_element(p, p + experts);
      const float sum = kernels_.exp_sum(p, p, largest, e);
      for (int64_t i = 0; i < experts; ++i) p[i] /= sum;

      int32_t* ids = args.ids.as<int32_t>() + t * top;
      float* weights = args.weights.floats() + t * top;
      float chosen_sum = 0.0f;
      for (int64_t i = 0; i < top; ++i) {
        int32_t best = -1;
        for (int32_t id = 0; id < experts; ++id) {
          if (std::find(ids, ids + i, id) != ids + i) continue;
          if (best < 0 || p[id] > p[best]) best = id;
        }
        ids[i] = best;
        weights[i] = p[best];
        chosen_sum += p[best];
      }
      for (int64_t i = 0; i < top; ++i) {
        weights[i] = weights[i] / chosen_sum * args.per_expert_scale.floats()[ids[i]];
      }
    }
  });
}

void CpuOps::compute_experts(const ExpertsArgs& args) {
  const int64_t tokens = args.x.shape[0], hidden = args.x.shape[1], top = args.ids.shape[1];
  const int64_t ffn = args.down.cols;
  const int32_t* ids = args.ids.as<int32_t>();
  const auto n = static_cast<size_t>(hidden);

  // (token, choice) pairs by expert, then by token: an expert's weights are read once.
  choices_.resize(static_cast<size_t>(tokens * top));
  for (size_t i = 0; i < choices_.size(); ++i) choices_[i] = static_cast<int32_t>(i);
  std::sort(choices_.begin(), choices_.end(),
            [&](int32_t a, int32_t b) { return ids[a] != ids[b] ? ids[a] < ids[b] : a < b; });

  for (size_t begin = 0, end = 0; begin < choices_.size(); begin = end) {
    const int64_t expert = ids[choices_[begin]];
    while (end < choices_.size() && ids[choices_[end]] == expert) ++end;
    const auto count = static_cast<int64_t>(end - begin);
    for (size_t i = begin; i < end; ++i) {
      std::copy_n(args.x.floats() + choices_[i] / top * hidden, n,
                  args.gathered.floats() + static_cast<int64_t>(i - begin) * hidden);
    }
    float* activated = args.activated.floats();
    const Activations x = prepare(args.gathered.floats(), count, hidden, is_rounded(args.gate));
    for_rows(ffn, kRowGranule, 2 * count * hidden, [&](RowRange range) noexcept {
      const int64_t rows = range.end - range.begin;
      float* gate = activated + range.begin;
      float* up = gate + tokens * ffn;
      dot_rows(gate, ffn, x, args.gate, expert, range.begin, rows);
      dot_rows(up, ffn, x, args.up, expert, range.begin, rows);
      for (int64_t t = 0; t < count; ++t) {
        kernels_.gelu_multiply(gate + t * ffn, gate + t * ffn, up + t * ffn,
                               static_cast<size_t>(rows));
      }
    });
    const Activations inner = prepare(activated, count, ffn, is_rounded(args.down));
    for_rows(hidden, kRowGranule, count * ffn, [&](RowRange range) noexcept {
      dot_rows(args.gathered.floats() + range.begin, hidden, inner, args.down, expert, range.begin,
               range.end - range.begin);
    });
    for (size_t i = begin; i < end; ++i) {
      std::copy_n(args.gathered.floats() + static_cast<int64_t>(i - begin) * hidden, n,
                  args.results.floats() + choices_[i] * hidden);
    }
  }

  for_rows(tokens, 1, 2 * top * hidden, [&](RowRange range) noexcept {
    for (int64_t t = range.begin; t < range.end; ++t) {
      float* out = args.out.floats() + t * hidden;
      std::fill_n(out, n, 0.0f);
      const int32_t* chosen = ids + t * top;
      int32_t last = -1;  // ids of a token differ, so "the next larger one" finds each once
      for (int64_t round = 0; round < top; ++round) {
        int64_t next = -1;
        for (int64_t i = 0; i < top; ++i) {
          if (chosen[i] > last && (next < 0 || chosen[i] < chosen[next])) next = i;
        }
        last = chosen[next];
        kernels_.add_scaled(out, args.results.floats() + (t * top + next) * hidden,
                            args.weights.floats()[t * top + next], n);
      }
    }
  });
}

}  // namespace cabochon::cpu
