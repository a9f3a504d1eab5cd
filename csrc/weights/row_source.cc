#include "weights/row_source.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <tuple>

#include "base/thread_pool.h"

namespace cabochon {
namespace {

// Distinct rows that are worth another thread: a read takes 2 us from the page cache, 100 us from
// a disk.
constexpr int64_t kRowsOfAThread = 4;

}  // namespace

RowSource::RowSource(const RowLayout& layout, const MappedFile& file, int64_t begin, int threads,
                     int64_t most_ids)
    : RowSource(layout, nullptr, threads, most_ids) {
  file_ = &file;
  begin_ = begin;
  if (!layout_.is_decoded_by_copying()) {
    raw_.resize(static_cast<size_t>(threads * layout_.row_bytes()));
  }
}

RowSource::RowSource(const RowLayout& layout, const std::byte* rows, int threads, int64_t most_ids)
    : layout_(layout), rows_(rows), threads_(threads) {
  order_.reserve(static_cast<size_t>(most_ids));
  groups_.reserve(static_cast<size_t>(most_ids) + 1);
  is_whole_.reserve(static_cast<size_t>(most_ids));
}

bool RowSource::fetch(int thread, int32_t id, int64_t columns, std::byte* out) noexcept {
  const int64_t row_bytes = layout_.row_bytes(), offset = id * row_bytes;
  if (rows_ != nullptr) {
    decode_row(layout_, rows_ + offset, columns, out);
    return true;
  }
  const auto bytes = static_cast<size_t>(layout_.bytes(columns));
  if (raw_.empty()) return file_->try_read(begin_ + offset, {out, bytes}) == 0;
  std::byte* raw = raw_.data() + thread * row_bytes;
  if (file_->try_read(begin_ + offset, {raw, bytes}) != 0) return false;
  decode_row(layout_, raw, columns, out);
  return true;
}

void RowSource::gather(const GatherArgs& args) {
  const std::span<const int32_t> ids = args.ids;
  is_whole_.assign(ids.size(), 0);
  for (const int32_t index : args.whole) is_whole_[static_cast<size_t>(index)] = 1;
  const auto id_of = [&](int32_t index) { return ids[static_cast<size_t>(index)]; };
  const auto is_whole = [&](int32_t index) { return is_whole_[static_cast<size_t>(index)] != 0; };

  // Of equal ids one that is wanted whole comes first: it is read, and the others are copies.
  order_.resize(ids.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) {
    return std::tuple(id_of(a), !is_whole(a), a) < std::tuple(id_of(b), !is_whole(b), b);
  });
  groups_.clear();
  for (size_t i = 0; i < order_.size(); ++i) {
    if (i == 0 || id_of(order_[i]) != id_of(order_[i - 1])) {
      groups_.push_back(static_cast<int32_t>(i));
    }
  }
  groups_.push_back(static_cast<int32_t>(order_.size()));

  const int64_t element = byte_size(dtype());
  const auto row = [&](int32_t index) { return args.out + index * layout_.columns * element; };
  const auto columns = [&](int32_t index) {
    return is_whole(index) ? layout_.columns : args.front;
  };
  auto body = [&](RowRange range) noexcept {
    for (int64_t group = range.begin; group < range.end; ++group) {
      const auto begin = static_cast<size_t>(groups_[static_cast<size_t>(group)]);
      const auto end = static_cast<size_t>(groups_[static_cast<size_t>(group) + 1]);
      const int32_t first = order_[begin];
      const bool is_read = fetch(range.thread, id_of(first), columns(first), row(first));
      for (size_t i = begin; i < end; ++i) {
        const int32_t index = order_[i];
        if (!is_read) {
          args.failures[static_cast<size_t>(index)] = 1;
        } else if (i > begin) {
          std::memcpy(row(index), row(first), static_cast<size_t>(columns(index) * element));
        }
      }
    }
  };
  ThreadPool::shared().parallel_for(threads_, std::ssize(groups_) - 1, kRowsOfAThread, body);
}

}  // namespace cabochon
