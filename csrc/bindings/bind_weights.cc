#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <set>
#include <tuple>

#include "bindings/convert.h"
#include "engine/find_lattices.h"
#include "engine/memory_plan.h"
#include "weights/checkpoint.h"

namespace cabochon {
namespace {

using Entry = std::tuple<std::string, std::string, std::vector<int64_t>, int, int64_t, int64_t>;

std::shared_ptr<Checkpoint> open_checkpoint(const std::vector<std::string>& shards,
                                            const std::vector<Entry>& rows,
                                            const std::optional<std::vector<int64_t>>& sizes) {
  std::vector<TensorEntry> entries;
  entries.reserve(rows.size());
  for (const auto& [name, dtype, shape, shard, begin, end] : rows) {
    entries.push_back({name, dtype, shape, shard, begin, end});
  }
  return std::make_shared<Checkpoint>(shards, std::move(entries), sizes);
}

}  // namespace

void bind_weights(py::module_& module) {
  py::class_<Checkpoint, std::shared_ptr<Checkpoint>>(module, "Checkpoint")
      .def(py::init(&open_checkpoint), py::arg("shards"), py::arg("entries"), py::kw_only(),
           py::arg("sizes") = py::none());

  py::class_<MemoryPlan>(module, "MemoryPlan")
      .def_property_readonly("rows",
                             [](const MemoryPlan& plan) {
                               py::list rows;
                               for (const MemoryRow& row : plan.rows) {
                                 rows.append(py::make_tuple(row.tensor_class, row.format,
                                                            row.parameters, row.bytes, row.place));
                               }
                               return rows;
                             })
      .def_readonly("kv_bytes_per_token", &MemoryPlan::kv_bytes_per_token)
      .def_readonly("kv_bytes_per_sequence", &MemoryPlan::kv_bytes_per_sequence)
      .def_readonly("scratch_bytes", &MemoryPlan::scratch_bytes)
      .def_readonly("weight_bytes", &MemoryPlan::weight_bytes)
      .def_readonly("packed_bytes", &MemoryPlan::packed_bytes)
      .def_readonly("mapped_bytes", &MemoryPlan::mapped_bytes)
      .def_readonly("disk_bytes", &MemoryPlan::disk_bytes)
      .def_readonly("table_bytes", &MemoryPlan::table_bytes)
      .def_readonly("global_pages_per_sequence", &MemoryPlan::global_pages_per_sequence)
      .def_readonly("sliding_pages_per_sequence", &MemoryPlan::sliding_pages_per_sequence);

  module.def(
      "memory_plan",
      [](const Checkpoint& checkpoint, const py::object& plan,
         const std::map<std::string, std::string>& formats, const std::string& kv, int64_t context,
         int64_t max_rows, int threads, const std::string& per_layer_table,
         const std::vector<std::string>& lattices) {
        return make_memory_plan(checkpoint, to_plan(plan),
                                to_formats(formats, per_layer_table, lattices), to_kv_dtype(kv),
                                context, max_rows, threads);
      },
      py::arg("checkpoint"), py::arg("plan"), py::kw_only(), py::arg("formats"), py::arg("kv"),
      py::arg("context"), py::arg("max_rows"), py::arg("threads"),
      py::arg("per_layer_table") = "disk", py::arg("lattices") = std::vector<std::string>());

  module.def(
      "find_lattices",
      [](const Checkpoint& checkpoint, const py::object& plan,
         const std::set<std::string>& classes) {
        std::set<TensorClass> asked;
        for (const std::string& name : classes) asked.insert(to_rounded_class(name));
        const ModelPlan native = to_plan(plan);
        const py::gil_scoped_release release;
        return find_lattices(checkpoint, native, asked);
      },
      py::arg("checkpoint"), py::arg("plan"), py::arg("classes"));
}

}  // namespace cabochon
