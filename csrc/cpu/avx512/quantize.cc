// float32 rows to int8 with one scale a granule, AVX-512.
//
// Math      quantize_rows in cpu/kernels.h; cpu/scalar/quantize.cc defines it and says why.
// Numerics  same bits as scalar: vcvtps2dq rounds half to even.
#include "cpu/avx512/avx512.h"

namespace cabochon::cpu::avx512_tier {
namespace {

constexpr uint32_t kInfinityBits = 0x7f800000;
constexpr float kTinyAbsmax = 0x1p-120f;

// Returns the scale of `count` columns, a multiple of 32.
float quantize_granule(int8_t* codes, int32_t* sums, const float* x, size_t count) noexcept {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i bits = _mm512_setzero_si512();
  for (size_t i = 0; i < count; i += kLanes) {
    bits = _mm512_max_epu32(bits, _mm512_and_si512(_mm512_castps_si512(load(x + i)), magnitude));
  }
  const uint32_t largest = _mm512_reduce_max_epu32(bits);
  float absmax;
  __builtin_memcpy(&absmax, &largest, sizeof absmax);

  const __mmask16 finite = largest < kInfinityBits ? kAllLanes : __mmask16{0};
  const __m512 factor = _mm512_set1_ps(absmax < kTinyAbsmax ? 0.0f : 127.0f / absmax);
  for (size_t i = 0; i < count; i += kSumColumns) {
    const __m512i low = _mm512_maskz_cvtps_epi32(finite, _mm512_mul_ps(load(x + i), factor));
    const __m512i high =
        _mm512_maskz_cvtps_epi32(finite, _mm512_mul_ps(load(x + i + kLanes), factor));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), _mm512_cvtepi32_epi8(low));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i + kLanes), _mm512_cvtepi32_epi8(high));
    *sums++ = _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
  }
  return finite ? absmax / 127.0f : __builtin_nanf("");
}

void quantize_rows(int8_t* codes, float* scales, int32_t* sums, const float* x, size_t tokens,
                   size_t cols, size_t granule) noexcept {
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t k = 0; k < cols; k += granule) {
      const size_t count = cols - k < granule ? cols - k : granule;
      *scales++ = quantize_granule(codes, sums, x, count);
      codes += count;
      sums += count / kSumColumns;
      x += count;
    }
  }
}

}  // namespace

void install_quantize(Kernels& kernels) noexcept { kernels.quantize_rows = quantize_rows; }

}  // namespace cabochon::cpu::avx512_tier
