// float32 rows to int8 with one scale a granule, AVX2.
//
// Math      quantize_rows in cpu/kernels.h; cpu/scalar/quantize.cc defines it and says why.
// Numerics  same bits as scalar: vcvtps2dq rounds half to even.
#include "cpu/avx2/avx2.h"

namespace cabochon::cpu::avx2_tier {
namespace {

constexpr uint32_t kInfinityBits = 0x7f800000;
constexpr float kTinyAbsmax = 0x1p-120f;

inline uint32_t largest_lane(__m256i x) {
  __m128i largest = _mm_max_epu32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  largest = _mm_max_epu32(largest, _mm_shuffle_epi32(largest, 0x4e));
  largest = _mm_max_epu32(largest, _mm_shuffle_epi32(largest, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(largest));
}

inline int32_t add_all(__m256i x) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

// Returns the scale of `count` columns, a multiple of 32.
float quantize_granule(int8_t* codes, int32_t* sums, const float* x, size_t count) noexcept {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i bits = _mm256_setzero_si256();
  for (size_t i = 0; i < count; i += kWidth) {
    bits = _mm256_max_epu32(bits, _mm256_and_si256(_mm256_castps_si256(load(x + i)), magnitude));
  }
  const uint32_t largest = largest_lane(bits);
  float absmax;
  __builtin_memcpy(&absmax, &largest, sizeof absmax);

  const bool finite = largest < kInfinityBits;
  const __m256i kept = _mm256_set1_epi32(finite ? -1 : 0);
  const __m256 factor = _mm256_set1_ps(absmax < kTinyAbsmax ? 0.0f : 127.0f / absmax);
  // Packing works within halves of a register: this brings four columns each back in order.
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (size_t i = 0; i < count; i += kSumColumns) {
    __m256i code[4];
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j) {
      const __m256 scaled = _mm256_mul_ps(load(x + i + j * kWidth), factor);
      code[j] = _mm256_and_si256(_mm256_cvtps_epi32(scaled), kept);
    }
    const __m256i low = _mm256_packs_epi32(code[0], code[1]);
    const __m256i high = _mm256_packs_epi32(code[2], code[3]);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), in_order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + i), bytes);
    *sums++ = add_all(
        _mm256_add_epi32(_mm256_add_epi32(code[0], code[1]), _mm256_add_epi32(code[2], code[3])));
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

}  // namespace cabochon::cpu::avx2_tier
