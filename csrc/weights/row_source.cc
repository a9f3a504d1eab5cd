#include "weights/row_source.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

namespace cabochon {

RowSource::RowSource(std::shared_ptr<const Checkpoint> checkpoint, const TensorEntry& table)
    : checkpoint_(std::move(checkpoint)), table_(&table) {
  const Tensor view = checkpoint_->view(table);
  dtype_ = view.dtype;
  vocab_ = view.shape[0];
  row_bytes_ = view.bytes() / std::max<int64_t>(1, vocab_);
}

void RowSource::gather(std::span<const int32_t> ids, std::byte* out, std::span<uint8_t> failures) {
  order_.resize(ids.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) {
    return std::pair(ids[static_cast<size_t>(a)], a) < std::pair(ids[static_cast<size_t>(b)], b);
  });
  const MappedFile& file = checkpoint_->file(*table_);
  const auto row = [&](int32_t index) { return out + index * row_bytes_; };
  for (size_t i = 0; i < order_.size(); ++i) {
    const int32_t index = order_[i];
    const int32_t id = ids[static_cast<size_t>(index)];
    if (i > 0 && ids[static_cast<size_t>(order_[i - 1])] == id) {
      std::memcpy(row(index), row(order_[i - 1]), static_cast<size_t>(row_bytes_));
      failures[static_cast<size_t>(index)] = failures[static_cast<size_t>(order_[i - 1])];
      continue;
    }
    const std::span<std::byte> bytes(row(index), static_cast<size_t>(row_bytes_));
    if (file.try_read(table_->begin + id * row_bytes_, bytes) != 0) {
      failures[static_cast<size_t>(index)] = 1;
    }
  }
}

}  // namespace cabochon
