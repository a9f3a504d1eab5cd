#include "weights/quantized_weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "base/bf16.h"
#include "base/thread_pool.h"
#include "weights/pack.h"
#include "weights/quantize.h"

namespace cabochon {
namespace {

const Format& format_named(const std::string& name) {
  for (const Format* format : {&kInt4Format, &kInt8Format, &kBf16Format}) {
    if (format->name == name) return *format;
  }
  throw InvalidArgument(text("format is '", name, "', expected 'int4', 'int8' or 'bf16'"));
}

void check(const Shape& shape, const Format& format) {
  const int rank = shape.rank();
  if (rank < 2) throw InvalidArgument(text("weight is ", shape, ", expected [..., out, in]"));
  if (shape.elements() == 0) {
    throw InvalidArgument(text("weight is ", shape, ", expected at least one number"));
  }
  if (format.block != 0 && shape.back() % 32 != 0) {
    throw InvalidArgument(text("weight is ", shape, ", expected an 'in' that is a multiple of 32: ",
                               format.name, " is kept in runs of 32 columns"));
  }
}

// Rounds to bf16. Returns -1, or the index of the first number that bf16 cannot hold.
int64_t round_to_bf16(const float* numbers, int64_t count, uint16_t* bits) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(numbers[i])) return i;
    bits[i] = nearest_bf16(numbers[i]);
    if (!std::isfinite(bf16_to_float(bits[i]))) return i;
  }
  return -1;
}

std::string place_of(int64_t element, const Shape& shape) {
  std::vector<int64_t> place(static_cast<size_t>(shape.rank()));
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    place[static_cast<size_t>(axis)] = element % shape[axis];
    element /= shape[axis];
  }
  return text(Shape(std::span<const int64_t>(place)));
}

float element(const Tensor& weight, int64_t i) {
  return weight.dtype == Dtype::kF32 ? weight.floats()[i] : bf16_to_float(weight.as<uint16_t>()[i]);
}

}  // namespace

QuantizedWeight::QuantizedWeight(const Tensor& weight, const std::string& name, SearchInt4 search,
                                 int threads)
    : shape_(weight.shape) {
  const Format& format = format_named(name);
  check(shape_, format);
  const int rank = shape_.rank();
  const int64_t rows = shape_[rank - 2], cols = shape_.back();
  const int64_t count = shape_.elements() / (rows * cols);
  const int64_t panels = (rows + kPanelRows - 1) / kPanelRows;
  const bool is_packed = format.block != 0;
  const int64_t panel = is_packed ? panel_bytes(format, cols) : 0;
  const int64_t stride = is_packed ? panels * panel : rows * cols * byte_size(format.dtype);
  buffer_ = Buffer(count * stride);
  packed_ = {.format = &format,
             .rows = rows,
             .cols = cols,
             .count = count,
             .stride = stride,
             .data = buffer_.data(),
             .panel_bytes = panel};

  std::vector<int64_t> failures(static_cast<size_t>(count * panels), -1);
  std::vector<std::vector<float>> wide(static_cast<size_t>(threads));
  if (weight.dtype != Dtype::kF32) {
    for (auto& buffer : wide) buffer.resize(static_cast<size_t>(kPanelRows * cols));
  }
  ThreadPool::shared().parallel_for(threads, count * panels, 1, [&](RowRange range) noexcept {
    for (int64_t item = range.begin; item < range.end; ++item) {
      const int64_t row = item % panels * kPanelRows;
      const int64_t here = std::min(kPanelRows, rows - row);
      const int64_t first = (item / panels * rows + row) * cols;
      const float* numbers = nullptr;
      if (weight.dtype == Dtype::kF32) {
        numbers = weight.floats() + first;
      } else {
        float* buffer = wide[static_cast<size_t>(range.thread)].data();
        for (int64_t i = 0; i < here * cols; ++i) buffer[i] = element(weight, first + i);
        numbers = buffer;
      }
      std::byte* out = buffer_.data() + item / panels * stride;
      const int64_t bad =
          is_packed
              ? quantize_panel(format, numbers, here, cols, {.search = search},
                               out + item % panels * panel)
              : round_to_bf16(numbers, here * cols, reinterpret_cast<uint16_t*>(out) + row * cols);
      if (bad >= 0) failures[static_cast<size_t>(item)] = first + bad;
    }
  });
  const auto failed =
      std::find_if(failures.begin(), failures.end(), [](int64_t i) { return i >= 0; });
  if (failed != failures.end()) {
    throw InvalidArgument(text("weight: ", place_of(*failed, shape_), " is ",
                               element(weight, *failed), ", which ", format.name,
                               " cannot hold; expected a finite number"));
  }
}

void QuantizedWeight::unpack(std::byte* codes, uint16_t* scales) const noexcept {
  const PackedWeight& w = packed_;
  if (w.format->block == 0) {
    std::memcpy(codes, buffer_.data(), static_cast<size_t>(buffer_.bytes()));
    return;
  }
  const int64_t blocks = blocks_of(*w.format, w.cols);
  for (int64_t index = 0; index < w.count; ++index) {
    const LogicalTensor matrix{w.format,
                               w.rows,
                               w.cols,
                               {w.format->dtype, {w.rows, w.cols}, codes + index * w.rows * w.cols},
                               {Dtype::kBf16, {w.rows, blocks}, scales + index * w.rows * blocks}};
    ::cabochon::unpack(w.at(index, 0), matrix);
  }
}

void QuantizedWeight::dequantize(float* numbers) const {
  const PackedWeight& w = packed_;
  if (w.format->block == 0) {
    const auto* bits = reinterpret_cast<const uint16_t*>(buffer_.data());
    for (int64_t i = 0; i < shape_.elements(); ++i) numbers[i] = bf16_to_float(bits[i]);
    return;
  }
  const int64_t blocks = blocks_of(*w.format, w.cols), rows = w.count * w.rows;
  std::vector<std::byte> codes(static_cast<size_t>(rows * w.cols));
  std::vector<uint16_t> scales(static_cast<size_t>(rows * blocks));
  unpack(codes.data(), scales.data());
  ::cabochon::dequantize({w.format,
                          rows,
                          w.cols,
                          {w.format->dtype, {rows, w.cols}, codes.data()},
                          {Dtype::kBf16, {rows, blocks}, scales.data()}},
                         numbers);
}

}  // namespace cabochon
