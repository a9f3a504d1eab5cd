// A view of contiguous numbers: type, shape, address. Owns nothing; valid while its owner is.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "base/shape.h"

namespace cabochon {

struct Tensor {
  Dtype dtype = Dtype::kF32;
  Shape shape;
  void* data = nullptr;

  int64_t bytes() const { return shape.elements() * byte_size(dtype); }
  bool empty() const { return data == nullptr; }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  float* floats() const { return as<float>(); }

  // The first `count` entries of the outermost axis.
  Tensor first(int64_t count) const { return rows(0, count); }

  // Entries [begin, begin + count) of the outermost axis.
  Tensor rows(int64_t begin, int64_t count) const {
    int64_t sizes[Shape::kMaxRank] = {};
    for (int axis = 0; axis < shape.rank(); ++axis) sizes[axis] = shape[axis];
    const int64_t row = shape[0] == 0 ? 0 : bytes() / shape[0];
    sizes[0] = count;
    return {dtype, Shape(std::span<const int64_t>(sizes, static_cast<size_t>(shape.rank()))),
            as<std::byte>() + begin * row};
  }
};

// The same memory seen in another shape; of a buffer, its front.
inline Tensor reshape(const Tensor& tensor, const Shape& shape) {
  return {tensor.dtype, shape, tensor.data};
}

}  // namespace cabochon
