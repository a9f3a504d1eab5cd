// The shards of one model: tensor name -> checked bytes.
//
// Python has read and validated the safetensors headers; here every range is checked again against
// the file, since neither reader trusts the other. Knows no tensor's meaning.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "base/tensor.h"

namespace cabochon {

struct TensorEntry {
  std::string name;
  std::string dtype;           // as in the file, "BF16"
  std::vector<int64_t> shape;  // any rank; only tensors that are used must have a Shape
  int shard = 0;
  int64_t begin = 0, end = 0;  // bytes from the start of the file
};

// Immutable after construction, shared by the engine and whatever points into its mappings.
class Checkpoint {
 public:
  // Throws CheckpointError when a file cannot be mapped or an entry does not lie inside its file,
  // has a size other than shape x dtype, or a name twice.
  //
  // With `sizes`, bytes of each shard, the files are elsewhere and none is opened: what a plan
  // needs is known, `view` has no data, and `read` throws.
  Checkpoint(const std::vector<std::string>& shards, std::vector<TensorEntry> entries,
             const std::optional<std::vector<int64_t>>& sizes = std::nullopt);

  const std::vector<TensorEntry>& entries() const { return entries_; }
  const TensorEntry* find(std::string_view name) const;  // null when absent
  const MappedFile& file(const TensorEntry& entry) const {
    return *files_[static_cast<size_t>(entry.shard)];
  }

  // Into the mapping; valid while the Checkpoint lives. Its address may be unaligned.
  Tensor view(const TensorEntry& entry) const;

  // Reads bytes [offset, offset + out.size()) of a tensor; checked, see MappedFile::read.
  void read(const TensorEntry& entry, int64_t offset, std::span<std::byte> out) const;

  // Gives pages that were read through the mappings back to the system's cache.
  void release_pages() const noexcept;

  // Throws CheckpointError when a file is not as it was when it was opened.
  void require_unchanged() const;

 private:
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<TensorEntry> entries_;
  std::unordered_map<std::string_view, const TensorEntry*> by_name_;
};

}  // namespace cabochon
