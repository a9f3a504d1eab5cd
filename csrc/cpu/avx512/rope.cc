// Rotary position embedding of one head, AVX-512.
//
// Math      rope in cpu/kernels.h; cpu/scalar/rope.cc defines it.
// Numerics  same bits as scalar; no fma.
#include "cpu/avx512/avx512.h"

namespace cabochon::cpu::avx512_tier {
namespace {

void rope(float* x, const float* cos, const float* sin, size_t head_dim, size_t pairs) noexcept {
  float* y = x + head_dim / 2;
  for_each_block(pairs, [=](size_t i, __mmask16 lanes) {
    const __m512 a = load(x + i, lanes);
    const __m512 b = load(y + i, lanes);
    const __m512 c = load(cos + i, lanes);
    const __m512 s = load(sin + i, lanes);
    store(x + i, _mm512_sub_ps(_mm512_mul_ps(a, c), _mm512_mul_ps(b, s)), lanes);
    store(y + i, _mm512_add_ps(_mm512_mul_ps(b, c), _mm512_mul_ps(a, s)), lanes);
  });
}

}  // namespace

void install_rope(Kernels& kernels) noexcept { kernels.rope = rope; }

}  // namespace cabochon::cpu::avx512_tier
