#include "weights/packed_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"

namespace cabochon {
namespace {

constexpr int64_t kBlock = PackedFile::kBlock;
constexpr int64_t kPage = 4096;
constexpr size_t kAboutBytes = 4000;

struct Header {
  char magic[8] = {'C', 'A', 'B', 'O', 'P', 'A', 'C', 'K'};
  uint32_t version = PackedFile::kVersion;
  uint32_t block = kBlock;
  int64_t bytes = 0;
  PackedKey key{};
  uint64_t about_bytes = 0;
  char about[kAboutBytes] = {};
};
static_assert(sizeof(Header) <= kPage);

int64_t blocks_of(int64_t bytes) { return (bytes + kBlock - 1) / kBlock; }
int64_t padded(int64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

// Eight running products over 64-bit words, so that a core does not wait for its multiplier. A step
// is a bijection of the sum and of the word; the turn brings high bits, which a product only moves
// out, back to where they count.
uint64_t step(uint64_t sum, uint64_t word) {
  return std::rotl((sum ^ word) * 0x9E3779B97F4A7C15u, 29);
}

uint64_t checksum(std::span<const std::byte> bytes) {
  constexpr size_t kLanes = 8, kLine = 8 * kLanes;
  uint64_t sums[kLanes] = {};
  const auto take = [&](const std::byte* line) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      uint64_t word;
      std::memcpy(&word, line + 8 * lane, 8);
      sums[lane] = step(sums[lane], word);
    }
  };
  size_t at = 0;
  for (; at + kLine <= bytes.size(); at += kLine) take(bytes.data() + at);
  std::byte rest[kLine] = {};
  std::copy(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end(), rest);
  take(rest);
  uint64_t whole = bytes.size();
  for (const uint64_t sum : sums) whole = step(whole, sum);
  return whole;
}

std::span<const std::byte> block_of(std::span<const std::byte> data, int64_t index) {
  const auto begin = static_cast<size_t>(index * kBlock);
  return data.subspan(begin, std::min(static_cast<size_t>(kBlock), data.size() - begin));
}

[[noreturn]] void fail(const char* call, const std::string& path, int error) {
  throw DeviceError(text(call, " of ", path, " failed: ", std::strerror(error)));
}

void write_at(int descriptor, const std::string& path, int64_t offset,
              std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = pwrite(descriptor, bytes.data(), bytes.size(), offset);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail("pwrite", path, done == 0 ? ENOSPC : errno);
    bytes = bytes.subspan(static_cast<size_t>(done));
    offset += done;
  }
}

}  // namespace

PackedFile::PackedFile(std::string path) : file_(std::move(path)) {
  const auto refuse = [&](const std::string& what) {
    throw CheckpointError(text(file_.path(), ": ", what), file_.path());
  };
  Header header, expected;
  const auto header_bytes = std::as_writable_bytes(std::span(&header, 1));
  if (file_.size() < kPage) refuse(text("has ", file_.size(), " bytes, too few for a packed file"));
  file_.read(0, header_bytes, "the header of packed weights");
  if (std::memcmp(header.magic, expected.magic, sizeof(header.magic)) != 0 ||
      header.version != expected.version || header.block != expected.block ||
      header.about_bytes > kAboutBytes) {
    refuse(text("is no packed file of version ", kVersion));
  }
  key_ = header.key;
  about_.assign(header.about, header.about_bytes);
  bytes_ = header.bytes;
  table_offset_ = kPage;
  // Compared by division: a size that lies cannot overflow.
  if (bytes_ < 0 || bytes_ > file_.size()) {
    refuse(text("says that it holds ", bytes_, " bytes, the file has ", file_.size()));
  }
  data_offset_ = kPage + padded(8 * blocks_of(bytes_));
  if (data_offset_ + bytes_ != file_.size()) {
    refuse(text("has ", file_.size(), " bytes, expected ", data_offset_ + bytes_));
  }
}

PackedFile::PackedFile(std::string path, const PackedKey& key) : PackedFile(std::move(path)) {
  if (key_ == key) return;
  throw CheckpointError(text(file_.path(), ": was packed from other files or in other formats"),
                        file_.path());
}

template <typename Place>
void PackedFile::read_blocks(int threads, const Place& place) const {
  const int64_t blocks = blocks_of(bytes_);
  std::vector<uint64_t> table(static_cast<size_t>(blocks));
  file_.read(table_offset_, std::as_writable_bytes(std::span(table)),
             "the table of packed weights");
  std::vector<uint8_t> failures(static_cast<size_t>(blocks), 0);
  ThreadPool::shared().parallel_for(threads, blocks, 1, [&](RowRange range) noexcept {
    for (int64_t i = range.begin; i < range.end; ++i) {
      const auto index = static_cast<size_t>(i);
      const auto size = static_cast<size_t>(std::min(kBlock, bytes_ - i * kBlock));
      const std::span<std::byte> block(place(i, range.thread), size);
      failures[index] =
          file_.try_read(data_offset_ + i * kBlock, block) != 0 || checksum(block) != table[index];
    }
  });
  const auto bad = std::find(failures.begin(), failures.end(), 1);
  if (bad != failures.end()) {
    throw CheckpointError(text(file_.path(), ": block ", bad - failures.begin(), " of ", blocks,
                               " is not what was written"),
                          file_.path());
  }
}

void PackedFile::read(std::span<std::byte> out, int threads) const {
  if (std::ssize(out) != bytes_) {
    throw CheckpointError(
        text(file_.path(), ": holds ", bytes_, " bytes, the weights take ", out.size()),
        file_.path());
  }
  read_blocks(threads, [&](int64_t block, int) { return out.data() + block * kBlock; });
}

void PackedFile::verify(int threads) const {
  std::vector<std::vector<std::byte>> pieces(static_cast<size_t>(threads));
  for (auto& piece : pieces) piece.resize(static_cast<size_t>(kBlock));
  read_blocks(threads,
              [&](int64_t, int thread) { return pieces[static_cast<size_t>(thread)].data(); });
}

void PackedFile::write(const NewPackedFile& file, int64_t bytes,
                       const std::function<std::span<const std::byte>()>& next, int threads) {
  const auto& [path, key, about] = file;
  if (about.size() > kAboutBytes) {
    throw InvalidArgument(
        text("about has ", about.size(), " bytes, expected at most ", kAboutBytes));
  }
  Header header;
  header.bytes = bytes;
  header.key = key;
  header.about_bytes = about.size();
  std::copy(about.begin(), about.end(), header.about);
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0) fail("open", path, errno);
  struct Closer {
    int descriptor;
    ~Closer() { close(descriptor); }
  } closer{descriptor};
  std::vector<uint64_t> table(static_cast<size_t>(blocks_of(bytes)));
  const int64_t data_offset = kPage + padded(8 * std::ssize(table));
  if (ftruncate(descriptor, data_offset + bytes) != 0) fail("ftruncate", path, errno);
  for (int64_t done = 0; done < bytes;) {
    const std::span<const std::byte> piece = next();
    const int64_t end = done + std::ssize(piece);
    if (end == done || end > bytes || (end < bytes && end % kBlock != 0)) {
      throw InvalidArgument(text(path, ": a piece ends at byte ", end, " of ", bytes,
                                 ", expected whole blocks of ", kBlock));
    }
    uint64_t* sums = table.data() + done / kBlock;
    ThreadPool::shared().parallel_for(threads, blocks_of(end - done), 1,
                                      [&](RowRange range) noexcept {
                                        for (int64_t i = range.begin; i < range.end; ++i)
                                          sums[i] = checksum(block_of(piece, i));
                                      });
    write_at(descriptor, path, data_offset + done, piece);
    done = end;
  }
  write_at(descriptor, path, kPage, std::as_bytes(std::span(table)));
  write_at(descriptor, path, 0, std::as_bytes(std::span(&header, 1)));
  if (fsync(descriptor) != 0) fail("fsync", path, errno);
}

}  // namespace cabochon
