// Memory the core owns: one anonymous mapping each, given back by the destructor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/tensor.h"

namespace cabochon {

// Zeroed pages from the system, aligned to 64 bytes and more. A page costs memory only when it is
// first touched, so a large buffer may be sized for the worst case. Throws OutOfMemory.
class Buffer {
 public:
  Buffer() = default;
  // Huge pages (2 MiB, where the system grants them) suit what is read whole and often.
  explicit Buffer(int64_t bytes, bool is_huge = false);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Hands out 64-byte aligned pieces of one buffer, in order; pieces live as long as the buffer.
class Arena {
 public:
  Arena() = default;
  explicit Arena(int64_t bytes, bool is_huge = false)
      : buffer_(bytes, is_huge), data_(buffer_.data()), bytes_(bytes) {}
  // Over memory that somebody else keeps.
  explicit Arena(std::span<std::byte> memory)
      : data_(memory.data()), bytes_(static_cast<int64_t>(memory.size())) {}

  // What a tensor of these elements takes from an arena.
  static int64_t padded_bytes(Dtype dtype, int64_t elements);

  // Throws OutOfMemory when the arena was sized too small: a bug of whoever planned it.
  Tensor take(Dtype dtype, const Shape& shape);

  int64_t bytes() const { return bytes_; }
  std::span<std::byte> contents() const { return {data_, static_cast<size_t>(bytes_)}; }
  // What nobody has taken.
  std::span<std::byte> rest() const { return contents().subspan(static_cast<size_t>(used_)); }

 private:
  Buffer buffer_;  // empty over memory of somebody else
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
  int64_t used_ = 0;
};

}  // namespace cabochon
