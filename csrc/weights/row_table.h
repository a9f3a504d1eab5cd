// A table of rows that are looked up one by one: how a row stands in a file or in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "weights/checkpoint.h"
#include "weights/format.h"
#include "weights/packed_file.h"

namespace cabochon {

// Rows stand one after the other, the columns of each in order, so that the first columns of a row
// are its first bytes. Rounded rows are blocks: the codes of a block, then its bf16 scale
// (docs/formats.md, "Rows").
struct RowLayout {
  Dtype stored = Dtype::kF32;      // of a column, where there is no format
  const Format* format = nullptr;  // int8 or int4; columns are then a multiple of 32
  int64_t columns = 0;

  // Bytes of the first `front` columns; of whole blocks where rows are rounded.
  int64_t bytes(int64_t front) const;
  int64_t row_bytes() const { return bytes(columns); }

  // What a row is decoded to: bf16 and float32 stay as stored, everything else becomes float32.
  Dtype decoded() const {
    return format == nullptr && stored != Dtype::kF16 ? stored : Dtype::kF32;
  }
  bool is_decoded_by_copying() const { return format == nullptr && stored != Dtype::kF16; }
};

// The first `front` columns of a row, as decoded() has them.
void decode_row(const RowLayout& layout, const std::byte* row, int64_t front,
                std::byte* out) noexcept;

// Fills `out`, whole rows, with those of a tensor [rows, columns] from row `first` on, in this
// layout, by `threads` threads. Throws CheckpointError naming the file and the tensor: a read that
// failed (the first by row), or a number that is not finite and cannot be rounded.
void load_rows(const Checkpoint& checkpoint, const TensorEntry& table, const RowLayout& layout,
               int64_t first, std::span<std::byte> out, int threads);

// All rows of the tensor as the data of a new packed file; holds 16 MiB of them at a time. Before
// each piece progress(done, total) counts bytes; what it throws ends the writing. Throws as
// load_rows and PackedFile::write.
void write_rows(const Checkpoint& checkpoint, const TensorEntry& table, const RowLayout& layout,
                const NewPackedFile& file, int threads,
                const std::function<void(int64_t, int64_t)>& progress);

}  // namespace cabochon
