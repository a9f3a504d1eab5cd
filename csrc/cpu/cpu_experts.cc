// Router and experts.
//
// The experts of a step are one list of work: each (token, choice) has a slot, ordered by expert,
// then by token, and a region runs over (expert in use, panel of its rows) with all tokens of that
// expert. So however many experts there are, a region streams their weights once, without a pause.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"

namespace cabochon::cpu {
namespace {

constexpr int64_t kDynamicTokens = 64;  // from here on experts differ in work, not bytes alone

// The `top` largest of p, largest first, ties to the lowest id; if all are NaN, the first ids.
void choose(int32_t* ids, int64_t top, const float* p, int64_t experts) noexcept {
  int64_t count = 0;
  for (int32_t id = 0; id < experts; ++id) {
    int64_t place = count;
    while (place > 0 && p[id] > p[ids[place - 1]]) --place;
    if (place == top) continue;
    count = std::min(count + 1, top);
    std::copy_backward(ids + place, ids + count - 1, ids + count);
    ids[place] = id;
  }
}

// Which slots each expert has.
struct Groups {
  const int32_t* used;  // [count] ids of the experts that have any, ascending
  int64_t count;
  const int32_t* ends;  // [experts] one past the last slot

  int64_t begin(int32_t expert) const { return expert == 0 ? 0 : ends[expert - 1]; }
  int64_t size(int32_t expert) const { return ends[expert] - begin(expert); }
};

// A counting sort: fills slots, used and ends.
Groups sort_by_expert(const ExpertsArgs& args) {
  const int32_t* ids = args.ids.as<int32_t>();
  int32_t* slots = args.slots.as<int32_t>();
  int32_t* used = args.used.as<int32_t>();
  int32_t* ends = args.ends.as<int32_t>();
  const int64_t pairs = args.ids.shape.elements(), experts = args.down.count;
  std::fill_n(ends, experts, 0);
  for (int64_t pair = 0; pair < pairs; ++pair) ++ends[ids[pair]];
  int64_t count = 0;
  int32_t next = 0;
  for (int32_t expert = 0; expert < experts; ++expert) {
    const int32_t size = ends[expert];
    if (size > 0) used[count++] = expert;
    ends[expert] = next;  // its first slot, until the slots are given out
    next += size;
  }
  for (int64_t pair = 0; pair < pairs; ++pair) slots[pair] = ends[ids[pair]]++;
  return {.used = used, .count = count, .ends = ends};
}

// Memory of rows rounded to int8, in the place of as many rows of float32: a code takes a byte, and
// scales and sums a quarter at most.
struct RoundedRows {
  int8_t* codes;
  float* scales;
  int32_t* sums;
  int64_t cols, granule, granules, blocks;

  RoundedRows(float* memory, int64_t rows, int64_t columns, int64_t columns_of_scale)
      : cols(columns),
        granule(columns_of_scale),
        granules((columns + granule - 1) / granule),
        blocks(columns / 32) {
    codes = reinterpret_cast<int8_t*>(memory);  // columns are a multiple of 32, so all is aligned
    scales = reinterpret_cast<float*>(codes + rows * cols);
    sums = reinterpret_cast<int32_t*>(scales + rows * granules);
  }

  RoundedRows at(int64_t row) const {
    RoundedRows out = *this;
    out.codes += row * cols;
    out.scales += row * granules;
    out.sums += row * blocks;
    return out;
  }
  void copy_row(int64_t from, int64_t to) const {
    std::copy_n(at(from).codes, cols, at(to).codes);
    std::copy_n(at(from).scales, granules, at(to).scales);
    std::copy_n(at(from).sums, blocks, at(to).sums);
  }
  QuantizedRows rows(int64_t first, int64_t count) const {
    const RoundedRows own = at(first);
    return {.codes = own.codes,
            .scales = own.scales,
            .sums = own.sums,
            .tokens = static_cast<size_t>(count),
            .cols = static_cast<size_t>(cols),
            .granule = static_cast<size_t>(granule)};
  }
};

}  // namespace

void CpuOps::compute_route(const RouteArgs& args) {
  const int64_t tokens = args.x.shape[0], hidden = args.x.shape[1];
  const int64_t experts = args.weight.rows, top = args.ids.shape[1];
  const auto h = static_cast<size_t>(hidden), e = static_cast<size_t>(experts);
  const float root = static_cast<float>(1.0 / std::sqrt(static_cast<double>(hidden)));
  for_rows(tokens, 1, 4 * hidden, [&](RowRange range) noexcept {
    for (int64_t t = range.begin; t < range.end; ++t) {
      float* normed = args.normed.floats() + t * hidden;
      kernels_.rms_norm(normed, args.x.floats() + t * hidden, args.scale.floats(), h, args.epsilon);
      kernels_.scale(normed, normed, root, h);
    }
  });
  // Exact in either arithmetic: a rounding here would send tokens to other experts.
  const Activations x{.x = args.normed.floats(), .tokens = tokens, .cols = hidden};
  for_rows(experts, 8, tokens * hidden, [&](RowRange range) noexcept {
    dot_rows(args.scores.floats() + range.begin, experts, x, args.weight, 0, range.begin,
             range.end - range.begin);
  });
  for_rows(tokens, 1, 32 * experts, [&](RowRange range) noexcept {
    for (int64_t t = range.begin; t < range.end; ++t) {
      float* p = args.scores.floats() + t * experts;
      // The division by the sum over all experts cancels in the weights, but rounds first: it is
      // done as the reference does it.
      const float largest = *std::max_element(p, p + experts);
      const float sum = kernels_.exp_sum(p, p, largest, e);
      for (int64_t i = 0; i < experts; ++i) p[i] /= sum;

      int32_t* ids = args.ids.as<int32_t>() + t * top;
      float* weights = args.weights.floats() + t * top;
      choose(ids, top, p, experts);
      float chosen_sum = 0.0f;
      for (int64_t i = 0; i < top; ++i) chosen_sum += p[ids[i]];
      for (int64_t i = 0; i < top; ++i) {
        weights[i] = p[ids[i]] / chosen_sum * args.per_expert_scale.floats()[ids[i]];
      }
    }
  });
}

void CpuOps::compute_experts(const ExpertsArgs& args) {
  const int64_t tokens = args.x.shape[0], hidden = args.x.shape[1], top = args.ids.shape[1];
  const int64_t pairs = tokens * top, ffn = args.down.cols;
  const int32_t* slots = args.slots.as<int32_t>();
  float* results = args.results.floats();
  float* gates = args.activated.floats();
  float* ups = gates + pairs * ffn;
  const auto h = static_cast<size_t>(hidden);
  const Groups groups = sort_by_expert(args);
  // Rows in slots. Until the results are there, their memory holds x; the memory of the up rows
  // holds the rounded products once those are made.
  const RoundedRows rounded_x(results, pairs, hidden, args.gate.granule);
  const RoundedRows rounded_inner(ups, pairs, ffn, args.down.granule);
  const auto quantize = [&](const RoundedRows& rows, int64_t slot, const float* row) {
    const RoundedRows to = rows.at(slot);
    kernels_.quantize_rows(to.codes, to.scales, to.sums, row, 1, static_cast<size_t>(rows.cols),
                           static_cast<size_t>(rows.granule));
  };
  const bool is_x_rounded = args.gate.format->block != 0;
  // The same memory holds rows rounded to bf16, where weights of that type meet such.
  const bool is_x_bf16 = is_fast() && args.gate.format == &kBf16Format;
  const bool is_inner_bf16 = is_fast() && args.down.format == &kBf16Format;
  uint16_t* bf16_x = is_x_bf16 ? reinterpret_cast<uint16_t*>(results) : nullptr;
  uint16_t* bf16_inner = is_inner_bf16 ? reinterpret_cast<uint16_t*>(ups) : nullptr;
  const auto in_slots = [&](const float* rows, const RoundedRows& rounded, const uint16_t* bf16,
                            int64_t slot, int64_t count) {
    return Activations{.x = rows + slot * rounded.cols,
                       .tokens = count,
                       .cols = rounded.cols,
                       .rounded = rounded.rows(slot, count),
                       .bf16 = bf16 == nullptr ? nullptr : bf16 + slot * rounded.cols};
  };

  for_rows(tokens, 1, (8 + top) * hidden, [&](RowRange range) noexcept {
    for (int64_t t = range.begin; t < range.end; ++t) {
      const float* row = args.x.floats() + t * hidden;
      const int32_t* own = slots + t * top;
      if (is_x_rounded) quantize(rounded_x, own[0], row);
      for (int64_t i = is_x_rounded ? 1 : 0; i < top; ++i) {
        if (is_x_rounded) {
          rounded_x.copy_row(own[0], own[i]);
        } else if (is_x_bf16) {
          kernels_.narrow_bf16(bf16_x + own[i] * hidden, row, h);
        } else {
          std::copy_n(row, h, results + own[i] * hidden);
        }
      }
    }
  });

  // One region: fn(expert, its first slot, its slots, first row, rows) over `rows` rows of each
  // expert in use.
  const auto for_experts = [&](int64_t rows, int64_t operations_per_row, auto&& fn) {
    const int64_t panels = (rows + kRowGranule - 1) / kRowGranule;
    auto run = [&](RowRange range) noexcept {
      for (int64_t at = range.begin; at < range.end;) {
        const int32_t expert = groups.used[at / panels];
        const int64_t panel = at % panels, count = std::min(panels - panel, range.end - at);
        const int64_t row = panel * kRowGranule;
        fn(expert, groups.begin(expert), groups.size(expert), row,
           std::min(count * kRowGranule, rows - row));
        at += count;
      }
    };
    const int64_t all = groups.count * panels;
    const int64_t operations = pairs * rows * operations_per_row / std::max<int64_t>(1, all);
    if (tokens < kDynamicTokens) {
      for_rows(all, 1, operations, run);
    } else {
      for_runs(all, operations, run);
    }
  };
  for_experts(ffn, 2 * hidden,
              [&](int32_t expert, int64_t slot, int64_t count, int64_t row, int64_t rows) {
                const Activations x = in_slots(results, rounded_x, bf16_x, slot, count);
                float* gate = gates + slot * ffn + row;
                float* up = ups + slot * ffn + row;
                dot_rows(gate, ffn, x, args.gate, expert, row, rows);
                dot_rows(up, ffn, x, args.up, expert, row, rows);
                for (int64_t t = 0; t < count; ++t) {
                  kernels_.gelu_multiply(gate + t * ffn, gate + t * ffn, up + t * ffn,
                                         static_cast<size_t>(rows));
                }
              });
  if (args.down.format->block != 0 || is_inner_bf16) {
    for_rows(pairs, 1, 8 * ffn, [&](RowRange range) noexcept {
      for (int64_t slot = range.begin; slot < range.end; ++slot) {
        const float* row = gates + slot * ffn;
        if (is_inner_bf16) {
          kernels_.narrow_bf16(bf16_inner + slot * ffn, row, static_cast<size_t>(ffn));
        } else {
          quantize(rounded_inner, slot, row);
        }
      }
    });
  }
  for_experts(hidden, ffn,
              [&](int32_t expert, int64_t slot, int64_t count, int64_t row, int64_t rows) {
                dot_rows(results + slot * hidden + row, hidden,
                         in_slots(gates, rounded_inner, bf16_inner, slot, count), args.down, expert,
                         row, rows);
              });

  for_rows(tokens, 1, 2 * top * hidden, [&](RowRange range) noexcept {
    for (int64_t t = range.begin; t < range.end; ++t) {
      float* out = args.out.floats() + t * hidden;
      std::fill_n(out, h, 0.0f);
      // Ids of a token differ, and slots ascend by id.
      int32_t last = -1;
      for (int64_t round = 0; round < top; ++round) {
        int64_t next = -1;
        for (int64_t i = t * top; i < (t + 1) * top; ++i) {
          if (slots[i] > last && (next < 0 || slots[i] < slots[next])) next = i;
        }
        last = slots[next];
        kernels_.add_scaled(out, results + last * hidden, args.weights.floats()[next], h);
      }
    }
  });
}

}  // namespace cabochon::cpu
