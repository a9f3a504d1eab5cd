// int8 weights x rounded activations, the definition.
//
// Math      matmul_int8 in cpu/kernels.h; order and layout: integer.h.
#include "cpu/scalar/integer.h"

namespace cabochon::cpu::scalar_tier {
namespace {

struct Int8 {
  static constexpr size_t kBlock = kInt8Block;
  static constexpr size_t kUnitBytes = kInt8UnitBytes;
  static constexpr size_t kColumnBytes = kPanelRows;

  static int32_t weight(const uint8_t* unit, size_t row, size_t col) noexcept {
    return unit[128 * (col / 4) + 4 * row + col % 4] - 128;
  }
};

}  // namespace

void install_matmul_int8(Kernels& kernels) noexcept { kernels.matmul_int8 = matmul<Int8>; }

}  // namespace cabochon::cpu::scalar_tier
