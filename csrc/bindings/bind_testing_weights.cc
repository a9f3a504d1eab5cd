// _core.testing: the weight formats on arrays. A panel is written between guard bytes.
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "bindings/convert.h"
#include "bindings/testing.h"
#include "engine/devices.h"
#include "model/tensors.h"
#include "weights/lattice.h"
#include "weights/pack.h"
#include "weights/quantize.h"
#include "weights/row_source.h"

namespace cabochon {
namespace {

using Codes = py::array;  // uint8 for int4, int8 for int8

const Format& format_named(const std::string& name) {
  for (const Format* format : {&kInt4Format, &kInt8Format}) {
    if (format->name == name) return *format;
  }
  throw InvalidArgument(text("format: found '", name, "', expected 'int4' or 'int8'"));
}

int64_t rows_of(const py::array& matrix) {
  require(matrix.ndim() == 2, "expected a matrix");
  return matrix.shape(0);
}

int64_t cols_of(const py::array& matrix) {
  require(matrix.ndim() == 2 && matrix.shape(1) % 32 == 0, "columns are a multiple of 32");
  return matrix.shape(1);
}

// A logical tensor over two arrays.
LogicalTensor logical_over(const Format& format, const Codes& codes,
                           const Array<uint16_t>& scales) {
  const int64_t rows = rows_of(codes), cols = cols_of(codes);
  require((codes.flags() & py::array::c_style) != 0 && codes.itemsize() == 1 &&
              codes.dtype().kind() == (&format == &kInt4Format ? 'u' : 'i'),
          "codes are contiguous uint8 for int4, int8 for int8");
  require(rows_of(scales) == rows && scales.shape(1) == blocks_of(format, cols),
          "scales are [rows, blocks]");
  return {&format,
          rows,
          cols,
          {format.dtype, {rows, cols}, const_cast<void*>(codes.data())},
          {Dtype::kBf16, {rows, scales.shape(1)}, const_cast<uint16_t*>(scales.data())}};
}

struct Owned {
  Codes codes;
  Array<uint16_t> scales;
  LogicalTensor logical;
};

Owned make_logical(const Format& format, int64_t rows, int64_t cols) {
  const py::dtype type =
      &format == &kInt4Format ? py::dtype::of<uint8_t>() : py::dtype::of<int8_t>();
  Codes codes(type, {rows, cols});
  Array<uint16_t> scales({rows, blocks_of(format, cols)});
  const LogicalTensor logical = logical_over(format, codes, scales);
  return {codes, scales, logical};
}

py::tuple quantize_rows(const std::string& name, const Array<float>& weights) {
  const Owned out = make_logical(format_named(name), rows_of(weights), cols_of(weights));
  quantize(weights.data(), out.logical);
  return py::make_tuple(out.codes, out.scales);
}

Array<float> dequantize_rows(const std::string& name, const Codes& codes,
                             const Array<uint16_t>& scales) {
  const LogicalTensor logical = logical_over(format_named(name), codes, scales);
  Array<float> out({logical.rows, logical.cols});
  dequantize(logical, out.mutable_data());
  return out;
}

// `bytes` bytes that `write` fills, between guards that it must leave alone.
template <typename Write>
Array<uint8_t> guarded(int64_t bytes, const Write& write) {
  constexpr int64_t kGuard = 4224;  // more than a unit
  constexpr uint8_t kUntouched = 0xa5;
  std::vector<uint8_t> memory(static_cast<size_t>(bytes + 2 * kGuard), kUntouched);
  write(reinterpret_cast<std::byte*>(memory.data() + kGuard));
  const auto is_guard = [&](uint8_t byte) { return byte == kUntouched; };
  if (!std::all_of(memory.begin(), memory.begin() + kGuard, is_guard) ||
      !std::all_of(memory.end() - kGuard, memory.end(), is_guard)) {
    throw std::runtime_error("testing: a panel was written outside its bytes");
  }
  Array<uint8_t> out(bytes);
  std::copy_n(memory.data() + kGuard, bytes, out.mutable_data());
  return out;
}

Array<uint8_t> pack_matrix(const std::string& name, const Codes& codes,
                           const Array<uint16_t>& scales) {
  const LogicalTensor logical = logical_over(format_named(name), codes, scales);
  return guarded(packed_bytes(*logical.format, logical.rows, logical.cols),
                 [&](std::byte* panels) { pack(logical, panels); });
}

py::tuple unpack_matrix(const std::string& name, const Array<uint8_t>& panels, int64_t rows,
                        int64_t cols) {
  const Format& format = format_named(name);
  require(cols % 32 == 0 && panels.size() == packed_bytes(format, rows, cols),
          "panels have another size");
  const Owned out = make_logical(format, rows, cols);
  unpack(reinterpret_cast<const std::byte*>(panels.data()), out.logical);
  return py::make_tuple(out.codes, out.scales);
}

// The panel, and what quantize_panel returned. With `is_searched` the scales are searched for by
// the tier of this process.
py::tuple quantize_one_panel(const std::string& name, const Array<float>& weights, bool is_searched,
                             const std::optional<Array<float>>& importance) {
  const Format& format = format_named(name);
  const int64_t rows = rows_of(weights), cols = cols_of(weights);
  require(1 <= rows && rows <= kPanelRows, "a panel has 1 to 32 rows");
  require(!importance.has_value() || importance->size() == cols, "importance is [cols]");
  const ScaleSearch scales{.search = is_searched ? make_ops("cpu", 1)->search_int4() : nullptr,
                           .importance = importance.has_value() ? importance->data() : nullptr};
  int64_t index = 0;
  const Array<uint8_t> panel = guarded(panel_bytes(format, cols), [&](std::byte* to) {
    index = quantize_panel(format, weights.data(), rows, cols, scales, to);
  });
  return py::make_tuple(panel, index);
}

// For each block of 32 whether it was recovered, its codes and its scale; a block that was not
// keeps 0xff and 0xffff.
template <auto kRecover>
py::tuple recover(const Array<uint16_t>& values) {
  require(cols_of(values) == 32, "expected blocks of 32");
  const py::ssize_t blocks = values.shape(0);
  Array<bool> recovered(blocks);
  Array<uint8_t> codes({blocks, py::ssize_t{32}});
  Array<uint16_t> scales(blocks);
  std::fill_n(codes.mutable_data(), codes.size(), uint8_t{0xff});
  std::fill_n(scales.mutable_data(), scales.size(), uint16_t{0xffff});
  for (py::ssize_t i = 0; i < blocks; ++i) {
    recovered.mutable_data()[i] =
        kRecover(values.data() + 32 * i, codes.mutable_data() + 32 * i, scales.mutable_data() + i);
  }
  return py::make_tuple(recovered, codes, scales);
}

// What recover_panel leaves of a panel of 0xff, its counts, and the first block that is off.
py::tuple recover_one_panel(const Array<uint16_t>& values) {
  const int64_t rows = rows_of(values), cols = cols_of(values);
  require(1 <= rows && rows <= kPanelRows, "a panel has 1 to 32 rows");
  const int64_t bytes = panel_bytes(kInt4Format, cols);
  RecoveredBlocks found;
  const Array<uint8_t> panel = guarded(bytes, [&](std::byte* to) {
    std::memset(to, 0xff, static_cast<size_t>(bytes));
    found = recover_panel(values.data(), rows, cols, to);
  });
  return py::make_tuple(panel, py::make_tuple(found.exact, found.nearest_scale, found.off),
                        found.first_off);
}

Array<uint8_t> unpack_words(const Array<int32_t>& words) {
  const int64_t rows = rows_of(words), cols = words.shape(1) * 8;
  Array<uint8_t> codes({rows, cols});
  unpack_w4a16(words.data(), rows, cols, codes.mutable_data());
  return codes;
}

// Rows of a tensor through a RowSource: those of `whole` entirely, of the others `front` columns;
// bytes [ids, columns * element], 0xa5 where nothing was written, and the failures. place: "disk"
// or "memory"; rounded to `format` where that is not empty, on disk to the file `packed`, which is
// read where it exists and else written.
py::tuple gather_rows(const std::shared_ptr<Checkpoint>& checkpoint, const std::string& name,
                      const std::string& place, const std::string& format,
                      const Array<int32_t>& ids, const Array<int32_t>& whole, int64_t front,
                      int threads, const std::string& packed) {
  const TensorEntry* entry = checkpoint->find(name);
  require(entry != nullptr, "no such tensor");
  const Tensor table = checkpoint->view(*entry);
  const RowLayout layout{.stored = table.dtype,
                         .format = format.empty() ? nullptr : &format_named(format),
                         .columns = table.shape.back()};
  const ThreadPool::Lease lease(ThreadPool::shared(), threads);
  std::vector<std::byte> rows;
  std::optional<PackedFile> file;
  std::optional<RowSource> source;
  if (place == "memory") {
    rows.resize(static_cast<size_t>(table.shape[0] * layout.row_bytes()));
    load_rows(*checkpoint, *entry, layout, 0, rows, threads);
    source.emplace(layout, rows.data(), threads, ids.size());
  } else if (layout.format == nullptr) {
    source.emplace(layout, checkpoint->file(*entry), entry->begin, threads, ids.size());
  } else {
    if (!std::filesystem::exists(packed)) {
      write_rows(*checkpoint, *entry, layout, {.path = packed, .key = {}, .about = {}}, threads,
                 [](int64_t, int64_t) {});
    }
    file.emplace(packed);
    source.emplace(layout, file->file(), file->data_begin(), threads, ids.size());
  }
  const int64_t row_bytes = layout.columns * byte_size(source->dtype());
  Array<uint8_t> failures(ids.size());
  std::fill_n(failures.mutable_data(), failures.size(), uint8_t{0});
  const Array<uint8_t> out = guarded(ids.size() * row_bytes, [&](std::byte* to) {
    source->gather({.ids = view(ids),
                    .whole = view(whole),
                    .front = front,
                    .out = to,
                    .failures = mutable_view(failures)});
  });
  return py::make_tuple(out, failures);
}

}  // namespace

void bind_testing_weights(py::module_& module) {
  using py::arg;
  module.def("quantize", &quantize_rows, arg("format"), arg("weights").noconvert());
  module.def("dequantize", &dequantize_rows, arg("format"), arg("codes").noconvert(),
             arg("scales").noconvert());
  module.def("granule_of", &granule_of, arg("name"));
  module.def("pack", &pack_matrix, arg("format"), arg("codes").noconvert(),
             arg("scales").noconvert());
  module.def("unpack", &unpack_matrix, arg("format"), arg("panels").noconvert(), arg("rows"),
             arg("cols"));
  module.def("quantize_panel", &quantize_one_panel, arg("format"), arg("weights").noconvert(),
             arg("is_searched") = false, arg("importance") = py::none());
  module.def("gather_rows", &gather_rows, arg("checkpoint"), arg("name"), arg("place"),
             arg("format"), arg("ids").noconvert(), arg("whole").noconvert(), arg("front"),
             arg("threads"), arg("packed") = "");
  module.def("recover_blocks", &recover<recover_block>, arg("values").noconvert());
  module.def("recover_codes", &recover<recover_codes>, arg("values").noconvert());
  module.def("recover_panel", &recover_one_panel, arg("values").noconvert());
  module.def("unpack_w4a16", &unpack_words, arg("words").noconvert());
  module.def("packed_bytes", [](const std::string& name, int64_t rows, int64_t cols) {
    return packed_bytes(format_named(name), rows, cols);
  });
}

}  // namespace cabochon
