#include "engine/loader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/bf16.h"
#include "base/thread_pool.h"
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

}  // namespace

LoadedWeights::LoadedWeights(std::shared_ptr<const Checkpoint> checkpoint, const ModelPlan& plan,
                             const WeightFormats& formats, int threads, const PackedFile* packed,
                             const std::function<void(int64_t, int64_t)>& progress)
    : checkpoint_(std::move(checkpoint)), is_computed_(packed == nullptr) {
  const std::vector<BoundTensor> all = bind_tensors(*checkpoint_, plan, weights_);
  int64_t bytes = 0, total = 0, done = 0;
  for (const BoundTensor& bound : all) {
    bytes += ::cabochon::arena_bytes(*checkpoint_, bound, formats);
    total += bound.entry->end - bound.entry->begin;
  }
  arena_ = Arena(bytes, true);
  if (packed != nullptr) packed->read(arena_.contents(), threads);
  for (const BoundTensor& bound : all) {
    progress(done, total);
    done += bound.entry->end - bound.entry->begin;
    if (bound.tensor_class == TensorClass::kPerLayerTable) {
      per_layer_table_ = bound.entry;
    } else if (bound.vector != nullptr) {
      load_vector(bound, plan.norm_offset);
    } else {
      load_matrix(bound, formats, threads);
    }
  }
  progress(total, total);
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
    pack_matrix(bound, *format, threads);
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

// Panel after panel, each by one thread: read, widened, rounded, packed. What can go wrong on a
// worker is a value in a slot; the first by index is thrown, the same for any number of threads.
void LoadedWeights::pack_matrix(const BoundTensor& bound, const Format& format, int threads) {
  const TensorEntry& entry = *bound.entry;
  const MappedFile& file = checkpoint_->file(entry);
  const Dtype stored = checkpoint_->view(entry).dtype;
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
                   .panel_bytes = one_panel};
  if (!is_computed_) return;

  struct Failure {
    int error = 0;         // errno of a read, -1 for a short one
    int64_t element = -1;  // of the tensor, that is not finite
  };
  std::vector<Failure> failures(static_cast<size_t>(count * panels));
  const auto values = static_cast<size_t>(kPanelRows * cols);
  std::vector<std::vector<std::byte>> raw(static_cast<size_t>(threads));
  std::vector<std::vector<float>> wide(static_cast<size_t>(threads));
  for (auto& buffer : raw) buffer.resize(values * static_cast<size_t>(byte_size(stored)));
  for (auto& buffer : wide) buffer.resize(values);

  auto body = [&](RowRange range) noexcept {
    const auto thread = static_cast<size_t>(range.thread);
    for (int64_t item = range.begin; item < range.end; ++item) {
      const int64_t row = item % panels * kPanelRows;
      const int64_t rows = std::min(kPanelRows, bound.rows - row);
      const int64_t first = (item / panels * all_rows + bound.first_row + row) * cols;
      const std::span<std::byte> out(raw[thread].data(),
                                     static_cast<size_t>(rows * cols * byte_size(stored)));
      Failure& failure = failures[static_cast<size_t>(item)];
      failure.error = file.try_read(entry.begin + first * byte_size(stored), out);
      if (failure.error != 0) continue;
      float* floats = wide[thread].data();
      for (int64_t i = 0; i < rows * cols; ++i) floats[i] = element(out.data(), stored, i);
      const int64_t bad =
          quantize_panel(format, floats, rows, cols, bytes.as<std::byte>() + item * one_panel);
      if (bad >= 0) failure.element = first + bad;
    }
  };
  ThreadPool::shared().parallel_for(threads, count * panels, 1, body);
  for (const Failure& failure : failures) {
    if (failure.error != 0) {
      file.require_unchanged();
      throw CheckpointError(
          text(file.path(), ": reading tensor ", entry.name, " failed: ",
               failure.error < 0 ? "the file ends before it" : std::strerror(failure.error)),
          file.path(), entry.name);
    }
    if (failure.element >= 0) {
      throw CheckpointError(
          text(file.path(), ": tensor ", entry.name, ": element ", failure.element,
               " is not finite and cannot be rounded to ", format.name),
          file.path(), entry.name);
    }
  }
}

}  // namespace cabochon
