// Rows of a table too big to keep: the per-layer embeddings of E2B and E4B.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "weights/checkpoint.h"

namespace cabochon {

// Copies rows of a [vocab, width] table out of its file, one read a row; equal ids of a call are
// read once. Values stay as stored. Used by one thread at a time.
class RowSource {
 public:
  RowSource(std::shared_ptr<const Checkpoint> checkpoint, const TensorEntry& table);

  Dtype dtype() const { return dtype_; }
  int64_t vocab() const { return vocab_; }
  int64_t row_bytes() const { return row_bytes_; }

  // out is [ids, width]. Ids are in [0, vocab): checked by the caller. Where a row cannot be read,
  // failures[i] is set and the row is left as it was: one unreadable row ends its own sequence.
  void gather(std::span<const int32_t> ids, std::byte* out, std::span<uint8_t> failures);

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
  const TensorEntry* table_;
  Dtype dtype_;
  int64_t vocab_, row_bytes_;
  std::vector<int32_t> order_;  // rows of a call sorted by id; kept, so a step allocates nothing
};

}  // namespace cabochon
