// bf16 weights x float32 rows, the definition.
//
// Math      matmul_bf16 in cpu/kernels.h: out[t][r] = dot(weight row r, x row t).
// Layout    x [tokens, cols], weight [rows, cols], out [tokens, out_stride]; row-major.
// Numerics  dot in 16 lanes (scalar.h); bf16 is the upper half of a float32: widening is exact.
#include "cpu/scalar/scalar.h"

namespace cabochon::cpu::scalar_tier {
namespace {

void matmul_bf16(float* out, size_t out_stride, const float* x, const uint16_t* weight,
                 size_t tokens, size_t rows, size_t cols) noexcept {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t t = 0; t < tokens; ++t) {
      out[t * out_stride + r] = dot(x + t * cols, weight + r * cols, cols);
    }
  }
}

}  // namespace

void install_matmul_bf16(Kernels& kernels) noexcept { kernels.matmul_bf16 = matmul_bf16; }

}  // namespace cabochon::cpu::scalar_tier
