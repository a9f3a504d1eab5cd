#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace cabochon {
namespace {

bool is_same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer. It changes nothing for a regular file.
  descriptor_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) {
    throw CheckpointError(text(path_, ": cannot be opened: ", std::strerror(errno)), path_);
  }
  struct stat status{};
  const bool is_known = fstat(descriptor_, &status) == 0;
  if (!is_known || !S_ISREG(status.st_mode)) {
    const std::string reason = is_known ? "not a regular file" : std::strerror(errno);
    close(descriptor_);
    throw CheckpointError(text(path_, ": cannot be read: ", reason), path_);
  }
  size_ = status.st_size;
  modified_ = status.st_mtim;
  if (size_ == 0) return;
  void* mapped = mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_SHARED, descriptor_, 0);
  if (mapped == MAP_FAILED) {
    const int error = errno;
    close(descriptor_);
    throw CheckpointError(text(path_, ": cannot be mapped: ", std::strerror(error)), path_);
  }
  data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_));
  if (descriptor_ >= 0) close(descriptor_);
}

bool MappedFile::is_unchanged() const noexcept {
  struct stat status{};
  return fstat(descriptor_, &status) == 0 && status.st_size == size_ &&
         is_same_time(status.st_mtim, modified_);
}

void MappedFile::release_pages() const noexcept {
  // A failure costs nothing but that the pages stay.
  if (data_ != nullptr)
    ::madvise(const_cast<std::byte*>(data_), static_cast<size_t>(size_), MADV_DONTNEED);
}

void MappedFile::require_unchanged() const {
  if (!is_unchanged()) {
    throw CheckpointError(
        text(path_, ": the file changed under the model (it had ", size_,
             " bytes when it was opened, and another size or time now); load it again"),
        path_);
  }
}

int MappedFile::try_read(int64_t offset, std::span<std::byte> out) const noexcept {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = pread(descriptor_, out.data() + done, out.size() - done,
                              static_cast<off_t>(offset) + static_cast<off_t>(done));
    if (got == 0) return -1;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    done += static_cast<size_t>(got);
  }
  return 0;
}

void MappedFile::read(int64_t offset, std::span<std::byte> out, const std::string& what) const {
  if (descriptor_ < 0) {
    throw CheckpointError(text(path_, ": ", out.size(), " bytes at ", offset, " for ", what,
                               " cannot be read: only the file's header is here; download it"),
                          path_);
  }
  const int error = try_read(offset, out);
  if (error > 0) {
    throw CheckpointError(text(path_, ": reading ", out.size(), " bytes at ", offset, " for ", what,
                               " failed: ", std::strerror(error)),
                          path_);
  }
  if (error < 0 || !is_unchanged()) require_unchanged();
  if (error < 0) {
    throw CheckpointError(text(path_, ": ", out.size(), " bytes at ", offset, " for ", what,
                               " end past the file (", size_, " bytes)"),
                          path_);
  }
}

}  // namespace cabochon
