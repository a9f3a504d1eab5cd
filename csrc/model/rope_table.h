// Angles of rotary positions: cos and sin for the positions of a step.
#pragma once

#include <span>
#include <vector>

#include "base/tensor.h"

namespace cabochon {

// Frequencies of one kind of rope: pair i turns by position * f[i] with f[i] = theta^(-2i /
// head_dim) / scaling. Rounded as the reference does it: the power, its inverse and the angle in
// float32 (docs/numerics.md, "Rope"); only cos and sin are taken in double and rounded once.
class RopeTable {
 public:
  RopeTable(float theta, float scaling, int head_dim, int pairs);

  int pairs() const { return static_cast<int>(frequencies_.size()); }

  // cos, sin: [positions, pairs] float32.
  void fill(std::span<const int64_t> positions, Tensor cos, Tensor sin) const;

 private:
  std::vector<float> frequencies_;
};

}  // namespace cabochon
