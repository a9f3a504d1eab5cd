// Keys and values into pages, and attention over them.
//
// Work is cut into items: some queries of one sequence that share a kv head, and one partition of
// their keys. All items of a step are alike to the threads, so one token with a long history keeps
// every thread busy; their results are merged in the order of the keys, whoever computed them.
#include <algorithm>
#include <limits>
#include <utility>

#include "cpu/cpu_ops.h"

namespace cabochon::cpu {
namespace {

constexpr int64_t kPartition = 512;  // keys whose softmax runs alone before it is merged
constexpr int64_t kMost = static_cast<int64_t>(kMaxQueries);
static_assert(kMost == kAttentionQueries, "scratch is sized for what a kernel takes at once");
constexpr int64_t kBlock = static_cast<int64_t>(kKeyBlock);
static_assert(kBlock == 64, "a page holds one block of keys");

// The columns that turn, of a head: those of the first halves of the pairs, then of the second.
void gather_turned(float* out, const float* head, const KvLayer& kv) noexcept {
  const int64_t pairs = kv.turned / 2;
  std::copy_n(head, pairs, out);
  std::copy_n(head + kv.head_dim / 2, pairs, out + pairs);
}

// Columns that are mixed with each other: the largest power of two that divides the width.
int64_t mixed_columns(int64_t width) { return width & -width; }

// A Hadamard transform in place, for each run of mixed_columns. It leaves dots what they were, but
// for the factor mixed_columns, and is its own inverse, but for the same factor. The few columns
// that are much larger than others would take all of an int8 row's range; mixed, all are alike.
void mix(float* x, int64_t width) noexcept {
  const int64_t run = mixed_columns(width);
  for (int64_t step = 1; step < run; step *= 2) {
    for (int64_t begin = 0; begin < width; begin += 2 * step) {
      for (int64_t i = begin; i < begin + step; ++i) {
        const float a = x[i], b = x[i + step];
        x[i] = a + b;
        x[i + step] = a - b;
      }
    }
  }
}

// Keys [first, last); none where first >= last.
struct Keys {
  int64_t first, last;
};

// Those of [begin, end) that the query in this row sees.
Keys keys_seen(const AttentionArgs& args, int64_t row, int64_t begin, int64_t end) {
  const int64_t next = args.places.positions[static_cast<size_t>(row)] + 1;
  return {std::max(begin, args.window == 0 ? 0 : next - args.window), std::min(end, next)};
}

// Those that any query of an item sees: positions ascend by row.
Keys keys_seen(const AttentionArgs& args, const AttentionItem& item) {
  return {keys_seen(args, item.row, 0, kMaxPosition).first,
          keys_seen(args, item.row + item.rows - 1, 0, kMaxPosition).last};
}

constexpr SoftmaxState kFresh{-std::numeric_limits<float>::infinity(), 0.0f};

// Where an item is computed: its queries side by side as the keys want them (float32 or int8 with
// scales), what they attended to, their states.
struct Slot {
  float* queries[2];       // [count, width of the part]; of the second part where keys turn
  float* query_scales[2];  // [count]
  float* attended;         // [count, head_dim]
  SoftmaxState* states;    // [count]

  Slot(float* memory, int64_t count, const KvLayer& kv) {
    const auto take = [&](int64_t columns) {
      return std::exchange(memory, memory + count * columns);
    };
    queries[0] = take(kv.head_dim);
    queries[1] = take(kv.turned);
    query_scales[0] = take(1);
    query_scales[1] = take(1);
    attended = take(kv.head_dim);
    states = reinterpret_cast<SoftmaxState*>(memory);
  }
};

}  // namespace

void CpuOps::compute_store_kv(const StoreKvArgs& args) {
  const KvLayer& kv = args.kv;
  const auto store = [&](std::byte* page, const KvLayer::Part& part, int64_t row,
                         const float* x) noexcept {
    const auto n = static_cast<size_t>(part.width);
    std::byte* out = page + part.offset + row * part.width * byte_size(kv.dtype);
    if (kv.dtype == Dtype::kI8) {
      auto* scales = reinterpret_cast<float*>(page + part.scale_offset);
      scales[row] = kernels_.round_row(reinterpret_cast<int8_t*>(out), x, n);
    } else if (kv.dtype == Dtype::kBf16) {
      kernels_.narrow_bf16(reinterpret_cast<uint16_t*>(out), x, n);
    } else {
      std::copy_n(x, n, reinterpret_cast<float*>(out));
    }
  };
  for_rows(args.keys.shape[0], 1, 2 * kv.kv_heads * kv.head_dim, [&](RowRange range) noexcept {
    for (int64_t t = range.begin; t < range.end; ++t) {
      const auto token = static_cast<size_t>(t);
      const int64_t position = args.places.positions[token];
      const PageTable& table =
          args.places.tables[static_cast<size_t>(args.places.sequences[token])];
      std::byte* page = kv.pages + table.page_of(position) * kv.page_bytes;
      for (int64_t head = 0; head < kv.kv_heads; ++head) {
        const int64_t row = head * kBlock + position % kBlock;
        const float* key = args.keys.floats() + (t * kv.kv_heads + head) * kv.head_dim;
        const float* value = args.values.floats() + (t * kv.kv_heads + head) * kv.head_dim;
        float first[kMaxHeadDim], second[kMaxHeadDim];
        std::copy_n(kv.turned > 0 ? value : key, kv.head_dim, first);
        if (kv.turned > 0) {
          gather_turned(second, key, kv);
        } else {
          std::copy_n(value, kv.head_dim, second);
        }
        // What scores are made of; values that are no keys stay as they are.
        if (kv.dtype == Dtype::kI8) mix(first, kv.head_dim);
        if (kv.dtype == Dtype::kI8 && kv.turned > 0) mix(second, kv.turned);
        store(page, kv.parts[0], row, first);
        store(page, kv.parts[1], row, second);
      }
    }
  });
}

// The queries of an item into its slot, as the keys want them.
void CpuOps::take_queries(const AttentionArgs& args, const AttentionItem& item,
                          float* memory) const noexcept {
  const KvLayer& kv = args.kv;
  const int64_t heads = args.queries.shape[1], head_dim = kv.head_dim;
  const Slot slot(memory, item.rows * item.heads, kv);
  const auto put = [&](int part, int64_t query, const float* x, int64_t width) noexcept {
    if (kv.dtype == Dtype::kI8) {
      float mixed[kMaxHeadDim];
      std::copy_n(x, width, mixed);
      mix(mixed, width);
      const float factor = 1.0f / static_cast<float>(mixed_columns(width));  // exact
      kernels_.scale(mixed, mixed, factor, static_cast<size_t>(width));
      slot.query_scales[part][query] =
          kernels_.round_row(reinterpret_cast<int8_t*>(slot.queries[part]) + query * width, mixed,
                             static_cast<size_t>(width));
    } else {
      std::copy_n(x, width, slot.queries[part] + query * width);
    }
  };
  for (int64_t i = 0; i < item.rows * item.heads; ++i) {
    const int64_t row = item.row + i / item.heads, head = item.head + i % item.heads;
    const float* query = args.queries.floats() + (row * heads + head) * head_dim;
    if (kv.turned == 0) {
      put(0, i, query, head_dim);
      continue;
    }
    // A key's column that does not turn is value * key_norm; those that turn have a part of their
    // own.
    float folded[kMaxHeadDim], turned[kMaxHeadDim];
    for (int64_t d = 0; d < head_dim; ++d) {
      const bool is_still = d % (head_dim / 2) >= kv.turned / 2;
      folded[d] = is_still ? query[d] * args.key_norm.floats()[d] : 0.0f;
    }
    gather_turned(turned, query, kv);
    put(0, i, folded, head_dim);
    put(1, i, turned, kv.turned);
  }
}

// One item, into its slot.
void CpuOps::attend(const AttentionArgs& args, const AttentionItem& item,
                    float* memory) const noexcept {
  const KvLayer& kv = args.kv;
  const int64_t heads = args.queries.shape[1], head_dim = kv.head_dim;
  const int64_t count = item.rows * item.heads;
  const Slot slot(memory, count, kv);
  take_queries(args, item, memory);
  std::fill_n(slot.attended, count * head_dim, 0.0f);
  std::fill_n(slot.states, count, kFresh);

  const auto row = static_cast<size_t>(item.row);
  const PageTable& table = args.places.tables[static_cast<size_t>(args.places.sequences[row])];
  const bool is_int8 = kv.dtype == Dtype::kI8;
  const auto attend_block = is_int8                    ? kernels_.attend_int8
                            : kv.dtype == Dtype::kBf16 ? kernels_.attend_bf16
                                                       : kernels_.attend_f32;
  const int64_t first_key_row = item.head * kv.kv_heads / heads * kBlock;
  const Keys all = keys_seen(args, item);
  const int64_t begin = std::max(all.first, item.partition * kPartition);
  const int64_t end = std::min(all.last, (item.partition + 1) * kPartition);
  for (int64_t block = begin / kBlock * kBlock; block < end; block += kBlock) {
    // Positions ascend, so the queries that see some of a block stand side by side.
    KeyRange visible[kMaxQueries];
    size_t seeing = 0;
    int64_t query = 0;
    for (int64_t i = 0; i < count; ++i) {
      const Keys seen = keys_seen(args, item.row + i / item.heads, block, block + kBlock);
      if (seen.first >= seen.last) continue;
      if (seeing == 0) query = i;
      visible[seeing++] = {static_cast<size_t>(seen.first - block),
                           static_cast<size_t>(seen.last - block)};
    }
    if (seeing == 0) continue;
    const std::byte* page = kv.pages + table.page_of(block) * kv.page_bytes;
    const auto rows_of = [&](const KvLayer::Part& part) {
      return page + part.offset + first_key_row * part.width * byte_size(kv.dtype);
    };
    const auto scales_of = [&](const KvLayer::Part& part) {
      const auto* scales = reinterpret_cast<const float*>(page + part.scale_offset);
      return is_int8 ? scales + first_key_row : nullptr;
    };
    AttentionBlock keys{.terms = {},
                        .term_count = kv.turned > 0 ? size_t{2} : size_t{1},
                        .visible = visible,
                        .count = seeing,
                        .values = rows_of(kv.values()),
                        .value_scales = scales_of(kv.values()),
                        .head_dim = static_cast<size_t>(head_dim),
                        .scale = args.scale};
    for (size_t i = 0; i < keys.term_count; ++i) {
      const KvLayer::Part& part = kv.parts[i];
      const auto* queries = reinterpret_cast<const std::byte*>(slot.queries[i]);
      const int64_t query_bytes = byte_size(is_int8 ? Dtype::kI8 : Dtype::kF32);
      keys.terms[i] = {.queries = queries + query * part.width * query_bytes,
                       .keys = rows_of(part),
                       .query_scales = slot.query_scales[i] + query,
                       .key_scales = scales_of(part),
                       .size = static_cast<size_t>(part.width)};
    }
    attend_block(slot.states + query, slot.attended + query * head_dim, &keys);
  }
}

// Results of one query of consecutive partitions, `run`, into those of all before.
void CpuOps::merge(const AttentionArgs& args, std::span<const AttentionItem> run, float* memory,
                   int64_t slot_floats, int64_t query, SoftmaxState* totals) const noexcept {
  const AttentionItem& item = run.front();
  const int64_t head_dim = args.kv.head_dim, row = item.row + query / item.heads;
  const int64_t index = row * args.queries.shape[1] + item.head + query % item.heads;
  const auto n = static_cast<size_t>(head_dim);
  float* total = args.out.floats() + index * head_dim;
  const Keys all = keys_seen(args, item);
  if (item.partition == all.first / kPartition) {
    std::fill_n(total, n, 0.0f);
    totals[index] = kFresh;
  }
  for (size_t i = 0; i < run.size(); ++i) {
    const int64_t begin = run[i].partition * kPartition;
    const Keys seen = keys_seen(args, row, begin, begin + kPartition);
    if (seen.first >= seen.last) continue;
    const Slot slot(memory + static_cast<int64_t>(i) * slot_floats, item.rows * item.heads,
                    args.kv);
    kernels_.merge_attention(&totals[index], total, slot.states + query,
                             slot.attended + query * head_dim, n);
  }
  if (run.back().partition == (all.last - 1) / kPartition) {
    kernels_.scale(total, total, 1.0f / totals[index].sum, n);
    if (args.kv.dtype == Dtype::kI8 && args.kv.turned > 0) {
      // The values are mixed, since they are keys too.
      mix(total, head_dim);
      kernels_.scale(total, total, 1.0f / static_cast<float>(mixed_columns(head_dim)), n);
    }
  }
}

// All of items_, then their results.
void CpuOps::run_items(const AttentionArgs& args, float* memory, int64_t slot_floats,
                       SoftmaxState* totals) {
  const int64_t items = std::ssize(items_), head_dim = args.kv.head_dim;
  int64_t queries = 0, operations = 0;
  for (const AttentionItem& item : items_) {
    const int64_t count = item.rows * item.heads;
    queries = std::max(queries, count);
    const Keys all = keys_seen(args, item);
    const int64_t begin = item.partition * kPartition;
    operations += 2 * count * head_dim *
                  (std::min(all.last, begin + kPartition) - std::max(all.first, begin));
  }
  const int64_t threads =
      operations < kOperationsWorthABarrier ? 1 : std::min<int64_t>(threads_, items);
  // In turn, since neighbours cost alike: early rows of a prompt see less than late ones.
  auto share = [&](RowRange range) noexcept {
    for (int64_t thread = range.begin; thread < range.end; ++thread) {
      for (int64_t i = thread; i < items; i += threads) {
        attend(args, items_[static_cast<size_t>(i)], memory + i * slot_floats);
      }
    }
  };
  pool_.parallel_for(static_cast<int>(threads), threads, 1, share);

  // By run of one item's partitions and query of it.
  runs_.clear();
  for (int64_t i = 0; i < items; ++i) {
    const AttentionItem& item = items_[static_cast<size_t>(i)];
    if (i == 0 || !item.is_next_of(items_[static_cast<size_t>(i - 1)])) runs_.push_back(i);
  }
  runs_.push_back(items);
  for_rows((std::ssize(runs_) - 1) * queries, 1, 2 * head_dim * items / (std::ssize(runs_) - 1),
           [&](RowRange range) noexcept {
             for (int64_t i = range.begin; i < range.end; ++i) {
               const auto run = static_cast<size_t>(i / queries);
               const auto first = static_cast<size_t>(runs_[run]);
               const auto last = static_cast<size_t>(runs_[run + 1]);
               const int64_t count = items_[first].rows * items_[first].heads;
               if (i % queries >= count) continue;
               merge(args, std::span(items_).subspan(first, last - first),
                     memory + runs_[run] * slot_floats, slot_floats, i % queries, totals);
             }
           });
  items_.clear();
}

void CpuOps::compute_attention(const AttentionArgs& args) {
  const int64_t tokens = args.queries.shape[0], heads = args.queries.shape[1];
  const int64_t sharing = heads / args.kv.kv_heads;  // heads of one kv head
  const int64_t most_heads = std::min(sharing, kMost);
  const int64_t most_rows = std::min(std::max<int64_t>(1, tokens), kMost / most_heads);
  auto* totals = reinterpret_cast<SoftmaxState*>(args.scratch.floats());
  float* memory = args.scratch.floats() + 2 * tokens * heads;
  const int64_t slot_floats =
      attention_slot(most_rows * most_heads, args.kv.head_dim, args.kv.turned);
  const int64_t room = args.scratch.shape.elements() - 2 * tokens * heads;
  const int64_t most_items = std::min(kMostItems, room / slot_floats);

  const auto& [sequences, positions, tables] = args.places;
  for (int64_t row = 0, rows = 0; row < tokens; row += rows) {
    for (rows = 1; rows < most_rows && row + rows < tokens; ++rows) {
      const auto next = static_cast<size_t>(row + rows);
      if (sequences[next] != sequences[next - 1] || positions[next] <= positions[next - 1]) break;
    }
    for (int64_t head = 0, count = 0; head < heads; head += count) {
      count = std::min(most_heads, sharing - head % sharing);
      AttentionItem item{.row = row, .rows = rows, .head = head, .heads = count, .partition = 0};
      const Keys all = keys_seen(args, item);
      item.partition = all.first / kPartition;
      for (; item.partition * kPartition < all.last; ++item.partition) {
        items_.push_back(item);
        if (std::ssize(items_) == most_items) run_items(args, memory, slot_floats, totals);
      }
    }
  }
  if (!items_.empty()) run_items(args, memory, slot_floats, totals);
}

}  // namespace cabochon::cpu
