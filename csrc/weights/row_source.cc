#include "weights/row_source.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/bf16.h"

namespace cabochon {

RowSource::RowSource(std::shared_ptr<const Checkpoint> checkpoint, const TensorEntry& table)
    : checkpoint_(std::move(checkpoint)), table_(&table) {
  const Tensor view = checkpoint_->view(table);
  const int64_t width = view.shape.back();
  dtype_ = handed_out(view.dtype);
  file_row_bytes_ = width * byte_size(view.dtype);
  row_bytes_ = width * byte_size(dtype_);
  if (view.dtype == Dtype::kF16) halves_.resize(static_cast<size_t>(file_row_bytes_));
}

bool RowSource::read_row(int64_t id, std::byte* out) {
  const MappedFile& file = checkpoint_->file(*table_);
  const int64_t offset = table_->begin + id * file_row_bytes_;
  const auto bytes = static_cast<size_t>(file_row_bytes_);
  if (halves_.empty()) return file.try_read(offset, {out, bytes}) == 0;
  if (file.try_read(offset, halves_) != 0) return false;
  for (size_t i = 0; i < bytes / 2; ++i) {
    uint16_t half;
    std::memcpy(&half, halves_.data() + 2 * i, sizeof(half));
    const float wide = f16_to_float(half);
    std::memcpy(out + 4 * i, &wide, sizeof(wide));
  }
  return true;
}

void RowSource::gather(std::span<const int32_t> ids, std::byte* out, std::span<uint8_t> failures) {
  order_.resize(ids.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) {
    return std::pair(ids[static_cast<size_t>(a)], a) < std::pair(ids[static_cast<size_t>(b)], b);
  });
  const auto row = [&](int32_t index) { return out + index * row_bytes_; };
  for (size_t i = 0; i < order_.size(); ++i) {
    const int32_t index = order_[i];
    const int32_t id = ids[static_cast<size_t>(index)];
    if (i > 0 && ids[static_cast<size_t>(order_[i - 1])] == id) {
      std::memcpy(row(index), row(order_[i - 1]), static_cast<size_t>(row_bytes_));
      failures[static_cast<size_t>(index)] = failures[static_cast<size_t>(order_[i - 1])];
      continue;
    }
    if (!read_row(id, row(index))) failures[static_cast<size_t>(index)] = 1;
  }
}

}  // namespace cabochon
