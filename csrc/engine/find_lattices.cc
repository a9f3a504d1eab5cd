#include "engine/find_lattices.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "weights/lattice.h"

namespace cabochon {
namespace {

constexpr int64_t kBlock = 32;
constexpr int64_t kBlocks = 64;  // of one place
constexpr int64_t kPlaces = 4;
constexpr int64_t kTelling = 16;  // values of a block that are not zero

bool is_sample_on_lattice(const Checkpoint& checkpoint, const TensorEntry& entry) {
  const int64_t blocks = (entry.end - entry.begin) / (2 * kBlock);
  const int64_t here = std::min(blocks, kBlocks);
  std::array<uint16_t, kBlocks * kBlock> values;
  bool is_telling = false;
  for (int64_t place = 0; place < kPlaces; ++place) {
    const int64_t first = (blocks - here) * place / (kPlaces - 1);
    const auto part = std::span(values).first(static_cast<size_t>(here * kBlock));
    checkpoint.read(entry, first * 2 * kBlock, std::as_writable_bytes(part));
    for (int64_t i = 0; i < here; ++i) {
      const uint16_t* block = values.data() + i * kBlock;
      uint8_t codes[kBlock];
      uint16_t scale;
      if (!recover_codes(block, codes, &scale)) return false;
      is_telling |= kBlock - std::count(codes, codes + kBlock, 8) >= kTelling;
    }
  }
  return is_telling;
}

}  // namespace

std::vector<std::string> find_lattices(const Checkpoint& checkpoint, const ModelPlan& plan,
                                       const std::set<TensorClass>& classes) {
  ModelWeights weights;
  std::set<std::string> seen;
  std::vector<std::string> found;
  for (const BoundTensor& bound : bind_tensors(checkpoint, plan, weights)) {
    const TensorEntry& entry = *bound.entry;
    if (bound.matrix == nullptr || !classes.contains(bound.tensor_class) || entry.dtype != "BF16" ||
        bound.shape.back() % kBlock != 0 || !seen.insert(entry.name).second) {
      continue;
    }
    if (is_sample_on_lattice(checkpoint, entry)) found.push_back(entry.name);
  }
  return found;
}

}  // namespace cabochon
