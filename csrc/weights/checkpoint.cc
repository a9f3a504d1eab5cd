#include "weights/checkpoint.h"

#include <utility>

namespace cabochon {
namespace {

void check_entry(const TensorEntry& entry, const MappedFile& file) {
  const auto refuse = [&](const std::string& what) {
    throw CheckpointError(text(file.path(), ": tensor ", entry.name, ": ", what), file.path(),
                          entry.name);
  };
  if (entry.begin < 0 || entry.end < entry.begin || entry.end > file.size()) {
    refuse(text("bytes ", entry.begin, " to ", entry.end, " do not lie in the file, which has ",
                file.size(), " bytes; is the download complete?"));
  }
  const DtypeFacts* dtype = find_dtype(entry.dtype);
  if (dtype == nullptr) return;  // not one we compute with: refused by whoever wants to use it
  int64_t bytes = dtype->bytes;
  for (const int64_t size : entry.shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) {
      refuse(text("a size of its shape is ", size, ", which is negative or makes it too large"));
    }
  }
  if (bytes != entry.end - entry.begin) {
    refuse(text("has ", entry.end - entry.begin, " bytes, expected ", bytes, " of its shape in ",
                entry.dtype));
  }
}

}  // namespace

Checkpoint::Checkpoint(const std::vector<std::string>& shards, std::vector<TensorEntry> entries,
                       const std::optional<std::vector<int64_t>>& sizes)
    : entries_(std::move(entries)) {
  if (sizes && sizes->size() != shards.size()) {
    throw InvalidArgument(text("sizes has ", sizes->size(), " numbers, expected one for each of ",
                               shards.size(), " shards"));
  }
  files_.reserve(shards.size());
  for (size_t i = 0; i < shards.size(); ++i) {
    files_.push_back(sizes ? std::make_unique<MappedFile>(shards[i], (*sizes)[i])
                           : std::make_unique<MappedFile>(shards[i]));
  }
  by_name_.reserve(entries_.size());
  for (const TensorEntry& entry : entries_) {
    if (entry.shard < 0 || static_cast<size_t>(entry.shard) >= files_.size()) {
      throw InvalidArgument(text("tensor ", entry.name, ": shard ", entry.shard, " of ",
                                 files_.size(), " does not exist"));
    }
    check_entry(entry, file(entry));
    if (!by_name_.emplace(entry.name, &entry).second) {
      throw CheckpointError(text(file(entry).path(), ": tensor ", entry.name, " is there twice"),
                            file(entry).path(), entry.name);
    }
  }
}

const TensorEntry* Checkpoint::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

Tensor Checkpoint::view(const TensorEntry& entry) const {
  const DtypeFacts* dtype = find_dtype(entry.dtype);
  if (dtype == nullptr || entry.shape.size() > Shape::kMaxRank) {
    throw CheckpointError(text(file(entry).path(), ": tensor ", entry.name, " is ", entry.dtype,
                               " of rank ", entry.shape.size(), ", which cannot be computed with"),
                          file(entry).path(), entry.name);
  }
  const std::byte* file_data = file(entry).bytes().data();
  const std::byte* begin = file_data == nullptr ? nullptr : file_data + entry.begin;
  return {dtype->dtype, Shape(std::span<const int64_t>(entry.shape)),
          const_cast<std::byte*>(begin)};
}

void Checkpoint::read(const TensorEntry& entry, int64_t offset, std::span<std::byte> out) const {
  const int64_t size = entry.end - entry.begin;
  const int64_t count = static_cast<int64_t>(out.size());
  if (offset < 0 || offset > size || count > size - offset) {
    throw InvalidArgument(text("tensor ", entry.name, ": bytes ", offset, " to ", offset + count,
                               " do not lie in its ", size));
  }
  file(entry).read(entry.begin + offset, out, text("tensor ", entry.name));
}

void Checkpoint::release_pages() const noexcept {
  for (const auto& file : files_) file->release_pages();
}

void Checkpoint::require_unchanged() const {
  for (const auto& file : files_) file->require_unchanged();
}

}  // namespace cabochon
