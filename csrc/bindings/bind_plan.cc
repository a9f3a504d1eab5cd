#include <pybind11/stl.h>

#include "bindings/convert.h"

namespace cabochon {

void bind_plan(py::module_& module) {
  py::list layer_fields, model_fields;
  LayerPlan layer{};
  ModelPlan model{};
  for_each_field(layer, [&](const char* name, auto&) { layer_fields.append(name); });
  for_each_field(model, [&](const char* name, auto&) { model_fields.append(name); });
  model_fields.append("layers");
  module.attr("LAYER_PLAN_FIELDS") = py::tuple(layer_fields);
  module.attr("MODEL_PLAN_FIELDS") = py::tuple(model_fields);
  module.def("check_plan", [](const py::object& plan) { to_plan(plan); }, py::arg("plan"));
}

}  // namespace cabochon
