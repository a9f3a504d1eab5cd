#include "bindings/convert.h"

#include <algorithm>
#include <exception>
#include <new>
#include <vector>

namespace cabochon {
namespace {

// Raises cabochon.errors.<name>(message, **arguments).
void raise(const char* name, const std::string& message, const py::dict& arguments = {}) {
  const py::object type = py::module_::import("cabochon.errors").attr(name);
  const py::object error = type(message, **arguments);
  PyErr_SetObject(type.ptr(), error.ptr());
}

py::object text_or_none(const std::string& value) {
  return value.empty() ? py::object(py::none()) : py::object(py::str(value));
}

void translate(std::exception_ptr pointer) {
  try {
    std::rethrow_exception(pointer);
  } catch (const CheckpointError& error) {
    py::dict arguments;
    arguments["file"] = text_or_none(error.file);
    arguments["tensor"] = text_or_none(error.tensor);
    raise("CheckpointError", error.what(), arguments);
  } catch (const InvalidArgument& error) {
    raise("InvalidArgument", error.what());
  } catch (const OutOfMemory& error) {
    raise("OutOfMemory", error.what());
  } catch (const Unsupported& error) {
    raise("Unsupported", error.what());
  } catch (const DeviceError& error) {
    raise("DeviceError", error.what());
  } catch (const Interrupted&) {
    PyErr_SetNone(PyExc_KeyboardInterrupt);
  } catch (const std::bad_alloc&) {
    raise("OutOfMemory", "the system refused memory to the core");
  } catch (const py::builtin_exception&) {
    throw;  // pybind11's own: wrong argument types and the like
  } catch (const py::error_already_set&) {
    throw;
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, text("a bug in cabochon's core: ", error.what()).c_str());
  }
}

template <typename T>
void read_field(const py::object& from, const char* name, T& field) {
  try {
    field = from.attr(name).cast<T>();
  } catch (const py::cast_error&) {
    throw InvalidArgument(text("plan: ", name, " is ",
                               py::repr(from.attr(name)).cast<std::string>(), ", which is no ",
                               sizeof(T) == 1 ? "bool" : "number in range"));
  }
}

}  // namespace

void register_errors() { py::register_local_exception_translator(&translate); }

Tensor to_tensor(const py::array& array, const char* name) {
  const bool is_float = array.dtype().equal(py::dtype::of<float>());
  const bool is_bf16 = array.dtype().equal(py::dtype::of<uint16_t>());
  if (!is_float && !is_bf16) {
    throw InvalidArgument(text(name, ": found dtype ",
                               py::str(py::object(array.dtype())).cast<std::string>(),
                               ", expected float32 (or bf16 as uint16 bits)"));
  }
  constexpr int kAligned = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if ((array.flags() & py::array::c_style) == 0 || (array.flags() & kAligned) == 0) {
    throw InvalidArgument(text(name, ": the array has strides ",
                               py::repr(array.attr("strides")).cast<std::string>(),
                               ", expected a C-contiguous, aligned one; pass a copy"));
  }
  std::vector<int64_t> sizes(array.shape(), array.shape() + array.ndim());
  return {is_float ? Dtype::kF32 : Dtype::kBf16, Shape(std::span<const int64_t>(sizes)),
          const_cast<void*>(array.data())};
}

Array<float> make_floats(const Shape& shape) {
  std::vector<py::ssize_t> sizes;
  for (int axis = 0; axis < shape.rank(); ++axis) sizes.push_back(shape[axis]);
  return Array<float>(sizes);
}

void make_read_only(py::array& array) {
  py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
}

void construct_in_new(const py::module_& module) {
  for (const auto& [name, member] : py::dict(module.attr("__dict__"))) {
    if (!PyType_Check(member.ptr()) ||
        py::detail::get_type_info(reinterpret_cast<PyTypeObject*>(member.ptr())) == nullptr) {
      continue;
    }
    const auto type = py::reinterpret_borrow<py::object>(member);
    const py::object allocate = type.attr("__base__").attr("__new__");
    const py::object initialize = type.attr("__init__");
    type.attr("__new__") = py::staticmethod(
        py::cpp_function([allocate, initialize](const py::object& self_type, const py::args& args,
                                                const py::kwargs& kwargs) {
          py::object self = allocate(self_type);
          initialize(self, *args, **kwargs);
          return self;
        }));
    type.attr("__init__") = py::cpp_function(
        [](const py::object&, const py::args&, const py::kwargs&) {}, py::is_method(type));
  }
}

ModelPlan to_plan(const py::object& plan) {
  ModelPlan out{};
  for_each_field(out, [&](const char* name, auto& field) { read_field(plan, name, field); });
  for (const py::handle layer : plan.attr("layers")) {
    LayerPlan row{};
    const auto from = py::reinterpret_borrow<py::object>(layer);
    for_each_field(row, [&](const char* name, auto& field) { read_field(from, name, field); });
    out.layers.push_back(row);
  }
  check_plan(out);
  return out;
}

Dtype to_kv_dtype(const std::string& kv) {
  if (kv == "f32") return Dtype::kF32;
  if (kv == "bf16") return Dtype::kBf16;
  if (kv == "int8") return Dtype::kI8;
  throw InvalidArgument(text("kv is '", kv, "', expected 'f32', 'bf16' or 'int8'"));
}

TensorClass to_rounded_class(const std::string& name) {
  for (int index = 0; index < kTensorClasses; ++index) {
    const auto found = static_cast<TensorClass>(index);
    if (name == name_of(found) && facts_of(found).may_be_rounded) return found;
  }
  throw InvalidArgument(text("formats: '", name, "' is no class that can be rounded"));
}

WeightFormats to_formats(const std::map<std::string, std::string>& formats,
                         const std::string& per_layer_table,
                         const std::vector<std::string>& lattices) {
  struct Named {
    std::string_view name;
    ClassFormat format;
  };
  constexpr Named kFormats[] = {{"int8", {&kInt8Format}},
                                {"int4", {&kInt4Format, Int4Scales::kCalibrated}},
                                {"int4-searched", {&kInt4Format, Int4Scales::kSearched}},
                                {"int4-absmax", {&kInt4Format, Int4Scales::kAbsmax}}};
  WeightFormats out;
  out.lattices.insert(lattices.begin(), lattices.end());
  out.is_table_in_memory = per_layer_table == "memory";
  if (!out.is_table_in_memory && per_layer_table != "disk") {
    throw InvalidArgument(
        text("per_layer_table is '", per_layer_table, "', expected 'disk' or 'memory'"));
  }
  for (const auto& [name, format] : formats) {
    const auto* chosen = std::find_if(std::begin(kFormats), std::end(kFormats),
                                      [&](const Named& n) { return format == n.name; });
    if (chosen == std::end(kFormats)) {
      throw InvalidArgument(text("formats: ", name, " is '", format,
                                 "', expected 'int8', 'int4', 'int4-searched' or 'int4-absmax'"));
    }
    out.classes[static_cast<size_t>(to_rounded_class(name))] = chosen->format;
  }
  return out;
}

}  // namespace cabochon
