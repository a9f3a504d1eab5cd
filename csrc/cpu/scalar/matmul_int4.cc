// int4 weights x rounded activations, the definition.
//
// Math      matmul_int4 in cpu/kernels.h; order and layout: integer.h.
#include "cpu/scalar/integer.h"

namespace cabochon::cpu::scalar_tier {
namespace {

struct Int4 {
  static constexpr size_t kBlock = kInt4Block;
  static constexpr size_t kUnitBytes = kInt4UnitBytes;
  static constexpr size_t kColumnBytes = kPanelRows / 2;

  static int32_t weight(const uint8_t* unit, size_t row, size_t col) noexcept {
    const size_t vector = 2 * (col / 8) + row / 16;
    const uint8_t byte = unit[64 * vector + 4 * (row % 16) + col % 4];
    return (col % 8 < 4 ? byte & 15 : byte >> 4) - 8;
  }
};

}  // namespace

void install_matmul_int4(Kernels& kernels) noexcept { kernels.matmul_int4 = matmul<Int4>; }

}  // namespace cabochon::cpu::scalar_tier
