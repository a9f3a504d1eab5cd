#include "weights/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/bf16.h"
#include "weights/pack.h"

namespace cabochon {
namespace {

constexpr int64_t kStep = 32;  // columns: what every block is a multiple of

struct Grid {
  float divisor;    // scale = absmax / divisor
  float low, high;  // of the numbers
  float zero;       // the code of the number 0
};

constexpr Grid kInt4Grid{7.5f, -8.0f, 7.0f, 8.0f};
constexpr Grid kInt8Grid{127.0f, -127.0f, 127.0f, 0.0f};

bool is_int4(const Format& format) { return format.dtype == Dtype::kU8; }
const Grid& grid_of(const Format& format) { return is_int4(format) ? kInt4Grid : kInt8Grid; }

// Bits of the largest magnitude. As integers, because there infinity and NaN are the largest.
uint32_t magnitude_bits(const float* weights, int64_t cols) noexcept {
  int32_t largest = 0;
  for (int64_t begin = 0; begin < cols; begin += kStep) {
    for (int64_t i = 0; i < kStep; ++i) {
      largest = std::max(largest, std::bit_cast<int32_t>(weights[begin + i]) & 0x7fffffff);
    }
  }
  return static_cast<uint32_t>(largest);
}

// One block of one row. False, and nothing written, where a weight is not finite.
bool quantize_block(const Grid& grid, const float* weights, int64_t cols, uint8_t* codes,
                    uint16_t* scale) noexcept {
  const uint32_t bits = magnitude_bits(weights, cols);
  if (bits >= 0x7f800000u) return false;
  *scale = nearest_bf16(std::bit_cast<float>(bits) / grid.divisor);
  const float step = bf16_to_float(*scale);
  if (step == 0.0f) {
    std::fill_n(codes, cols, static_cast<uint8_t>(grid.zero));
    return true;
  }
  // Where one unit in the last place is 1, an addition rounds to the nearest integer, ties to even,
  // and leaves it in the low bits. The code of 0 is even, so it does not change a tie.
  const float shift = 0x1.8p23f + grid.zero;
  const float low = grid.low, high = grid.high;
  for (int64_t begin = 0; begin < cols; begin += kStep) {
    uint8_t rounded[kStep];  // apart, so that the compiler sees that nothing overlaps
    for (int64_t i = 0; i < kStep; ++i) {
      float number = weights[begin + i] / step;
      number = number < high ? number : high;
      number = number > low ? number : low;
      rounded[i] = static_cast<uint8_t>(std::bit_cast<uint32_t>(number + shift));
    }
    std::memcpy(codes + begin, rounded, kStep);
  }
  return true;
}

int64_t first_not_finite(const float* weights, int64_t count) noexcept {
  return std::find_if(weights, weights + count, [](float x) { return !std::isfinite(x); }) -
         weights;
}

// Rows whose largest magnitude is outside of this keep the plain rule: errors and their squares
// would leave the range of float32.
constexpr uint32_t kSmallestSearched = 0x2b800000u;  // 2^-40
constexpr uint32_t kLargestSearched = 0x53800000u;   // 2^40

// As quantize_panel, for int4, unit after unit.
int64_t search_panel(const float* weights, int64_t rows, int64_t cols, const ScaleSearch& scales,
                     std::byte* panel) noexcept {
  constexpr std::array<float, kStep> kOnes = [] {
    std::array<float, kStep> ones{};
    ones.fill(1.0f);
    return ones;
  }();
  float columns[kStep * kPanelRows] = {};
  for (int64_t col = 0; col < cols; col += kStep) {
    uint32_t plain_rows = 0;  // a bit a row
    for (int64_t row = 0; row < rows; ++row) {
      const float* block = weights + row * cols + col;
      const uint32_t bits = magnitude_bits(block, kStep);
      if (bits >= 0x7f800000u) return first_not_finite(weights, rows * cols);
      const bool is_searched = bits >= kSmallestSearched && bits <= kLargestSearched;
      if (!is_searched) plain_rows |= uint32_t{1} << row;
      for (int64_t i = 0; i < kStep; ++i) {
        columns[i * kPanelRows + row] = is_searched ? block[i] : 0.0f;
      }
    }
    auto* unit = reinterpret_cast<uint8_t*>(panel + col / kStep * kInt4UnitBytes);
    scales.search(unit, columns,
                  scales.importance == nullptr ? kOnes.data() : scales.importance + col);
    for (int64_t row = 0; row < rows; ++row) {
      if ((plain_rows >> row & 1u) == 0) continue;
      uint8_t codes[kStep];
      uint16_t scale = 0;
      quantize_block(kInt4Grid, weights + row * cols + col, kStep, codes, &scale);
      pack_block(kInt4Format, codes, scale, row, col, cols, panel);
    }
  }
  pad_panel(kInt4Format, rows, cols, panel);
  return -1;
}

}  // namespace

int64_t quantize_panel(const Format& format, const float* weights, int64_t rows, int64_t cols,
                       const ScaleSearch& scales, std::byte* panel) noexcept {
  if (is_int4(format) && scales.search != nullptr) {
    return search_panel(weights, rows, cols, scales, panel);
  }
  const Grid& grid = grid_of(format);
  uint8_t codes[128];
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; col += format.block) {
      const int64_t count = std::min<int64_t>(format.block, cols - col);
      const float* block = weights + row * cols + col;
      uint16_t scale;
      if (!quantize_block(grid, block, count, codes, &scale)) {
        return row * cols + col + first_not_finite(block, count);
      }
      pack_block(format, codes, scale, row, col, cols, panel);
    }
  }
  pad_panel(format, rows, cols, panel);
  return -1;
}

void quantize(const float* weights, const LogicalTensor& out) {
  const int64_t blocks = blocks_of(*out.format, out.cols);
  for (int64_t row = 0; row < out.rows; ++row) {
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t col = block * out.format->block;
      const int64_t count = std::min<int64_t>(out.format->block, out.cols - col);
      const float* from = weights + row * out.cols + col;
      if (!quantize_block(grid_of(*out.format), from, count,
                          out.codes.as<uint8_t>() + row * out.cols + col,
                          out.scales.as<uint16_t>() + row * blocks + block)) {
        const int64_t i = first_not_finite(from, count);
        throw InvalidArgument(text("weights: [", row, ", ", col + i, "] is ", from[i],
                                   ", expected a finite number: only those can be quantised"));
      }
    }
  }
}

void dequantize(const LogicalTensor& logical, float* weights) noexcept {
  const int64_t blocks = blocks_of(*logical.format, logical.cols);
  const bool is_signed = !is_int4(*logical.format);
  for (int64_t row = 0; row < logical.rows; ++row) {
    const uint16_t* scales = logical.scales.as<uint16_t>() + row * blocks;
    for (int64_t col = 0; col < logical.cols; ++col) {
      const int64_t i = row * logical.cols + col;
      const int number = is_signed ? logical.codes.as<int8_t>()[i]
                                   : static_cast<int>(logical.codes.as<uint8_t>()[i]) - 8;
      weights[i] = static_cast<float>(number) * bf16_to_float(scales[col / logical.format->block]);
    }
  }
}

}  // namespace cabochon
