// Arrays and plans to C++ and back, and errors both ways.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "engine/memory_plan.h"
#include "model/plan.h"

namespace cabochon {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// Strict: another dtype or layout is refused by the overload, never copied.
template <typename T>
std::span<const T> view(const Array<T>& array) {
  return {array.data(), static_cast<size_t>(array.size())};
}

template <typename T>
std::span<T> mutable_view(Array<T>& array) {
  return {array.mutable_data(), static_cast<size_t>(array.size())};
}

// A float32 array, or bf16 as its bits in uint16, as a tensor over the same memory.
Tensor to_tensor(const py::array& array, const char* name);

// A fresh float32 array of this shape.
Array<float> make_floats(const Shape& shape);

// Every field of the plan by name: the one list that reading, docs and tests go by.
template <typename Fn>
void for_each_field(LayerPlan& p, Fn&& fn) {
  fn("kv_source", p.kv_source);
  fn("window", p.window);
  fn("heads", p.heads);
  fn("kv_heads", p.kv_heads);
  fn("head_dim", p.head_dim);
  fn("rope_theta", p.rope_theta);
  fn("rope_scaling", p.rope_scaling);
  fn("rope_pairs", p.rope_pairs);
  fn("score_scale", p.score_scale);
  fn("value_norm", p.value_norm);
  fn("values_from_keys", p.values_from_keys);
  fn("block_attention", p.block_attention);
  fn("ffn", p.ffn);
  fn("experts", p.experts);
  fn("experts_per_token", p.experts_per_token);
  fn("expert_ffn", p.expert_ffn);
  fn("per_layer_input", p.per_layer_input);
}

template <typename Fn>
void for_each_field(ModelPlan& p, Fn&& fn) {
  fn("hidden", p.hidden);
  fn("vocab", p.vocab);
  fn("embed_scale", p.embed_scale);
  fn("norm_epsilon", p.norm_epsilon);
  fn("logit_softcap", p.logit_softcap);
  fn("norm_offset", p.norm_offset);
  fn("layer_scalars", p.layer_scalars);
  fn("per_layer_vocab", p.per_layer_vocab);
  fn("first_shared", p.first_shared);
}

// From cabochon.config.ModelPlan. Throws InvalidArgument naming a field that does not fit.
ModelPlan to_plan(const py::object& plan);

Dtype to_kv_dtype(const std::string& kv);  // "f32", "bf16" or "int8"

// {"attention": "int4", "head": "int8", ...}: classes that are rounded; others stay as stored, but
// for the tensors that are named as lying on a lattice. per_layer_table: "disk" or "memory".
WeightFormats to_formats(const std::map<std::string, std::string>& formats,
                         const std::string& per_layer_table,
                         const std::vector<std::string>& lattices);

TensorClass to_rounded_class(const std::string& name);  // ClassFacts::may_be_rounded

// A NumPy array that Python can no longer write to.
void make_read_only(py::array& array);

// Makes `__new__` do what `__init__` did, for every class of the module. Otherwise pybind11 gives
// methods of an object that was never initialised raw memory, and T.__new__(T) is such an object.
void construct_in_new(const py::module_& module);

void register_errors();

void bind_plan(py::module_& module);
void bind_weights(py::module_& module);
void bind_engine(py::module_& module);
void bind_ops(py::module_& module);
void bind_testing(py::module_& module);          // kernels by tier
void bind_testing_engine(py::module_& module);   // threads, random numbers, sampler
void bind_testing_weights(py::module_& module);  // quantising, packing, lattices
void bind_testing_speed(py::module_& module);    // what benchmarks time

}  // namespace cabochon
