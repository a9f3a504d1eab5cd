// Number types of tensors in files and in memory.
#pragma once

#include <cstdint>
#include <ostream>
#include <string_view>

#include "base/error.h"

namespace cabochon {

enum class Dtype : uint8_t { kF32, kBf16, kF16, kI8, kU8, kI32, kI64 };

struct DtypeFacts {
  Dtype dtype;
  std::string_view name;  // as in a safetensors header
  int64_t bytes;          // of one element
};

inline constexpr DtypeFacts kDtypes[] = {
    {Dtype::kF32, "F32", 4}, {Dtype::kBf16, "BF16", 2}, {Dtype::kF16, "F16", 2},
    {Dtype::kI8, "I8", 1},   {Dtype::kU8, "U8", 1},     {Dtype::kI32, "I32", 4},
    {Dtype::kI64, "I64", 8},
};

inline const DtypeFacts& facts(Dtype dtype) { return kDtypes[static_cast<int>(dtype)]; }
inline int64_t byte_size(Dtype dtype) { return facts(dtype).bytes; }

inline std::ostream& operator<<(std::ostream& out, Dtype dtype) { return out << facts(dtype).name; }

// Null for a type the core does not compute with (float8, bool, ...).
inline const DtypeFacts* find_dtype(std::string_view name) {
  for (const DtypeFacts& row : kDtypes) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

}  // namespace cabochon
