// Rows of a table too big to compute with: the per-layer embeddings of E2B and E4B.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "weights/row_table.h"

namespace cabochon {

struct GatherArgs {
  std::span<const int32_t> ids;    // in [0, rows of the table): checked by the caller
  std::span<const int32_t> whole;  // ascending indices into ids: rows that are wanted whole;
  int64_t front;                   // of the others the first `front` columns
  std::byte* out;                  // [ids, columns] of dtype(); what nobody wants is left as it is
  std::span<uint8_t> failures;     // [ids]
};

// Copies rows out of a file, one read a row, or out of memory; who asks cannot tell which. Equal
// ids of a call are read once, and many are read by several threads. Allocates nothing in a call of
// up to `most_ids`. Used by one thread at a time.
class RowSource {
 public:
  // Rows in a file, from byte `begin` on; the file must outlive the source.
  RowSource(const RowLayout& layout, const MappedFile& file, int64_t begin, int threads,
            int64_t most_ids);

  // Rows in memory, which must outlive the source.
  RowSource(const RowLayout& layout, const std::byte* rows, int threads, int64_t most_ids);

  Dtype dtype() const { return layout_.decoded(); }  // of the rows that are handed out

  // Where a row cannot be read, failures[i] is set and the row holds anything: one unreadable row
  // ends its own sequence.
  void gather(const GatherArgs& args);

 private:
  // False where the row cannot be read.
  bool fetch(int thread, int32_t id, int64_t columns, std::byte* out) noexcept;

  RowLayout layout_;
  const MappedFile* file_ = nullptr;  // null where rows are in memory
  int64_t begin_ = 0;
  const std::byte* rows_ = nullptr;  // null where they are in the file
  int threads_;
  std::vector<std::byte> raw_;  // [threads, row]: a row on its way to float32
  // Of a call: ids in order, where each distinct one begins, and who wants a whole row.
  std::vector<int32_t> order_, groups_;
  std::vector<uint8_t> is_whole_;
};

}  // namespace cabochon
