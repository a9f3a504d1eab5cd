// The weights' arena of a loaded model as one file, so that the next load reads instead of
// rounding.
//
//   4,096 bytes  header: magic, version, block size, bytes of data, key
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
  // Rises when the order or the layout of what stands in the arena changes, or the checksum.
  static constexpr uint32_t kVersion = 2;

  // Reads and checks the header. Throws CheckpointError: no packed file, another version or key,
  // or a size that does not fit.
  PackedFile(std::string path, const PackedKey& key);

  int64_t bytes() const { return bytes_; }

  // Fills `out`, which has bytes() bytes, by `threads` threads; every block is checked on its way.
  // Throws CheckpointError naming the first block that is not what was written.
  void read(std::span<std::byte> out, int threads) const;

  // Writes a new file and flushes it to the disk. Throws DeviceError naming the call, the path and
  // errno's text; the file is then worth nothing.
  static void write(const std::string& path, const PackedKey& key, std::span<const std::byte> data,
                    int threads);

 private:
  MappedFile file_;
  int64_t bytes_ = 0, table_offset_ = 0, data_offset_ = 0;
};

}  // namespace cabochon
