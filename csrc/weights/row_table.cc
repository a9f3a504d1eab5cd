#include "weights/row_table.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/bf16.h"
#include "base/thread_pool.h"
#include "weights/pack.h"
#include "weights/quantize.h"

namespace cabochon {
namespace {

constexpr int64_t kBlockScale = 2;  // bytes

bool is_int4(const Format& format) { return format.dtype == Dtype::kU8; }

int64_t code_bytes(const Format& format, int64_t columns) {
  return is_int4(format) ? columns / 2 : columns;
}

void widen(Dtype dtype, const std::byte* from, int64_t count, float* out) noexcept {
  if (dtype == Dtype::kF32) {
    std::memcpy(out, from, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + 2 * i, sizeof(bits));
    out[i] = dtype == Dtype::kBf16 ? bf16_to_float(bits) : f16_to_float(bits);
  }
}

// Codes [columns] and scales [blocks] of one row, as they stand in memory.
void pack_row(const RowLayout& layout, const uint8_t* codes, const uint16_t* scales,
              std::byte* row) noexcept {
  const Format& format = *layout.format;
  for (int64_t begin = 0; begin < layout.columns; begin += format.block) {
    const int64_t count = std::min<int64_t>(format.block, layout.columns - begin);
    const int64_t bytes = code_bytes(format, count);
    if (is_int4(format)) {
      for (int64_t i = 0; i < bytes; ++i) {
        const auto pair = codes[begin + 2 * i] | codes[begin + 2 * i + 1] << 4;
        row[i] = static_cast<std::byte>(pair);
      }
    } else {
      std::memcpy(row, codes + begin, static_cast<size_t>(bytes));
    }
    std::memcpy(row + bytes, scales++, kBlockScale);
    row += bytes + kBlockScale;
  }
}

// What one thread works in.
struct Work {
  explicit Work(const RowLayout& layout) {
    if (layout.format == nullptr) return;
    raw.resize(static_cast<size_t>(layout.columns * byte_size(layout.stored)));
    wide.resize(static_cast<size_t>(layout.columns));
    codes.resize(static_cast<size_t>(layout.columns));
    scales.resize(static_cast<size_t>(blocks_of(*layout.format, layout.columns)));
  }
  std::vector<std::byte> raw;
  std::vector<float> wide;
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scales;
};

// Returns -1, or the first column that is not finite.
int64_t round_row(const RowLayout& layout, Work& work, std::byte* out) {
  widen(layout.stored, work.raw.data(), layout.columns, work.wide.data());
  for (int64_t i = 0; i < layout.columns; ++i) {
    if (!std::isfinite(work.wide[static_cast<size_t>(i)])) return i;
  }
  const Format& format = *layout.format;
  quantize(work.wide.data(),
           {&format,
            1,
            layout.columns,
            {format.dtype, {1, layout.columns}, work.codes.data()},
            {Dtype::kBf16, {1, blocks_of(format, layout.columns)}, work.scales.data()}});
  pack_row(layout, work.codes.data(), work.scales.data(), out);
  return -1;
}

}  // namespace

int64_t RowLayout::bytes(int64_t front) const {
  if (format == nullptr) return front * byte_size(stored);
  const int64_t whole = std::min((front + format->block - 1) / format->block * format->block,
                                 columns);  // the last block may be short
  return code_bytes(*format, whole) + blocks_of(*format, whole) * kBlockScale;
}

void decode_row(const RowLayout& layout, const std::byte* row, int64_t front,
                std::byte* out) noexcept {
  if (layout.is_decoded_by_copying()) {
    std::memcpy(out, row, static_cast<size_t>(layout.bytes(front)));
    return;
  }
  auto* floats = reinterpret_cast<float*>(out);
  if (layout.format == nullptr) {
    widen(layout.stored, row, front, floats);
    return;
  }
  const Format& format = *layout.format;
  for (int64_t begin = 0; begin < front; begin += format.block) {
    const int64_t block = std::min<int64_t>(format.block, layout.columns - begin);
    const int64_t count = std::min<int64_t>(block, front - begin);
    const int64_t bytes = code_bytes(format, block);
    const auto* codes = reinterpret_cast<const uint8_t*>(row);
    uint16_t bits;
    std::memcpy(&bits, row + bytes, sizeof(bits));
    const float scale = bf16_to_float(bits);
    if (is_int4(format)) {
      for (int64_t i = 0; i < count; ++i) {
        const int code = i % 2 == 0 ? codes[i / 2] & 15 : codes[i / 2] >> 4;
        floats[begin + i] = static_cast<float>(code - 8) * scale;
      }
    } else {
      for (int64_t i = 0; i < count; ++i) {
        floats[begin + i] = static_cast<float>(static_cast<int8_t>(codes[i])) * scale;
      }
    }
    row += bytes + kBlockScale;
  }
}

void load_rows(const Checkpoint& checkpoint, const TensorEntry& table, const RowLayout& layout,
               int64_t first, std::span<std::byte> out, int threads) {
  constexpr int64_t kRowsAtOnce = 64;  // of a read, where bytes are taken as they are
  const MappedFile& file = checkpoint.file(table);
  const int64_t row_bytes = layout.row_bytes(), rows = std::ssize(out) / row_bytes;
  const int64_t file_row_bytes = layout.columns * byte_size(layout.stored);
  const int64_t all_rows = checkpoint.view(table).shape[0];
  if (first < 0 || rows > all_rows - first || std::ssize(out) != rows * row_bytes) {
    throw InvalidArgument(text("tensor ", table.name, ": ", out.size(), " bytes from row ", first,
                               " on are no rows of ", row_bytes, " bytes of its ", all_rows));
  }
  const int64_t file_begin = table.begin + first * file_row_bytes;
  const int64_t pieces = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
  struct Failure {
    int error = 0;         // errno of a read, -1 for a short one
    int64_t element = -1;  // of the table, that is not finite
  };
  std::vector<Failure> failures(static_cast<size_t>(pieces));
  std::vector<Work> work(static_cast<size_t>(threads), Work(layout));
  ThreadPool::shared().parallel_for(threads, pieces, 1, [&](RowRange range) noexcept {
    Work& mine = work[static_cast<size_t>(range.thread)];
    for (int64_t piece = range.begin; piece < range.end; ++piece) {
      Failure& failure = failures[static_cast<size_t>(piece)];
      const int64_t begin = piece * kRowsAtOnce, end = std::min(rows, begin + kRowsAtOnce);
      std::byte* to = out.data() + begin * row_bytes;
      if (layout.format == nullptr) {
        failure.error = file.try_read(file_begin + begin * file_row_bytes,
                                      {to, static_cast<size_t>((end - begin) * row_bytes)});
        continue;
      }
      for (int64_t row = begin; row < end && failure.error == 0 && failure.element < 0;
           ++row, to += row_bytes) {
        failure.error = file.try_read(file_begin + row * file_row_bytes, mine.raw);
        if (failure.error != 0) break;
        const int64_t bad = round_row(layout, mine, to);
        if (bad >= 0) failure.element = (first + row) * layout.columns + bad;
      }
    }
  });
  for (const Failure& failure : failures) {
    if (failure.error != 0) {
      file.require_unchanged();
      throw CheckpointError(
          text(file.path(), ": reading tensor ", table.name, " failed: ",
               failure.error < 0 ? "the file ends before it" : std::strerror(failure.error)),
          file.path(), table.name);
    }
    if (failure.element >= 0) {
      throw CheckpointError(
          text(file.path(), ": tensor ", table.name, ": element ", failure.element,
               " is not finite and cannot be rounded to ", layout.format->name),
          file.path(), table.name);
    }
  }
}

void write_rows(const Checkpoint& checkpoint, const TensorEntry& table, const RowLayout& layout,
                const NewPackedFile& file, int threads,
                const std::function<void(int64_t, int64_t)>& progress) {
  constexpr int64_t kPiece = 16 * PackedFile::kBlock;
  const int64_t rows = checkpoint.view(table).shape[0], row_bytes = layout.row_bytes();
  // A piece ends with a block, as a rule within a row: what is left of it begins the next one.
  std::vector<std::byte> buffer(static_cast<size_t>(kPiece + row_bytes));
  int64_t row = 0, filled = 0, taken = 0;
  const auto next = [&]() -> std::span<const std::byte> {
    progress(row * row_bytes, rows * row_bytes);
    std::copy(buffer.begin() + taken, buffer.begin() + filled, buffer.begin());
    filled -= taken;
    const int64_t count = std::min(rows - row, (std::ssize(buffer) - filled) / row_bytes);
    load_rows(checkpoint, table, layout, row,
              std::span(buffer).subspan(static_cast<size_t>(filled),
                                        static_cast<size_t>(count * row_bytes)),
              threads);
    row += count;
    filled += count * row_bytes;
    taken = row == rows ? filled : filled / PackedFile::kBlock * PackedFile::kBlock;
    return {buffer.data(), static_cast<size_t>(taken)};
  };
  PackedFile::write(file, rows * row_bytes, next, threads);
  progress(rows * row_bytes, rows * row_bytes);
}

}  // namespace cabochon
