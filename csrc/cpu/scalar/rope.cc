// Rotary position embedding of one head, the definition.
//
// Math      rope in cpu/kernels.h: pairs (i, i + head_dim / 2) turn by the angle of cos[i], sin[i].
// Numerics  two products and one sum, each rounded, as the reference does; no fma.
#include "cpu/scalar/scalar.h"

namespace cabochon::cpu::scalar_tier {
namespace {

void rope(float* x, const float* cos, const float* sin, size_t head_dim, size_t pairs) noexcept {
  float* y = x + head_dim / 2;
  for (size_t i = 0; i < pairs; ++i) {
    const float a = x[i];
    const float b = y[i];
    x[i] = a * cos[i] - b * sin[i];
    y[i] = b * cos[i] + a * sin[i];
  }
}

}  // namespace

void install_rope(Kernels& kernels) noexcept { kernels.rope = rope; }

}  // namespace cabochon::cpu::scalar_tier
