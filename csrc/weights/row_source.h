// Rows of a table too big to keep: the per-layer embeddings of E2B and E4B.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "weights/checkpoint.h"

namespace cabochon {

// Copies rows of a [vocab, width] table out of its file, one read a row; equal ids of a call are
// read once. bf16 and float32 stay as stored, float16 is widened. Used by one thread at a time.
class RowSource {
 public:
  // The type in which rows of a table stored as `stored` are handed out.
  static Dtype handed_out(Dtype stored) { return stored == Dtype::kF16 ? Dtype::kF32 : stored; }

  RowSource(std::shared_ptr<const Checkpoint> checkpoint, const TensorEntry& table);

  Dtype dtype() const { return dtype_; }  // of the rows that are handed out

  // out is [ids, width]. Ids are in [0, vocab): checked by the caller. Where a row cannot be read,
  // failures[i] is set and the row holds anything: one unreadable row ends its own sequence.
  void gather(std::span<const int32_t> ids, std::byte* out, std::span<uint8_t> failures);

 private:
  bool read_row(int64_t id, std::byte* out);

  std::shared_ptr<const Checkpoint> checkpoint_;
  const TensorEntry* table_;
  Dtype dtype_;
  int64_t file_row_bytes_, row_bytes_;
  std::vector<std::byte> halves_;  // one float16 row on its way to float32
  std::vector<int32_t> order_;     // rows of a call sorted by id; kept, so a step allocates nothing
};

}  // namespace cabochon
