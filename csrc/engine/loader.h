// Checkpoint + plan -> weights.
#pragma once

#include <functional>
#include <memory>

#include "base/buffer.h"
#include "engine/calibrate.h"
#include "engine/memory_plan.h"
#include "model/tensors.h"
#include "weights/checkpoint.h"
#include "weights/packed_file.h"

namespace cabochon {

// The rows that are looked up for each token, where they are.
struct PerLayerTable {
  const TensorEntry* entry = nullptr;  // null: the model has none
  RowLayout layout;
  const std::byte* rows = nullptr;   // in memory, or null:
  const MappedFile* file = nullptr;  // in the checkpoint as stored, or rounded in a packed file
  int64_t begin = 0;                 // of the file: where rows begin
};

// What earlier loads left.
struct PackedFiles {
  const PackedFile* weights = nullptr;  // the arena; null: it is computed
  // Rows of a per-layer table that is rounded and on disk, and null for any other. They are not
  // looked at here: whoever opened the file has verified it.
  std::shared_ptr<const PackedFile> table;
};

// What is done with the blocks of a matrix that were never int4.
struct BlockRules {
  bool is_lattice_required = false;  // they are an error: rounding was not asked for
  ScaleSearch scales;
};

// Weights of a model: matrices point into the checkpoint's mapping; vectors, packed matrices and
// what had to be converted stand in an arena of its own. Neither copied nor moved: bound tensors
// point into it.
class LoadedWeights {
 public:
  // An arena that is read from a file has the same bytes as a computed one, since what stands where
  // depends on checkpoint, plan and formats alone. `search` and `moments` serve classes whose int4
  // scales are searched for. progress(done, total) counts bytes; what it throws ends the load.
  // Files must outlive the weights. Throws CheckpointError; InvalidArgument where a table is to be
  // read from a file that is not given.
  LoadedWeights(std::shared_ptr<const Checkpoint> checkpoint, const ModelPlan& plan,
                const WeightFormats& formats, int threads, const PackedFiles& packed,
                SearchInt4 search, const Moments& moments,
                const std::function<void(int64_t, int64_t)>& progress);
  LoadedWeights(const LoadedWeights&) = delete;
  LoadedWeights& operator=(const LoadedWeights&) = delete;

  const ModelWeights& weights() const { return weights_; }
  const PerLayerTable& per_layer_table() const { return per_layer_table_; }
  // Anonymous: the arena, and a per-layer table as stored that is kept in memory beside it.
  int64_t bytes() const { return arena_.bytes() + table_.bytes(); }
  std::span<const std::byte> arena() const { return arena_.contents(); }
  int64_t mapped_bytes() const { return mapped_bytes_; }
  const Int4Blocks& int4_blocks() const { return *blocks_; }
  bool is_any_packed() const { return is_any_packed_; }

 private:
  void load_table(const BoundTensor& bound, const WeightFormats& formats, const PackedFile* packed,
                  int threads);
  void load_vector(const BoundTensor& bound, float norm_offset);
  void load_matrix(const BoundTensor& bound, const WeightFormats& formats, int threads);
  void pack_matrix(const BoundTensor& bound, const Format& format, const BlockRules& rules,
                   int threads);

  std::shared_ptr<const Checkpoint> checkpoint_;
  ModelWeights weights_;
  Arena arena_;
  Int4Blocks* blocks_ = nullptr;  // in the arena, first
  bool is_any_packed_ = false;
  SearchInt4 search_;
  const Moments& moments_;   // read during construction alone
  bool is_computed_ = true;  // false: the arena comes from a packed file
  PerLayerTable per_layer_table_;
  Buffer table_;
  int64_t mapped_bytes_ = 0;
};

// Rounds the per-layer table of a model, in the format asked for, to a new packed file: that of
// PackedFiles::table. As write_rows; CheckpointError where the checkpoint changed meanwhile, and
// InvalidArgument where there is no table that is rounded: the file is then worth nothing.
void write_table(const Checkpoint& checkpoint, const ModelPlan& plan, const WeightFormats& formats,
                 const NewPackedFile& file, int threads,
                 const std::function<void(int64_t, int64_t)>& progress);

}  // namespace cabochon
