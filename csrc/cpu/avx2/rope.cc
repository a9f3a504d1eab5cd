// Rotary position embedding of one head, AVX2.
//
// Math      rope in cpu/kernels.h; cpu/scalar/rope.cc defines it.
// Numerics  same bits as scalar; no fma.
#include "cpu/avx2/avx2.h"

namespace cabochon::cpu::avx2_tier {
namespace {

void rope(float* x, const float* cos, const float* sin, size_t head_dim, size_t pairs) noexcept {
  float* y = x + head_dim / 2;
  for_each_vector(pairs, [=](size_t i, size_t count) {
    const __m256 a = load(x + i, count);
    const __m256 b = load(y + i, count);
    const __m256 c = load(cos + i, count);
    const __m256 s = load(sin + i, count);
    store(x + i, _mm256_sub_ps(_mm256_mul_ps(a, c), _mm256_mul_ps(b, s)), count);
    store(y + i, _mm256_add_ps(_mm256_mul_ps(b, c), _mm256_mul_ps(a, s)), count);
  });
}

}  // namespace

void install_rope(Kernels& kernels) noexcept { kernels.rope = rope; }

}  // namespace cabochon::cpu::avx2_tier
