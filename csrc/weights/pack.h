// Rows of codes to panel32 and back: the bytes that integer matmuls read (docs/formats.md).
//
// A unit is 32 rows of one block of columns: its codes, then 32 scales. A panel is the units of 32
// rows in order of columns; a matrix is its panels. Columns are a multiple of 32 everywhere.
#pragma once

#include <cstddef>
#include <cstdint>

#include "weights/logical.h"

namespace cabochon {

inline constexpr int64_t kScaleBytes = kPanelRows * 2;  // of a unit, after its codes

// Of a unit of int4 and of one of int8 that is not short. cpu/kernels.h states them again, since
// neither may include the other; tests/unit/csrc/weights/test_pack.py multiplies with them.
inline constexpr int64_t kInt4UnitBytes = kPanelRows * 32 / 2 + kScaleBytes;
inline constexpr int64_t kInt8UnitBytes = kPanelRows * 128 + kScaleBytes;

int64_t panel_bytes(const Format& format, int64_t cols);
int64_t packed_bytes(const Format& format, int64_t rows, int64_t cols);

// Up to 32 rows as one panel: codes [rows, cols] (int8: their bytes), scales [rows, blocks]. Rows
// missing to 32 become numbers 0 with scale 0.
void pack_panel(const Format& format, const uint8_t* codes, const uint16_t* scales, int64_t rows,
                int64_t cols, std::byte* panel) noexcept;
void unpack_panel(const Format& format, const std::byte* panel, int64_t rows, int64_t cols,
                  uint8_t* codes, uint16_t* scales) noexcept;

// The parts of pack_panel: the block of one row (0 to 31) that starts at column `col`, and the
// padding of rows `rows` to 31.
void pack_block(const Format& format, const uint8_t* codes, uint16_t scale, int64_t row,
                int64_t col, int64_t cols, std::byte* panel) noexcept;
void pad_panel(const Format& format, int64_t rows, int64_t cols, std::byte* panel) noexcept;

// A whole matrix, packed_bytes long.
void pack(const LogicalTensor& logical, std::byte* panels) noexcept;
void unpack(const std::byte* panels, const LogicalTensor& out) noexcept;

}  // namespace cabochon
