#include "engine/loader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/bf16.h"
#include "base/thread_pool.h"
#include "weights/lattice.h"
#include "weights/pack.h"
#include "weights/quantize.h"

namespace cabochon {
namespace {

// Element i of stored bytes, which need not be aligned, as float32.
float element(const std::byte* bytes, Dtype dtype, int64_t i) {
  if (dtype == Dtype::kF32) {
    float value;
    std::memcpy(&value, bytes + 4 * i, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, bytes + 2 * i, sizeof(bits));
  return dtype == Dtype::kBf16 ? bf16_to_float(bits) : f16_to_float(bits);
}

// Elements [first, first + count) of a tensor, through pread, so that a file cut meanwhile is an
// error and no crash.
void read_as_float(const Checkpoint& checkpoint, const TensorEntry& entry, int64_t first,
                   int64_t count, float* out) {
  const Dtype dtype = checkpoint.view(entry).dtype;
  const int64_t size = byte_size(dtype);
  constexpr int64_t kPiece = 1 << 18;
  std::vector<std::byte> piece(static_cast<size_t>(std::min(kPiece, count) * size));
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    const int64_t here = std::min(kPiece, count - begin);
    checkpoint.read(entry, (first + begin) * size,
                    {piece.data(), static_cast<size_t>(here * size)});
    for (int64_t i = 0; i < here; ++i) out[begin + i] = element(piece.data(), dtype, i);
  }
}

// A NaN in a norm or a scale would poison every token: found here, where it has a name.
void require_finite(const Checkpoint& checkpoint, const BoundTensor& bound, const Tensor& vector) {
  for (int64_t i = 0; i < vector.shape.elements(); ++i) {
    if (std::isfinite(vector.floats()[i])) continue;
    const std::string& path = checkpoint.file(*bound.entry).path();
    throw CheckpointError(text(path, ": tensor ", bound.entry->name, ": element ", i, " is ",
                               vector.floats()[i], ", expected a finite number"),
                          path, bound.entry->name);
  }
}

void require_shape(const Checkpoint& checkpoint, const BoundTensor& bound) {
  const TensorEntry& entry = *bound.stored_shape;
  int64_t sizes[Shape::kMaxRank] = {};
  const auto rank = static_cast<size_t>(bound.shape.rank());
  checkpoint.read(entry, 0, std::as_writable_bytes(std::span(sizes, rank)));
  const Shape found(std::span<const int64_t>(sizes, rank));
  if (found == bound.shape) return;
  const std::string& path = checkpoint.file(entry).path();
  throw CheckpointError(text(path, ": tensor ", entry.name, ": says ", found, ", expected ",
                             bound.shape, ", the shape of its codes in this model"),
                        path, entry.name);
}

// What became of one panel. A failure is a value: nothing may be thrown on a worker.
struct PanelResult {
  const TensorEntry* entry = nullptr;  // that something is wrong with; null: nothing is
  int error = 0;                       // errno of a read, -1 for a short one
  int64_t element = -1;                // else: which one, and what is wrong with it
  const char* fault = nullptr;
  Int4Blocks blocks = {};  // of int4 alone
};

// Makes the panels of one matrix, each by one thread in buffers of its own.
class PanelMaker {
 public:
  PanelMaker(const Checkpoint& checkpoint, const BoundTensor& bound, const Format& format,
             const BlockRules& rules, int threads)
      : checkpoint_(checkpoint),
        bound_(bound),
        format_(format),
        rules_(rules),
        stored_(checkpoint.view(*bound.entry).dtype),
        cols_(bound.shape.back()),
        buffers_(static_cast<size_t>(threads)) {
    const int64_t values = kPanelRows * cols_;
    for (Buffers& buffers : buffers_) {
      if (bound.has_codes()) {
        buffers.stored.resize(static_cast<size_t>(values / 2));
        buffers.codes.resize(static_cast<size_t>(values));
        buffers.scales.resize(static_cast<size_t>(values / kInt4Format.block));
      } else {
        buffers.stored.resize(static_cast<size_t>(values * byte_size(stored_)));
        buffers.floats.resize(static_cast<size_t>(values));
      }
    }
  }

  // Rows [first, first + rows) of the tensor, counted through a stack.
  PanelResult make(int thread, int64_t first, int64_t rows, std::byte* panel) noexcept {
    Buffers& buffers = buffers_[static_cast<size_t>(thread)];
    return bound_.has_codes() ? keep_codes(buffers, first, rows, panel)
                              : round_numbers(buffers, first, rows, panel);
  }

  // The first failure by index, the same for any number of threads.
  void require_none(const std::vector<PanelResult>& results) const {
    const auto failed = std::find_if(results.begin(), results.end(),
                                     [](const PanelResult& r) { return r.entry != nullptr; });
    if (failed == results.end()) return;
    const TensorEntry& entry = *failed->entry;
    const MappedFile& file = checkpoint_.file(entry);
    if (failed->error != 0) {
      file.require_unchanged();
      throw CheckpointError(
          text(file.path(), ": reading tensor ", entry.name, " failed: ",
               failed->error < 0 ? "the file ends before it" : std::strerror(failed->error)),
          file.path(), entry.name);
    }
    throw CheckpointError(
        text(file.path(), ": tensor ", entry.name, ": element ", failed->element, failed->fault),
        file.path(), entry.name);
  }

 private:
  struct Buffers {
    std::vector<std::byte> stored;
    std::vector<float> floats;
    std::vector<uint8_t> codes;
    std::vector<uint16_t> scales;
  };

  int read(const TensorEntry& entry, int64_t offset, std::span<std::byte> out) const noexcept {
    return checkpoint_.file(entry).try_read(entry.begin + offset, out);
  }

  // What was trained in int4 keeps its codes and scales: they are only put into another order.
  PanelResult keep_codes(Buffers& buffers, int64_t first, int64_t rows, std::byte* panel) noexcept {
    const int64_t blocks = cols_ / kInt4Format.block;
    const auto words = std::span(buffers.stored).first(static_cast<size_t>(rows * cols_ / 2));
    const auto scales = std::span(buffers.scales).first(static_cast<size_t>(rows * blocks));
    if (const int error = read(*bound_.entry, first * cols_ / 2, words)) {
      return {.entry = bound_.entry, .error = error};
    }
    if (const int error =
            read(*bound_.scales, first * blocks * 2, std::as_writable_bytes(scales))) {
      return {.entry = bound_.scales, .error = error};
    }
    const auto bad = std::find_if(scales.begin(), scales.end(),
                                  [](uint16_t bits) { return (bits & 0x7f80) == 0x7f80; });
    if (bad != scales.end()) {
      return {.entry = bound_.scales,
              .element = first * blocks + (bad - scales.begin()),
              .fault = " is not finite, expected a scale"};
    }
    unpack_w4a16(reinterpret_cast<const int32_t*>(words.data()), rows, cols_, buffers.codes.data());
    pack_panel(format_, buffers.codes.data(), scales.data(), rows, cols_, panel);
    return {.blocks = {.exact = rows * blocks}};
  }

  // Numbers are rounded, but for the blocks of them that were trained in int4.

  PanelResult round_numbers(Buffers& buffers, int64_t first, int64_t rows,
                            std::byte* panel) noexcept {
    const int64_t size = byte_size(stored_);
    const auto numbers = std::span(buffers.stored).first(static_cast<size_t>(rows * cols_ * size));
    if (const int error = read(*bound_.entry, first * cols_ * size, numbers)) {
      return {.entry = bound_.entry, .error = error};
    }
    RecoveredBlocks found;
    const bool is_tried = format_.block == kInt4Format.block && stored_ == Dtype::kBf16;
    const auto* bits = reinterpret_cast<const uint16_t*>(numbers.data());
    if (is_tried) found = recover_panel(bits, rows, cols_, panel);
    if (rules_.is_lattice_required && found.off > 0) {
      return {.entry = bound_.entry,
              .element = first * cols_ + found.first_off,
              .fault =
                  " begins 32 that are not bf16(scale * n) of whole n in -8..7, as those looked "
                  "at before are: load with weights='bf16', or let weights='int4' round them"};
    }
    if (!is_tried || found.off > 0) {
      float* floats = buffers.floats.data();
      for (int64_t i = 0; i < rows * cols_; ++i) floats[i] = element(numbers.data(), stored_, i);
      const int64_t bad = quantize_panel(format_, floats, rows, cols_, rules_.scales, panel);
      if (bad >= 0) {
        return {.entry = bound_.entry,
                .element = first * cols_ + bad,
                .fault = " is not finite and cannot be rounded"};
      }
      // Once more, over what was rounded: simpler than rounding single blocks, and rare.
      if (found.exact + found.nearest_scale > 0) recover_panel(bits, rows, cols_, panel);
    }
    if (format_.block != kInt4Format.block) return {};
    return {.blocks = {.exact = found.exact,
                       .nearest_scale = found.nearest_scale,
                       .rounded = rows * cols_ / 32 - found.exact - found.nearest_scale}};
  }

  const Checkpoint& checkpoint_;
  const BoundTensor& bound_;
  const Format& format_;
  const BlockRules rules_;
  const Dtype stored_;
  const int64_t cols_;
  std::vector<Buffers> buffers_;  // one a thread
};

}  // namespace

LoadedWeights::LoadedWeights(std::shared_ptr<const Checkpoint> checkpoint, const ModelPlan& plan,
                             const WeightFormats& formats, int threads, const PackedFiles& packed,
                             SearchInt4 search, const Moments& moments,
                             const std::function<void(int64_t, int64_t)>& progress)
    : checkpoint_(std::move(checkpoint)),
      search_(search),
      moments_(moments),
      is_computed_(packed.weights == nullptr) {
  const std::vector<BoundTensor> all = bind_tensors(*checkpoint_, plan, weights_);
  int64_t total = 0, done = 0;
  for (const BoundTensor& bound : all) total += bound.entry->end - bound.entry->begin;
  arena_ = Arena(::cabochon::arena_bytes(*checkpoint_, all, formats), true);
  blocks_ = arena_.take(Dtype::kU8, {sizeof(Int4Blocks)}).as<Int4Blocks>();
  if (packed.weights != nullptr) packed.weights->read(arena_.contents(), threads);
  for (const BoundTensor& bound : all) {
    progress(done, total);
    done += bound.entry->end - bound.entry->begin;
    if (bound.tensor_class == TensorClass::kPerLayerTable) {
      load_table(bound, formats, packed.table.get(), threads);
    } else if (bound.vector != nullptr) {
      load_vector(bound, plan.norm_offset);
    } else {
      load_matrix(bound, formats, threads);
    }
  }
  progress(total, total);
}

// Rounded rows in memory are part of the arena, so that a packed file holds them. Rows as stored
// are not: they stand in the checkpoint already.
void LoadedWeights::load_table(const BoundTensor& bound, const WeightFormats& formats,
                               const PackedFile* packed, int threads) {
  const RowLayout layout = table_layout(*checkpoint_, bound, formats);
  const int64_t bytes = bound.shape[0] * layout.row_bytes();
  per_layer_table_ = {.entry = bound.entry, .layout = layout};
  if (!formats.is_table_in_memory) {
    if (layout.format == nullptr) {
      per_layer_table_.file = &checkpoint_->file(*bound.entry);
      per_layer_table_.begin = bound.entry->begin;
      return;
    }
    if (packed == nullptr || packed->bytes() != bytes) {
      throw InvalidArgument(text("tensor ", bound.entry->name, ": rows of ", layout.format->name,
                                 " on disk are ", bytes, " bytes of a packed file, found ",
                                 packed == nullptr ? 0 : packed->bytes()));
    }
    per_layer_table_.file = &packed->file();
    per_layer_table_.begin = packed->data_begin();
    return;
  }
  std::span<std::byte> rows;
  if (layout.format != nullptr) {
    rows = {arena_.take(Dtype::kU8, {bytes}).as<std::byte>(), static_cast<size_t>(bytes)};
  } else {
    table_ = Buffer(bytes, true);
    rows = {table_.data(), static_cast<size_t>(bytes)};
  }
  per_layer_table_.rows = rows.data();
  if (layout.format == nullptr || is_computed_) {
    load_rows(*checkpoint_, *bound.entry, layout, 0, rows, threads);
  }
}

void LoadedWeights::load_vector(const BoundTensor& bound, float norm_offset) {
  *bound.vector = arena_.take(Dtype::kF32, bound.shape);
  if (!is_computed_) return;
  float* values = bound.vector->floats();
  read_as_float(*checkpoint_, *bound.entry, 0, bound.shape.elements(), values);
  const float offset = bound.is_norm ? norm_offset : 0.0f;
  for (int64_t i = 0; i < bound.shape.elements(); ++i) values[i] += offset;
  require_finite(*checkpoint_, bound, *bound.vector);
}

void LoadedWeights::load_matrix(const BoundTensor& bound, const WeightFormats& formats,
                                int threads) {
  const TensorEntry& entry = *bound.entry;
  if (const Format* format = packed_format(bound, formats)) {
    is_any_packed_ = true;
    const Int4Scales scales = formats.scales_of(bound.tensor_class);
    const bool is_calibrated = scales == Int4Scales::kCalibrated;
    pack_matrix(bound, *format,
                {.is_lattice_required = is_lattice_required(bound, formats),
                 .scales = {.search = scales == Int4Scales::kAbsmax ? nullptr : search_,
                            .importance = is_calibrated ? moments_.importance(entry) : nullptr}},
                threads);
    return;
  }
  if (bound.tensor_class == TensorClass::kHead) {
    // Read whole for every token; where the head is packed, rows of the embedding are looked up.
    *bound.matrix = weights_.embedding;
    if (is_used_as_stored(*checkpoint_, entry)) mapped_bytes_ += entry.end - entry.begin;
    return;
  }
  const Tensor stored = checkpoint_->view(entry);
  const int64_t cols = bound.shape.back(), all_rows = bound.shape[bound.shape.rank() == 3 ? 1 : 0];
  if (is_used_as_stored(*checkpoint_, entry)) {
    *bound.matrix = as_stored(stored).slice(bound.first_row, bound.rows);
    if (bound.tensor_class == TensorClass::kEmbedding) return;  // counted with the head
    mapped_bytes_ += bound.matrix->count * bound.rows * cols * byte_size(stored.dtype);
    return;
  }
  // float16 is widened; what is not aligned to its element is copied.
  const bool is_half = stored.dtype == Dtype::kF16;
  const int64_t count = bound.shape.rank() == 3 ? bound.shape[0] : 1;
  const Tensor codes = arena_.take(is_half ? Dtype::kF32 : stored.dtype, {count, bound.rows, cols});
  for (int64_t index = 0; index < count && is_computed_; ++index) {
    const int64_t first = (index * all_rows + bound.first_row) * cols;
    const Tensor rows = codes.rows(index, 1);
    if (is_half) {
      read_as_float(*checkpoint_, entry, first, bound.rows * cols, rows.floats());
    } else {
      checkpoint_->read(entry, first * byte_size(stored.dtype),
                        {rows.as<std::byte>(), static_cast<size_t>(rows.bytes())});
    }
  }
  *bound.matrix = as_stored(count == 1 ? reshape(codes, {bound.rows, cols}) : codes);
}

void LoadedWeights::pack_matrix(const BoundTensor& bound, const Format& format,
                                const BlockRules& rules, int threads) {
  const int64_t cols = bound.shape.back(), all_rows = bound.shape[bound.shape.rank() == 3 ? 1 : 0];
  const int64_t count = bound.shape.rank() == 3 ? bound.shape[0] : 1;
  const int64_t panels = (bound.rows + kPanelRows - 1) / kPanelRows;
  const int64_t one_panel = panel_bytes(format, cols);
  const Tensor bytes = arena_.take(Dtype::kU8, {count * panels * one_panel});
  *bound.matrix = {.format = &format,
                   .rows = bound.rows,
                   .cols = cols,
                   .count = count,
                   .stride = panels * one_panel,
                   .data = bytes.as<const std::byte>(),
                   .panel_bytes = one_panel,
                   .granule = granule_of(bound.entry->name)};
  if (!is_computed_) return;

  if (bound.has_codes()) require_shape(*checkpoint_, bound);
  PanelMaker maker(*checkpoint_, bound, format, rules, threads);
  std::vector<PanelResult> results(static_cast<size_t>(count * panels));
  auto body = [&](RowRange range) noexcept {
    for (int64_t item = range.begin; item < range.end; ++item) {
      const int64_t row = item % panels * kPanelRows;
      const int64_t first = item / panels * all_rows + bound.first_row + row;
      results[static_cast<size_t>(item)] =
          maker.make(range.thread, first, std::min(kPanelRows, bound.rows - row),
                     bytes.as<std::byte>() + item * one_panel);
    }
  };
  ThreadPool::shared().parallel_for(threads, count * panels, 1, body);
  maker.require_none(results);
  for (const PanelResult& result : results) {
    blocks_->exact += result.blocks.exact;
    blocks_->nearest_scale += result.blocks.nearest_scale;
    blocks_->rounded += result.blocks.rounded;
  }
}

void write_table(const Checkpoint& checkpoint, const ModelPlan& plan, const WeightFormats& formats,
                 const NewPackedFile& file, int threads,
                 const std::function<void(int64_t, int64_t)>& progress) {
  ModelWeights fields;
  for (const BoundTensor& bound : bind_tensors(checkpoint, plan, fields)) {
    if (bound.tensor_class != TensorClass::kPerLayerTable) continue;
    const RowLayout layout = table_layout(checkpoint, bound, formats);
    if (layout.format == nullptr) break;
    write_rows(checkpoint, *bound.entry, layout, file, threads, progress);
    checkpoint.require_unchanged();  // else rows of two tables would be kept under the key of one
    return;
  }
  throw InvalidArgument(text(file.path, ": this model has no per-layer table that is rounded"));
}

}  // namespace cabochon
