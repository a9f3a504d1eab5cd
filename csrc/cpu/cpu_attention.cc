// Keys and values into pages, and attention over them.
#include <algorithm>
#include <limits>

#include "cpu/cpu_ops.h"

namespace cabochon::cpu {
namespace {

constexpr int64_t kPartition = 512;  // keys whose softmax runs alone before it is merged
constexpr int64_t kBlock = static_cast<int64_t>(kKeyBlock);
static_assert(kBlock == 64, "a page holds one block of keys");

// Bytes of one kv head in a page.
int64_t head_bytes(const KvLayer& kv) { return kBlock * kv.head_dim * byte_size(kv.dtype); }

}  // namespace

void CpuOps::compute_store_kv(const StoreKvArgs& args) {
  const KvLayer& kv = args.kv;
  const int64_t row_size = kv.head_dim * byte_size(kv.dtype);
  const auto n = static_cast<size_t>(kv.head_dim);
  const auto store = [&](std::byte* out, const float* x) noexcept {
    if (kv.dtype == Dtype::kBf16) {
      kernels_.narrow_bf16(reinterpret_cast<uint16_t*>(out), x, n);
    } else {
      std::copy_n(x, n, reinterpret_cast<float*>(out));
    }
  };
  for_rows(args.keys.shape[0], 1, 2 * kv.kv_heads * kv.head_dim, [&](RowRange range) noexcept {
    for (int64_t t = range.begin; t < range.end; ++t) {
      const auto row = static_cast<size_t>(t);
      const int64_t position = args.places.positions[row];
      const PageTable& table = args.places.tables[static_cast<size_t>(args.places.sequences[row])];
      std::byte* page = kv.pages + table.page_of(position) * kv.page_bytes;
      for (int64_t head = 0; head < kv.kv_heads; ++head) {
        const int64_t inside = head * head_bytes(kv) + position % kBlock * row_size;
        const int64_t from = (t * kv.kv_heads + head) * kv.head_dim;
        store(page + kv.key_offset + inside, args.keys.floats() + from);
        store(page + kv.value_offset + inside, args.values.floats() + from);
      }
    }
  });
}

void CpuOps::attend(const AttentionArgs& args, int64_t token, int64_t head) const noexcept {
  const KvLayer& kv = args.kv;
  const auto row = static_cast<size_t>(token);
  const int64_t heads = args.queries.shape[1], head_dim = kv.head_dim;
  const auto n = static_cast<size_t>(head_dim);
  const int64_t kv_head = head * kv.kv_heads / heads;
  const int64_t position = args.places.positions[row];
  const int64_t first = args.window == 0 ? 0 : std::max<int64_t>(0, position + 1 - args.window);
  const PageTable& table = args.places.tables[static_cast<size_t>(args.places.sequences[row])];
  const auto attend_block = kv.dtype == Dtype::kBf16 ? kernels_.attend_bf16 : kernels_.attend_f32;

  const SoftmaxState fresh{-std::numeric_limits<float>::infinity(), 0.0f};
  float* total = args.out.floats() + (token * heads + head) * head_dim;
  std::fill_n(total, n, 0.0f);
  SoftmaxState total_state = fresh;
  // Partitions are cut at absolute positions, so the merge order is that of the positions.
  for (int64_t begin = first; begin <= position; begin = (begin / kPartition + 1) * kPartition) {
    const int64_t end = std::min(position + 1, (begin / kPartition + 1) * kPartition);
    SoftmaxState state = fresh;
    float part[kMaxHeadDim];
    std::fill_n(part, n, 0.0f);
    for (int64_t block = begin / kBlock; block * kBlock < end; ++block) {
      const std::byte* page = kv.pages + table.page_of(block * kBlock) * kv.page_bytes;
      const std::byte* keys = page + kv.key_offset + kv_head * head_bytes(kv);
      const std::byte* values = page + kv.value_offset + kv_head * head_bytes(kv);
      const AttentionBlock visible{
          .query = args.queries.floats() + (token * heads + head) * head_dim,
          .keys = keys,
          .values = values,
          .head_dim = n,
          .first = static_cast<size_t>(std::max(begin, block * kBlock) - block * kBlock),
          .last = static_cast<size_t>(std::min(end - block * kBlock, kBlock)),
          .scale = args.scale};
      attend_block(&state, part, &visible);
    }
    kernels_.merge_attention(&total_state, total, &state, part, n);
  }
  kernels_.scale(total, total, 1.0f / total_state.sum, n);
}

void CpuOps::compute_attention(const AttentionArgs& args) {
  const int64_t tokens = args.queries.shape[0], heads = args.queries.shape[1];
  int64_t keys = 1;  // the longest history of this step, to judge the work
  for (const int64_t position : args.places.positions) keys = std::max(keys, position + 1);
  if (args.window > 0) keys = std::min(keys, args.window);
  for_rows(tokens * heads, 1, 2 * keys * args.kv.head_dim, [&](RowRange range) noexcept {
    for (int64_t item = range.begin; item < range.end; ++item) {
      attend(args, item / heads, item % heads);
    }
  });
}

}  // namespace cabochon::cpu
