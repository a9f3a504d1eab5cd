// The list of what Python sees of the core.
#include "base/thread_pool.h"
#include "bindings/convert.h"
#include "bindings/core_call.h"
#include "cpu/select.h"

namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#else
constexpr const char* kCompiler = "g++ " __VERSION__;
#endif

#if defined(NDEBUG)
constexpr const char* kMode = "release";
#else
constexpr const char* kMode = "debug";
#endif

}  // namespace

PYBIND11_MODULE(_core, module) {
  using namespace cabochon;
  register_errors();
  module.attr("__version__") = CABOCHON_VERSION;
  // Rises when any output may change for equal input (CHANGELOG, "Numerics").
  module.attr("numerics") = 1;
  py::dict build;
  build["compiler"] = kCompiler;
  build["mode"] = kMode;
  build["sanitizers"] = CABOCHON_SANITIZERS;
  module.attr("build") = build;
  module.def("usable_tiers", [] {
    py::list tiers;
    for (const std::string& tier : cpu::usable_tiers()) tiers.append(tier);
    return tiers;
  });
  module.def("has_fast_arithmetic", &cpu::has_fast_arithmetic);
  module.def("default_threads", &ThreadPool::default_threads);
  bind_plan(module);
  bind_weights(module);
  bind_engine(module);
  bind_ops(module);
  py::module_ testing = module.def_submodule("testing", "Inner parts, for tests alone.");
  bind_testing(testing);
  bind_testing_engine(testing);
  bind_testing_weights(testing);
  bind_testing_speed(testing);
  construct_in_new(module);
  // Workers are joined while the interpreter still stands, never by a static destructor.
  py::module_::import("atexit").attr("register")(py::cpp_function([] {
    CoreCall::begin_exit();
    const py::gil_scoped_release release;
    ThreadPool::shared().stop();
  }));
}
