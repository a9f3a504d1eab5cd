// What the parts of `_core.testing` ask of their arguments. A Python test is their only caller.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

namespace cabochon {

inline void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(std::string("testing: ") + message);
}

inline void require_granule(std::size_t granule) {
  require(granule == 32 || granule == 128, "granule: expected 32 or 128");
}

}  // namespace cabochon
