#include "base/buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace cabochon {

Buffer::Buffer(int64_t bytes, bool is_huge) : bytes_(bytes) {
  if (bytes == 0) return;
  if (bytes < 0) throw OutOfMemory(text("a buffer of ", bytes, " bytes: its size overflowed"));
  void* mapped = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    bytes_ = 0;
    throw OutOfMemory(text("the system refused ", bytes, " bytes: ", std::strerror(errno)));
  }
  data_ = static_cast<std::byte*>(mapped);
  // Only advice: where it is refused, ordinary pages serve.
  if (is_huge) madvise(mapped, static_cast<size_t>(bytes), MADV_HUGEPAGE);
}

Buffer::~Buffer() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

int64_t Arena::padded_bytes(Dtype dtype, int64_t elements) {
  return (elements * byte_size(dtype) + 63) / 64 * 64;
}

Tensor Arena::take(Dtype dtype, const Shape& shape) {
  const int64_t bytes = padded_bytes(dtype, shape.elements());
  if (bytes > bytes_ - used_) {
    throw OutOfMemory(text("an arena of ", bytes_, " bytes has ", bytes_ - used_, " left, and ",
                           shape, " ", dtype, " takes ", bytes, ": a bug in the memory plan"));
  }
  Tensor tensor{dtype, shape, data_ + used_};
  used_ += bytes;
  return tensor;
}

}  // namespace cabochon
