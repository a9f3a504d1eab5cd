#include "engine/memory_plan.h"

#include <algorithm>

#include "engine/kv_cache.h"
#include "model/scratch.h"
#include "weights/row_source.h"

namespace cabochon {

bool is_used_as_stored(const Checkpoint& checkpoint, const TensorEntry& entry) {
  const Tensor view = checkpoint.view(entry);
  const auto address = reinterpret_cast<uintptr_t>(view.data);
  return view.dtype != Dtype::kF16 && address % static_cast<uintptr_t>(byte_size(view.dtype)) == 0;
}

int64_t copied_bytes(const Checkpoint& checkpoint, const BoundTensor& bound) {
  if (bound.tensor_class == TensorClass::kPerLayerTable) return 0;
  const int64_t elements = bound.shape.elements();
  if (bound.vector != nullptr) return Arena::padded_bytes(Dtype::kF32, elements);
  if (is_used_as_stored(checkpoint, *bound.entry)) return 0;
  const Dtype dtype = checkpoint.view(*bound.entry).dtype;
  return Arena::padded_bytes(dtype == Dtype::kF16 ? Dtype::kF32 : dtype, elements);
}

MemoryPlan make_memory_plan(const Checkpoint& checkpoint, const ModelPlan& plan, Dtype kv,
                            int64_t context, int64_t max_rows) {
  check_plan(plan);
  ModelWeights weights;
  MemoryPlan out;
  Dtype stored = Dtype::kF32;
  for (const BoundTensor& bound : bind_tensors(checkpoint, plan, weights)) {
    const int64_t copied = copied_bytes(checkpoint, bound);
    const Dtype dtype = checkpoint.view(*bound.entry).dtype;
    const bool is_table = bound.tensor_class == TensorClass::kPerLayerTable;
    const int64_t bytes = copied > 0 ? copied : bound.entry->end - bound.entry->begin;
    const std::string place = is_table ? "disk" : copied > 0 ? "anonymous" : "mapped";
    const bool is_widened = bound.vector != nullptr || (dtype == Dtype::kF16 && !is_table);
    const std::string format = is_widened              ? "f32"
                               : dtype == Dtype::kBf16 ? "bf16"
                               : dtype == Dtype::kF16  ? "f16"
                                                       : "f32";
    if (is_table) stored = RowSource::handed_out(dtype);
    (is_table ? out.disk_bytes : copied > 0 ? out.weight_bytes : out.mapped_bytes) += bytes;
    const std::string name = name_of(bound.tensor_class);
    auto row = std::find_if(out.rows.begin(), out.rows.end(), [&](const MemoryRow& r) {
      return r.tensor_class == name && r.format == format && r.place == place;
    });
    if (row == out.rows.end()) {
      out.rows.push_back({.tensor_class = name, .format = format, .place = place});
      row = out.rows.end() - 1;
    }
    row->parameters += bound.shape.elements();
    row->bytes += bytes;
  }

  const KvSizes sizes = kv_sizes(plan, kv);
  out.global_pages_per_sequence = (context + kPagePositions - 1) / kPagePositions;
  out.sliding_pages_per_sequence =
      std::min(sizes.ring_pages(max_rows), std::max<int64_t>(1, out.global_pages_per_sequence));
  if (sizes.longest_window == 0) out.sliding_pages_per_sequence = 0;
  out.kv_bytes_per_token = sizes.global_page_bytes / kPagePositions;
  out.kv_bytes_per_sequence = out.global_pages_per_sequence * sizes.global_page_bytes +
                              out.sliding_pages_per_sequence * sizes.sliding_page_bytes;
  out.scratch_bytes = Scratch::bytes(plan, max_rows, stored) +
                      Arena::padded_bytes(Dtype::kF32, kHeadRows * plan.vocab);
  return out;
}

}  // namespace cabochon
