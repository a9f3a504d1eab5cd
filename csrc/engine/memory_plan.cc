#include "engine/memory_plan.h"

#include <algorithm>

#include "engine/kv_cache.h"
#include "engine/sampler.h"
#include "model/scratch.h"
#include "ops/args.h"
#include "weights/pack.h"

namespace cabochon {

bool is_used_as_stored(const Checkpoint& checkpoint, const TensorEntry& entry) {
  // A mapping begins at a page, so the place in the file tells the alignment of the address.
  const Dtype dtype = checkpoint.view(entry).dtype;
  return dtype != Dtype::kF16 && entry.begin % byte_size(dtype) == 0;
}

const Format* packed_format(const BoundTensor& bound, const WeightFormats& formats) {
  if (bound.has_codes()) return &kInt4Format;
  if (bound.matrix == nullptr || bound.shape.back() % 32 != 0) return nullptr;
  const bool is_on_lattice =
      facts_of(bound.tensor_class).may_hold_codes && formats.lattices.contains(bound.entry->name);
  return is_on_lattice ? &kInt4Format : formats.format_of(bound.tensor_class);
}

bool is_lattice_required(const BoundTensor& bound, const WeightFormats& formats) {
  return formats.lattices.contains(bound.entry->name) &&
         formats.format_of(bound.tensor_class) != &kInt4Format;
}

RowLayout table_layout(const Checkpoint& checkpoint, const BoundTensor& bound,
                       const WeightFormats& formats) {
  const int64_t columns = bound.shape.back();
  const Format* format = formats.format_of(TensorClass::kPerLayerTable);
  return {.stored = checkpoint.view(*bound.entry).dtype,
          .format = columns % 32 == 0 ? format : nullptr,
          .columns = columns};
}

int64_t arena_bytes(const Checkpoint& checkpoint, const BoundTensor& bound,
                    const WeightFormats& formats) {
  if (bound.tensor_class == TensorClass::kPerLayerTable) {
    const RowLayout layout = table_layout(checkpoint, bound, formats);
    if (layout.format == nullptr || !formats.is_table_in_memory) return 0;
    return Arena::padded_bytes(Dtype::kU8, bound.shape[0] * layout.row_bytes());
  }
  if (bound.vector != nullptr) return Arena::padded_bytes(Dtype::kF32, bound.shape.elements());
  const int64_t count = bound.shape.rank() == 3 ? bound.shape[0] : 1;
  if (const Format* format = packed_format(bound, formats)) {
    const int64_t one = packed_bytes(*format, bound.rows, bound.shape.back());
    return Arena::padded_bytes(Dtype::kU8, count * one);
  }
  if (bound.tensor_class == TensorClass::kHead) return 0;
  if (is_used_as_stored(checkpoint, *bound.entry)) return 0;
  const Dtype dtype = checkpoint.view(*bound.entry).dtype;
  return Arena::padded_bytes(dtype == Dtype::kF16 ? Dtype::kF32 : dtype,
                             count * bound.rows * bound.shape.back());
}

int64_t arena_bytes(const Checkpoint& checkpoint, const std::vector<BoundTensor>& all,
                    const WeightFormats& formats) {
  int64_t bytes = Arena::padded_bytes(Dtype::kU8, sizeof(Int4Blocks));
  for (const BoundTensor& bound : all) bytes += arena_bytes(checkpoint, bound, formats);
  return bytes;
}

namespace {

// What the tensor is computed as.
std::string format_name(Dtype stored, const BoundTensor& bound, const Format* packed) {
  if (packed != nullptr) return std::string(packed->name);
  if (stored == Dtype::kBf16 && bound.vector == nullptr) return "bf16";
  const bool is_table = bound.tensor_class == TensorClass::kPerLayerTable;
  return stored == Dtype::kF16 && is_table ? "f16" : "f32";
}

void add_row(MemoryPlan& plan, const MemoryRow& row) {
  const auto same = [&](const MemoryRow& other) {
    return other.tensor_class == row.tensor_class && other.format == row.format &&
           other.place == row.place;
  };
  const auto found = std::find_if(plan.rows.begin(), plan.rows.end(), same);
  if (found == plan.rows.end()) {
    plan.rows.push_back(row);
  } else {
    found->parameters += row.parameters;
    found->bytes += row.bytes;
  }
}

}  // namespace

void check_sizes(int64_t max_rows, int64_t context, int64_t global_pages, int64_t sliding_pages,
                 int threads) {
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  const auto require = [](const char* name, int64_t value, int64_t least, int64_t most) {
    if (value < least || value > most) {
      throw InvalidArgument(text(name, " is ", value, ", expected ", least, " to ", most));
    }
  };
  require("max_rows", max_rows, 1, 1 << 16);
  require("context", context, 1, kMost);
  require("global_pages", global_pages, 0, kMost);
  require("sliding_pages", sliding_pages, 0, kMost);
  require("threads", threads, 1, 1024);
}

int64_t head_bytes(int64_t vocab) {
  const auto rows_of = [](int64_t columns) {
    return Arena::padded_bytes(Dtype::kF32, kHeadRows * columns);
  };
  return rows_of(vocab) + rows_of((vocab + kLogitBlock - 1) / kLogitBlock) +
         rows_of((vocab + kLogitChunk - 1) / kLogitChunk);
}

int64_t samplers_bytes(int64_t vocab, int threads) {
  return sampler_count(threads) * Sampler::bytes(vocab);
}

int64_t step_bytes(const ModelPlan& plan, bool is_any_packed, int64_t max_rows, Dtype table,
                   int threads) {
  const int64_t rounded = is_any_packed ? rounded_bytes(max_rows, plan.widest_input()) : 0;
  const int64_t gated = gated_scratch(max_rows, plan.widest_ffn(), threads);
  return Scratch::bytes(plan, max_rows, table, head_bytes(plan.vocab)) +
         samplers_bytes(plan.vocab, threads) + rounded + gated * byte_size(Dtype::kF32);
}

MemoryPlan make_memory_plan(const Checkpoint& checkpoint, const ModelPlan& plan,
                            const WeightFormats& formats, Dtype kv, int64_t context,
                            int64_t max_rows, int threads) {
  check_plan(plan);
  check_sizes(max_rows, context, 0, 0, threads);
  ModelWeights weights;
  MemoryPlan out;
  out.weight_bytes = Arena::padded_bytes(Dtype::kU8, sizeof(Int4Blocks));
  Dtype table = Dtype::kF32;
  bool is_any_packed = false;
  const std::vector<BoundTensor> all = bind_tensors(checkpoint, plan, weights);
  const bool is_head_packed = std::any_of(all.begin(), all.end(), [&](const BoundTensor& bound) {
    return bound.tensor_class == TensorClass::kHead && packed_format(bound, formats) != nullptr;
  });
  for (const BoundTensor& bound : all) {
    const Format* packed = packed_format(bound, formats);
    is_any_packed |= packed != nullptr;
    const bool is_embedding = bound.tensor_class == TensorClass::kEmbedding;
    const bool is_table = bound.tensor_class == TensorClass::kPerLayerTable;
    if (bound.tensor_class == TensorClass::kHead && packed == nullptr) continue;  // the embedding
    int64_t taken = arena_bytes(checkpoint, bound, formats);
    out.packed_bytes += taken;
    const Dtype stored = checkpoint.view(*bound.entry).dtype;
    int64_t file_bytes = 0;  // where it is read from a file
    if (is_table) {
      const RowLayout layout = table_layout(checkpoint, bound, formats);
      table = layout.decoded();
      packed = layout.format;
      file_bytes = bound.shape[0] * layout.row_bytes();
      if (formats.is_table_in_memory) {
        taken = std::max(taken, file_bytes);
      } else if (packed != nullptr) {
        out.table_bytes = file_bytes;
      }
    }
    const int64_t count = bound.shape.rank() == 3 ? bound.shape[0] : 1;
    const int64_t parameters =
        bound.matrix != nullptr ? count * bound.rows * bound.shape.back() : bound.shape.elements();
    if (!is_table) file_bytes = parameters * byte_size(stored);
    const bool is_by_row = is_table || (is_embedding && is_head_packed && taken == 0);
    MemoryRow row{.tensor_class = name_of(bound.tensor_class),
                  .format = format_name(stored, bound, packed),
                  .place = taken > 0   ? "anonymous"
                           : is_by_row ? "disk"
                                       : "mapped",
                  .parameters = parameters,
                  .bytes = taken > 0 ? taken : file_bytes};
    if (is_embedding && !is_head_packed) row.tensor_class = "embedding and head";
    (taken > 0 ? out.weight_bytes : is_by_row ? out.disk_bytes : out.mapped_bytes) += row.bytes;
    add_row(out, row);
  }

  const KvSizes sizes = kv_sizes(plan, kv);
  out.global_pages_per_sequence = (context + kPagePositions - 1) / kPagePositions;
  out.sliding_pages_per_sequence =
      std::min(sizes.ring_pages(max_rows), std::max<int64_t>(1, out.global_pages_per_sequence));
  if (sizes.longest_window == 0) out.sliding_pages_per_sequence = 0;
  out.kv_bytes_per_token = sizes.global_page_bytes / kPagePositions;
  out.kv_bytes_per_sequence = out.global_pages_per_sequence * sizes.global_page_bytes +
                              out.sliding_pages_per_sequence * sizes.sliding_page_bytes;
  out.scratch_bytes = step_bytes(plan, is_any_packed, max_rows, table, threads);
  return out;
}

}  // namespace cabochon
