// What an engine takes, in bytes, before anything is loaded; the allocators ask the same code.
#pragma once

#include <string>
#include <vector>

#include "model/plan.h"
#include "model/tensors.h"
#include "weights/checkpoint.h"

namespace cabochon {

struct MemoryRow {
  std::string tensor_class, format, place;  // place: "mapped", "anonymous", "disk"
  int64_t parameters = 0, bytes = 0;
};

struct MemoryPlan {
  std::vector<MemoryRow> rows;  // weights by class, format and place
  int64_t weight_bytes = 0;     // anonymous: vectors, and matrices that cannot be used as stored
  int64_t mapped_bytes = 0;     // matrices used where they are: read for every token
  int64_t disk_bytes = 0;       // the per-layer table: read by row
  int64_t kv_bytes_per_token = 0, kv_bytes_per_sequence = 0;
  int64_t scratch_bytes = 0;
  int64_t global_pages_per_sequence = 0, sliding_pages_per_sequence = 0;
};

// True for a matrix that is computed where it lies: bf16 or float32, aligned to its element.
bool is_used_as_stored(const Checkpoint& checkpoint, const TensorEntry& entry);

// Bytes that a bound tensor takes in the weights' arena; 0 for one used as stored or read by row.
int64_t copied_bytes(const Checkpoint& checkpoint, const BoundTensor& bound);

// Rows of logits that exist at once.
inline constexpr int64_t kHeadRows = 16;

MemoryPlan make_memory_plan(const Checkpoint& checkpoint, const ModelPlan& plan, Dtype kv,
                            int64_t context, int64_t max_rows);

}  // namespace cabochon
