// What was rounded, as one file: the weights' arena of a loaded model, so that the next load reads
// instead of rounding; or the rows of a per-layer table, which are then read from it one by one.
//
//   4,096 bytes  header: magic, version, block size, bytes of data, key, a text for people
//   table        one 64-bit checksum for each block of 1 MiB, padded to 4,096 bytes
//   data         the arena, or the rows, byte for byte
//
// The key stands for everything the bytes depend on; who makes it, and where files are kept, is not
// known here. Checksums guard against chance, not against malice.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/mapped_file.h"

namespace cabochon {

using PackedKey = std::array<std::byte, 32>;

// A file that is not there yet, and what its header says.
struct NewPackedFile {
  std::string path;
  PackedKey key{};
  std::string about;  // up to 4,000 bytes
};

class PackedFile {
 public:
  static constexpr int64_t kBlock = 1 << 20;  // that a checksum covers

  // Rises when the order, the layout or, for equal formats, the numbers of what stands in a file
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

  // For reading single rows of what was verified: the file, and where its data begin. A file that
  // changes after that is noticed as any other is (MappedFile::require_unchanged).
  const MappedFile& file() const { return file_; }
  int64_t data_begin() const { return data_offset_; }

  // Writes `bytes` of data to a new file and flushes it to the disk. They come in pieces, in order:
  // each call of `next` gives one, of whole blocks but for the last, valid until the next call.
  // Throws InvalidArgument: a text over 4,000 bytes; DeviceError naming the call, the path and
  // errno's text, and what `next` throws: the file is then worth nothing.
  static void write(const NewPackedFile& file, int64_t bytes,
                    const std::function<std::span<const std::byte>()>& next, int threads);

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
