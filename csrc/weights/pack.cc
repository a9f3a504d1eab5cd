#include "weights/pack.h"

#include <algorithm>
#include <cstring>

namespace cabochon {
namespace {

// Codes move as quads: four columns of one row, column `4 q` in the lowest byte.
constexpr int64_t kQuadBytes = 4;
constexpr int64_t kQuadRowBytes = kPanelRows * kQuadBytes;  // one quad of each row

// An int8 code as the unsigned number + 128.
constexpr uint32_t kFlipSigns = 0x80808080u;

bool is_int4(const Format& format) { return format.dtype == Dtype::kU8; }

template <typename T>
T load(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename T>
void store(void* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

// Where one row of one unit lies. Only the last unit of a panel can be short, so the full size
// finds every one.
struct UnitRow {
  int64_t cols;   // of the unit
  int64_t codes;  // byte of the row's first quad, or pair of quads, in the panel
  int64_t scale;  // byte of its scale
};

UnitRow unit_row(const Format& format, int64_t row, int64_t col, int64_t cols) {
  const int64_t width = std::min<int64_t>(format.block, cols - col);
  const int64_t bytes = is_int4(format) ? kInt4UnitBytes : kInt8UnitBytes;
  const int64_t unit = col / format.block * bytes;
  const int64_t code_bytes = is_int4(format) ? kPanelRows * width / 2 : kPanelRows * width;
  return {width, unit + row * kQuadBytes, unit + code_bytes + row * 2};
}

}  // namespace

int64_t panel_bytes(const Format& format, int64_t cols) {
  const int64_t code_bytes = is_int4(format) ? kPanelRows * cols / 2 : kPanelRows * cols;
  return code_bytes + blocks_of(format, cols) * kScaleBytes;
}

int64_t packed_bytes(const Format& format, int64_t rows, int64_t cols) {
  return (rows + kPanelRows - 1) / kPanelRows * panel_bytes(format, cols);
}

void pack_block(const Format& format, const uint8_t* codes, uint16_t scale, int64_t row,
                int64_t col, int64_t cols, std::byte* panel) noexcept {
  const UnitRow at = unit_row(format, row, col, cols);
  std::byte* to = panel + at.codes;
  if (is_int4(format)) {
    for (int64_t i = 0; i < at.cols; i += 8, to += kQuadRowBytes) {
      store(to, load<uint32_t>(codes + i) | load<uint32_t>(codes + i + 4) << 4);
    }
  } else {
    for (int64_t i = 0; i < at.cols; i += 4, to += kQuadRowBytes) {
      store(to, load<uint32_t>(codes + i) ^ kFlipSigns);
    }
  }
  store(panel + at.scale, scale);
}

void pad_panel(const Format& format, int64_t rows, int64_t cols, std::byte* panel) noexcept {
  uint8_t zeros[128];
  std::fill_n(zeros, 128, static_cast<uint8_t>(is_int4(format) ? 8 : 0));
  for (int64_t row = rows; row < kPanelRows; ++row) {
    for (int64_t col = 0; col < cols; col += format.block) {
      pack_block(format, zeros, 0, row, col, cols, panel);
    }
  }
}

void pack_panel(const Format& format, const uint8_t* codes, const uint16_t* scales, int64_t rows,
                int64_t cols, std::byte* panel) noexcept {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; col += format.block) {
      pack_block(format, codes + row * cols + col, *scales++, row, col, cols, panel);
    }
  }
  pad_panel(format, rows, cols, panel);
}

void unpack_panel(const Format& format, const std::byte* panel, int64_t rows, int64_t cols,
                  uint8_t* codes, uint16_t* scales) noexcept {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; col += format.block) {
      const UnitRow at = unit_row(format, row, col, cols);
      const std::byte* from = panel + at.codes;
      uint8_t* to = codes + row * cols + col;
      if (is_int4(format)) {
        for (int64_t i = 0; i < at.cols; i += 8, from += kQuadRowBytes) {
          const uint32_t pairs = load<uint32_t>(from);
          store(to + i, pairs & 0x0f0f0f0fu);
          store(to + i + 4, pairs >> 4 & 0x0f0f0f0fu);
        }
      } else {
        for (int64_t i = 0; i < at.cols; i += 4, from += kQuadRowBytes) {
          store(to + i, load<uint32_t>(from) ^ kFlipSigns);
        }
      }
      *scales++ = load<uint16_t>(panel + at.scale);
    }
  }
}

void pack(const LogicalTensor& logical, std::byte* panels) noexcept {
  const Format& format = *logical.format;
  const int64_t blocks = blocks_of(format, logical.cols);
  for (int64_t row = 0; row < logical.rows; row += kPanelRows) {
    pack_panel(format, logical.codes.as<uint8_t>() + row * logical.cols,
               logical.scales.as<uint16_t>() + row * blocks,
               std::min(kPanelRows, logical.rows - row), logical.cols, panels);
    panels += panel_bytes(format, logical.cols);
  }
}

void unpack(const std::byte* panels, const LogicalTensor& out) noexcept {
  const Format& format = *out.format;
  const int64_t blocks = blocks_of(format, out.cols);
  for (int64_t row = 0; row < out.rows; row += kPanelRows) {
    unpack_panel(format, panels, std::min(kPanelRows, out.rows - row), out.cols,
                 out.codes.as<uint8_t>() + row * out.cols,
                 out.scales.as<uint16_t>() + row * blocks);
    panels += panel_bytes(format, out.cols);
  }
}

}  // namespace cabochon
