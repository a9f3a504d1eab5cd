// One file, read-only: mapped whole, and readable by position; or one known by its size alone.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace cabochon {

// Opens regular files alone (a FIFO would block). Bytes of the mapping are valid while it lives;
// the system may drop and reread their pages at will. Throws CheckpointError with the path.
class MappedFile {
 public:
  explicit MappedFile(std::string path);
  // A file that is elsewhere: nothing is opened, bytes() are none, and reading it throws.
  MappedFile(std::string path, int64_t size) : path_(std::move(path)), size_(size) {}
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }
  std::span<const std::byte> bytes() const {
    return {data_, data_ == nullptr ? 0 : static_cast<size_t>(size_)};
  }

  // Fills out from offset. A short read or another size or time than at opening is an error: the
  // file was cut or written to. Callable from any thread; `what` names the reader in the message.
  void read(int64_t offset, std::span<std::byte> out, const std::string& what) const;

  // The same as an errno, for workers that may not throw; 0 when all is well, -1 when cut.
  int try_read(int64_t offset, std::span<std::byte> out) const noexcept;

  // Gives the pages of the mapping that were touched back to the system's cache: the process holds
  // them no longer, and the next touch finds them again.
  void release_pages() const noexcept;

  // Throws when size or time of the file differ from those at opening.
  void require_unchanged() const;

 private:
  bool is_unchanged() const noexcept;

  std::string path_;
  int descriptor_ = -1;
  int64_t size_ = 0;
  timespec modified_{};
  const std::byte* data_ = nullptr;
};

}  // namespace cabochon
