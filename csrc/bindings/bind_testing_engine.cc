// _core.testing: parts of base and engine that Python does not reach otherwise.
#include <pybind11/stl.h>

#include <array>
#include <vector>

#include "base/bf16.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "bindings/convert.h"
#include "engine/sampler.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cabochon {
namespace {

// The range that each thread got, in order of threads; slots of threads without one are (0, 0).
std::vector<std::pair<int64_t, int64_t>> ranges(int threads, int64_t rows, int64_t granule) {
  ThreadPool& pool = ThreadPool::shared();
  const ThreadPool::Lease lease(pool, threads);
  std::vector<std::pair<int64_t, int64_t>> out(static_cast<size_t>(threads));
  const py::gil_scoped_release release;
  auto body = [&](RowRange range) noexcept {
    out[static_cast<size_t>(range.thread)] = {range.begin, range.end};
  };
  pool.parallel_for(threads, rows, granule, body);
  return out;
}

// Half of the smallest normal float, computed by every thread of a region: 0 where denormals are
// flushed. Flushing is set on the calling thread before, as a host library might have done.
std::vector<float> denormals_under_flushing(int threads) {
  ThreadPool& pool = ThreadPool::shared();
  const ThreadPool::Lease lease(pool, threads);
  std::vector<float> out(static_cast<size_t>(threads), -1.0f);
#if defined(__x86_64__)
  const unsigned saved = _mm_getcsr();
  _mm_setcsr(saved | 0x8040);  // flush to zero, denormals are zero
#endif
  volatile float smallest = 0x1p-126f;
  auto body = [&](RowRange range) noexcept {
    out[static_cast<size_t>(range.thread)] = smallest * 0.5f;
  };
  pool.parallel_for(threads, threads, 1, body);
#if defined(__x86_64__)
  _mm_setcsr(saved);
#endif
  return out;
}

}  // namespace

void bind_testing_engine(py::module_& module) {
  module.def("thread_ranges", &ranges, py::arg("threads"), py::arg("rows"), py::arg("granule"));
  module.def("denormals_under_flushing", &denormals_under_flushing, py::arg("threads"));
  module.def(
      "with_flushing",
      [](const py::function& call) {
#if defined(__x86_64__)
        const unsigned saved = _mm_getcsr();
        _mm_setcsr(saved | 0x8040);
        py::object result = call();
        _mm_setcsr(saved);
        return result;
#else
        return call();
#endif
      },
      py::arg("call"));
  module.def("philox", &philox, py::arg("key"), py::arg("counter"));
  module.def("uniform", &uniform, py::arg("seed"), py::arg("position"));
  module.def("f16_to_float", &f16_to_float, py::arg("bits"));
  module.def(
      "draw",
      [](const Array<float>& logits, const SamplingArgs& args, const Array<int32_t>& history,
         int64_t position) { return Sampler().draw(view(logits), args, view(history), position); },
      py::arg("logits").noconvert(), py::arg("sampling"), py::arg("history").noconvert(),
      py::arg("position"));
  module.def(
      "largest",
      [](const Array<float>& logits, size_t k) {
        Sampler sampler;
        std::vector<std::pair<int32_t, float>> out;
        for (const Candidate& c : sampler.largest(view(logits), k)) out.emplace_back(c.id, c.logit);
        return out;
      },
      py::arg("logits").noconvert(), py::arg("k"));
}

}  // namespace cabochon
