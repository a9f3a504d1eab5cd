// The weights' arena of a loaded model as one file, so that the next load reads instead of
// rounding.
//
//   4,096 bytes  header: magic, version, block size, bytes of data, key, a text for people
//   table        one 64-bit checksum for each block of 1 MiB, padded to 4,096 bytes
//   data         the arena, byte for byte
//
// The key stands for everything the bytes depend on; who makes it, and where files are kept, is not
// known here. Checksums guard against chance, not against malice.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "base/mapped_file.h"

namespace cabochon {

using PackedKey = std::array<std::byte, 32>;

class PackedFile {
 public:
  // Rises when the order, the layout or, for equal formats, the numbers of what stands in the arena
  // change (how weights are rounded, what the calibration reads), or the checksum.
  static constexpr uint32_t kVersion = 3;

  // Reads and checks the header. Throws CheckpointError: no packed file, another version, or a size
  // that does not fit; and with a key: another key.
  explicit PackedFile(std::string path);
  PackedFile(std::string path, const PackedKey& key);

  int64_t bytes() const { return bytes_; }
  const std::string& about() const { return about_; }  // as written; no checksum covers it

  // Fills `out`, which has bytes() bytes, by `threads` threads; every block is checked on its way.
  // Throws CheckpointError naming the first block that is not what was written.
  void read(std::span<std::byte> out, int threads) const;

  // As read, and keeps nothing.
  void verify(int threads) const;

  // Writes a new file and flushes it to the disk. Throws InvalidArgument: a text over 4,000 bytes;
  // DeviceError naming the call, the path and errno's text: the file is then worth nothing.
  static void write(const std::string& path, const PackedKey& key, const std::string& about,
                    std::span<const std::byte> data, int threads);

 private:
  // Reads every block to where `place` (block, thread) says and checks it.
  template <typename Place>
  void read_blocks(int threads, const Place& place) const;

  MappedFile file_;
  PackedKey key_{};
  std::string about_;
  int64_t bytes_ = 0, table_offset_ = 0, data_offset_ = 0;
};

}  // namespace cabochon
