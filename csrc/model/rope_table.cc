#include "model/rope_table.h"

#include <cmath>

namespace cabochon {

RopeTable::RopeTable(float theta, float scaling, int head_dim, int pairs) {
  frequencies_.reserve(static_cast<size_t>(pairs));
  for (int i = 0; i < pairs; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    const auto power = static_cast<float>(std::pow(double{theta}, double{exponent}));
    frequencies_.push_back(1.0f / power / scaling);
  }
}

void RopeTable::fill(std::span<const int64_t> positions, Tensor cos, Tensor sin) const {
  float* cosines = cos.floats();
  float* sines = sin.floats();
  for (const int64_t position : positions) {
    for (const float frequency : frequencies_) {
      const float angle = static_cast<float>(position) * frequency;
      *cosines++ = static_cast<float>(std::cos(double{angle}));
      *sines++ = static_cast<float>(std::sin(double{angle}));
    }
  }
}

}  // namespace cabochon
