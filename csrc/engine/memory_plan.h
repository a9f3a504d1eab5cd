// What an engine takes, in bytes, before anything is loaded; the allocators ask the same code.
#pragma once

#include <algorithm>
#include <array>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "model/plan.h"
#include "model/tensors.h"
#include "weights/checkpoint.h"
#include "weights/row_table.h"

namespace cabochon {

struct MemoryRow {
  std::string tensor_class, format, place;  // place: "mapped", "anonymous", "disk"
  int64_t parameters = 0, bytes = 0;
};

struct MemoryPlan {
  std::vector<MemoryRow> rows;  // weights by class, format and place
  int64_t weight_bytes = 0;     // anonymous: vectors, packed matrices, those not usable as stored
  int64_t packed_bytes = 0;     // of those, what a packed file holds: not a table kept as stored
  int64_t mapped_bytes = 0;     // matrices used where they are: read for every token
  int64_t disk_bytes = 0;       // looked up or read by row: a per-layer table in its file, an
                                // embedding whose head is packed
  int64_t table_bytes = 0;      // of those, rounded rows, which have a packed file of their own
  int64_t kv_bytes_per_token = 0, kv_bytes_per_sequence = 0;
  int64_t scratch_bytes = 0;
  int64_t global_pages_per_sequence = 0, sliding_pages_per_sequence = 0;
};

// How the scales of int4 are chosen (docs/formats.md): the plain rule, a search for the least
// squared error, or the same with each column weighed by what the matrix multiplies it with.
enum class Int4Scales { kAbsmax, kSearched, kCalibrated };

struct ClassFormat {
  const Format* format = nullptr;  // null: as stored
  Int4Scales scales = Int4Scales::kAbsmax;
};

// What matrices are packed in.
struct WeightFormats {
  std::array<ClassFormat, kTensorClasses> classes{};
  // Names of bf16 tensors that are on a lattice of int4, and so of int4 whatever their class says
  // (engine/find_lattices.h).
  std::set<std::string, std::less<>> lattices;
  // Where the per-layer table stands, as stored or rounded.
  bool is_table_in_memory = false;

  const Format* format_of(TensorClass c) const { return classes[static_cast<size_t>(c)].format; }
  Int4Scales scales_of(TensorClass c) const { return classes[static_cast<size_t>(c)].scales; }
};

// True for a matrix that is computed where it lies: bf16 or float32, aligned to its element.
bool is_used_as_stored(const Checkpoint& checkpoint, const TensorEntry& entry);

// The integer format that a matrix is packed in, or null where it keeps what it is stored in: no
// format asked for its class, or columns that are no multiple of 32. Stored codes stay int4.
const Format* packed_format(const BoundTensor& bound, const WeightFormats& formats);

// Whether a matrix must be on its lattice in every block: rounding to int4 was not asked for.
bool is_lattice_required(const BoundTensor& bound, const WeightFormats& formats);

// How the blocks of int4 of a model came about; kept in the weights' arena, so that a packed file
// has them too.
struct Int4Blocks {
  int64_t exact = 0;          // codes and scales of the checkpoint
  int64_t nearest_scale = 0;  // its codes; its scale is no bf16 number and was rounded to one
  int64_t rounded = 0;        // made from numbers that were never int4
};

// Bytes that all bound tensors take in the weights' arena, the counts of blocks included.
int64_t arena_bytes(const Checkpoint& checkpoint, const std::vector<BoundTensor>& all,
                    const WeightFormats& formats);

// How rows of the per-layer table are kept: rounded where its format asks for it and its columns
// are a multiple of 32.
RowLayout table_layout(const Checkpoint& checkpoint, const BoundTensor& bound,
                       const WeightFormats& formats);

// Bytes that a bound tensor takes in the weights' arena; 0 for one used as stored or read by row,
// and for a head that is the embedding itself.
int64_t arena_bytes(const Checkpoint& checkpoint, const BoundTensor& bound,
                    const WeightFormats& formats);

// Throws InvalidArgument where a size could not be computed with: max_rows is 1 to 65,536, context
// and page counts below 2^31, threads 1 to 1,024.
void check_sizes(int64_t max_rows, int64_t context, int64_t global_pages, int64_t sliding_pages,
                 int threads);

// Rows of logits that exist at once: 8 tiles of 6 tokens read the head's weights together, in
// memory that the layers mostly need anyway.
inline constexpr int64_t kHeadRows = 48;

// The head's results, and what it needs besides.
int64_t head_bytes(int64_t vocab);

// Rows are finished by as many threads at most, each with a sampler.
inline int sampler_count(int threads) { return std::min(threads, 16); }
int64_t samplers_bytes(int64_t vocab, int threads);

// Activations, logits, what samplers and gated_matmul work in and, where any matrix is packed,
// rounded rows of a step; `table` is the type of the per-layer rows.
int64_t step_bytes(const ModelPlan& plan, bool is_any_packed, int64_t max_rows, Dtype table,
                   int threads);

MemoryPlan make_memory_plan(const Checkpoint& checkpoint, const ModelPlan& plan,
                            const WeightFormats& formats, Dtype kv, int64_t context,
                            int64_t max_rows, int threads);

}  // namespace cabochon
