#include "engine/loader.h"

#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/bf16.h"
#include "engine/memory_plan.h"

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

// Reads a tensor through pread, so that a file cut meanwhile is an error and no crash.
void read_as_float(const Checkpoint& checkpoint, const TensorEntry& entry, float offset,
                   float* out) {
  const Dtype dtype = checkpoint.view(entry).dtype;
  const int64_t size = byte_size(dtype), total = (entry.end - entry.begin) / size;
  constexpr int64_t kPiece = 1 << 18;
  std::vector<std::byte> piece(static_cast<size_t>(std::min(kPiece, total) * size));
  for (int64_t begin = 0; begin < total; begin += kPiece) {
    const int64_t count = std::min(kPiece, total - begin);
    const std::span<std::byte> bytes(piece.data(), static_cast<size_t>(count * size));
    checkpoint.read(entry, begin * size, bytes);
    for (int64_t i = 0; i < count; ++i) out[begin + i] = element(bytes.data(), dtype, i) + offset;
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
                             const std::function<void(int64_t, int64_t)>& progress)
    : checkpoint_(std::move(checkpoint)) {
  const std::vector<BoundTensor> all = bind_tensors(*checkpoint_, plan, weights_);
  int64_t bytes = 0;
  for (const BoundTensor& bound : all) bytes += copied_bytes(*checkpoint_, bound);
  arena_ = Arena(bytes);
  const int64_t total = std::ssize(all);
  for (int64_t done = 0; done < total; ++done) {
    progress(done, total);
    const BoundTensor& bound = all[static_cast<size_t>(done)];
    const TensorEntry& entry = *bound.entry;
    if (bound.tensor_class == TensorClass::kPerLayerTable) {
      per_layer_table_ = &entry;
      continue;
    }
    if (bound.vector != nullptr) {
      *bound.vector = arena_.take(Dtype::kF32, bound.shape);
      read_as_float(*checkpoint_, entry, bound.is_norm ? plan.norm_offset : 0.0f,
                    bound.vector->floats());
      require_finite(*checkpoint_, bound, *bound.vector);
      continue;
    }
    Tensor codes = checkpoint_->view(entry);
    if (is_used_as_stored(*checkpoint_, entry)) {
      mapped_bytes_ += codes.bytes();
    } else if (codes.dtype == Dtype::kF16) {
      codes = arena_.take(Dtype::kF32, bound.shape);
      read_as_float(*checkpoint_, entry, 0.0f, codes.floats());
    } else {
      codes = arena_.take(codes.dtype, bound.shape);
      checkpoint_->read(entry, 0, {codes.as<std::byte>(), static_cast<size_t>(codes.bytes())});
    }
    *bound.matrix = as_stored(codes, bound.rows, bound.shape.back());
  }
  progress(total, total);
}

}  // namespace cabochon
