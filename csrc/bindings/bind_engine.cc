#include <pybind11/stl.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>

#include "base/float_mode.h"
#include "base/thread_pool.h"
#include "bindings/convert.h"
#include "bindings/core_call.h"
#include "engine/engine.h"

namespace cabochon {
namespace {

// Ranges as options.py has them; written so that NaN fails too.
void require_range(const char* name, double value, double least, double most) {
  if (!(value >= least && value <= most)) {
    throw InvalidArgument(text(name, " is ", value, ", expected ", least, " to ", most));
  }
}

SamplingArgs make_sampling(float temperature, int top_k, double top_p, double min_p,
                           float repetition_penalty, uint64_t seed, const Array<int32_t>& banned,
                           const Array<int32_t>& bias_ids, const Array<float>& bias_values) {
  require_range("temperature", temperature, 0.0, 100.0);
  require_range("top_k", top_k, 0, 1 << 20);
  require_range("top_p", top_p, 0.0, 1.0);
  require_range("min_p", min_p, 0.0, 1.0);
  require_range("repetition_penalty", repetition_penalty, 1e-30, 10.0);
  if (bias_ids.size() != bias_values.size()) {
    throw InvalidArgument(
        text("bias_ids has ", bias_ids.size(), " entries, bias_values ", bias_values.size()));
  }
  const auto ids = view(bias_ids);
  const auto bans = view(banned);
  const auto values = view(bias_values);
  for (const float value : values) {
    if (std::isnan(value) || value == INFINITY) {
      throw InvalidArgument(text("logit_bias has ", value, ", expected a number or -inf"));
    }
  }
  return {.temperature = temperature,
          .top_k = top_k,
          .top_p = top_p,
          .min_p = min_p,
          .repetition_penalty = repetition_penalty,
          .seed = seed,
          .banned = {bans.begin(), bans.end()},
          .bias_ids = {ids.begin(), ids.end()},
          .bias_values = {values.begin(), values.end()}};
}

void require_ids(const std::vector<int32_t>& ids, int vocab, const char* name) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab) {
      throw InvalidArgument(text(name, ": token id ", id, " is not in 0 to ", vocab - 1));
    }
  }
}

// Tells a Python function, or None, how far a load is; Ctrl-C ends it. Called without the GIL.
std::function<void(int64_t, int64_t)> reporter(const py::object& progress) {
  return [&progress](int64_t done, int64_t total) {
    const py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (!progress.is_none()) progress(done, total);
  };
}

PackedKey to_key(const py::bytes& key) {
  const std::string_view bytes = key;
  PackedKey out;
  if (bytes.size() != out.size()) {
    throw InvalidArgument(
        text("the key of a packed file has ", bytes.size(), " bytes, expected ", out.size()));
  }
  std::memcpy(out.data(), bytes.data(), out.size());
  return out;
}

PageKind to_kind(const std::string& kind) {
  if (kind != "global" && kind != "sliding") {
    throw InvalidArgument(text("kind is ", kind, ", expected global or sliding"));
  }
  return kind == "global" ? PageKind::kGlobal : PageKind::kSliding;
}

// Arrays of results, made before the GIL is released.
struct Results {
  Results(int64_t wishes, int64_t top, int64_t logits_rows, int64_t vocab, int64_t sequences)
      : tokens(wishes),
        logprobs(wishes),
        best(wishes),
        top_ids({wishes, top}),
        top_logprobs({wishes, top}),
        logits({logits_rows, vocab}),
        status(wishes),
        failures(sequences) {}

  StepResult views() {
    return {.tokens = mutable_view(tokens),
            .logprobs = mutable_view(logprobs),
            .best = mutable_view(best),
            .top_ids = mutable_view(top_ids),
            .top_logprobs = mutable_view(top_logprobs),
            .logits = mutable_view(logits),
            .status = mutable_view(status),
            .failures = mutable_view(failures)};
  }

  // They are what happened: nobody who holds the result changes it for another.
  void make_read_only() {
    for (py::array* array : std::initializer_list<py::array*>{
             &tokens, &logprobs, &best, &top_ids, &top_logprobs, &logits, &status, &failures}) {
      cabochon::make_read_only(*array);
    }
  }

  Array<int32_t> tokens;
  Array<float> logprobs;
  Array<int32_t> best, top_ids;
  Array<float> top_logprobs, logits;
  Array<int32_t> status, failures;
};

class PyEngine {
 public:
  PyEngine(std::shared_ptr<Checkpoint> checkpoint, const py::object& plan,
           const std::map<std::string, std::string>& formats, const std::string& kv, int threads,
           int64_t max_rows, int64_t global_pages, int64_t sliding_pages,
           const std::string& per_layer_table, const std::shared_ptr<PackedFile>& packed,
           const std::shared_ptr<PackedFile>& packed_table, const py::object& progress,
           const std::vector<std::string>& lattices, bool is_fast) {
    const EngineOptions options{.kv = to_kv_dtype(kv),
                                .weights = to_formats(formats, per_layer_table, lattices),
                                .threads = threads,
                                .is_fast = is_fast,
                                .max_rows = max_rows,
                                .global_pages = global_pages,
                                .sliding_pages = sliding_pages,
                                .packed = {.weights = packed.get(), .table = packed_table}};
    ModelPlan native = to_plan(plan);
    const CoreCall inside;
    const DefaultFloatMode mode;
    engine_ = std::make_unique<Engine>(std::move(checkpoint), std::move(native), options,
                                       reporter(progress));
  }

  Engine& open() const {
    if (engine_ == nullptr) throw InvalidArgument("the engine is closed; load the model again");
    return *engine_;
  }

  // Writes what the next load may read in place of rounding.
  void write_packed(const std::string& path, const py::bytes& key, const std::string& about) {
    const Use use(*this);
    const Engine& engine = open();
    const PackedKey native = to_key(key);
    const CoreCall inside;
    const auto arena = engine.weight_arena();
    PackedFile::write(
        {path, native, about}, std::ssize(arena), [&] { return arena; }, engine.threads());
  }

  void close() {
    const Use use(*this);
    engine_.reset();
  }

  void copy_pages(const std::string& kind, const Array<int32_t>& from, const Array<int32_t>& to) {
    const Use use(*this);
    open().copy_pages(to_kind(kind), view(from), view(to));
  }

  int64_t page_bytes(const std::string& kind) const { return open().page_bytes(to_kind(kind)); }

  Array<uint8_t> read_pages(const std::string& kind, const Array<int32_t>& pages) {
    const Use use(*this);
    Array<uint8_t> bytes({pages.size(), static_cast<py::ssize_t>(page_bytes(kind))});
    open().read_pages(to_kind(kind), view(pages), std::as_writable_bytes(mutable_view(bytes)));
    return bytes;
  }

  void write_pages(const std::string& kind, const Array<int32_t>& pages,
                   const Array<uint8_t>& bytes) {
    const Use use(*this);
    open().write_pages(to_kind(kind), view(pages), std::as_bytes(view(bytes)));
  }

  std::unique_ptr<Results> step(const Array<int32_t>& tokens, const Array<int64_t>& slices,
                                const std::vector<Array<int32_t>>& global_pages,
                                const std::vector<Array<int32_t>>& sliding_pages,
                                const Array<int32_t>& wishes,
                                const std::vector<std::optional<SamplingArgs>>& sampling,
                                const std::vector<std::optional<Array<int32_t>>>& histories,
                                int top, const std::vector<std::optional<Array<uint32_t>>>& masks) {
    const Use use(*this);
    Engine& engine = open();
    const int vocab = engine.plan().vocab;
    const auto sequences = static_cast<size_t>(slices.ndim() == 2 ? slices.shape(0) : 0);
    if (slices.ndim() != 2 || slices.shape(1) != 3 || wishes.ndim() != 2 || wishes.shape(1) != 3 ||
        global_pages.size() != sequences || sliding_pages.size() != sequences ||
        sampling.size() != sequences || histories.size() != sequences ||
        (!masks.empty() && masks.size() != sequences)) {
      throw InvalidArgument(text("step: slices is ", py::repr(slices.attr("shape")), ", wishes ",
                                 py::repr(wishes.attr("shape")),
                                 "; expected [n, 3] each, and n of ", "global_pages (",
                                 global_pages.size(), "), sliding_pages (", sliding_pages.size(),
                                 "), sampling (", sampling.size(), "), histories (",
                                 histories.size(), ") and masks (", masks.size(), ", or none)"));
    }
    Batch batch{.tokens = view(tokens), .top = top};
    for (size_t i = 0; i < sequences; ++i) {
      const auto row = static_cast<py::ssize_t>(i);
      SequenceSlice slice{.first_token = slices.at(row, 0),
                          .tokens = slices.at(row, 1),
                          .position = slices.at(row, 2),
                          .global_pages = view(global_pages[i]),
                          .sliding_pages = view(sliding_pages[i])};
      if (sampling[i].has_value()) {
        require_ids(sampling[i]->banned, vocab, "banned");
        require_ids(sampling[i]->bias_ids, vocab, "logit_bias");
        slice.sampling = &*sampling[i];
      }
      if (histories[i].has_value()) {
        slice.history = view(*histories[i]);
        for (const int32_t id : slice.history) {
          if (id < 0 || id >= vocab) {
            throw InvalidArgument(text("step: history of sequence ", i, " has token id ", id,
                                       ", which is not in 0 to ", vocab - 1));
          }
        }
      }
      if (!masks.empty() && masks[i].has_value()) {
        // An empty span would allow everything.
        if (masks[i]->size() == 0) throw InvalidArgument(text("step: mask ", i, " is empty"));
        slice.mask = view(*masks[i]);
      }
      batch.sequences.push_back(slice);
    }
    int64_t logits_rows = 0;
    for (py::ssize_t i = 0; i < wishes.shape(0); ++i) {
      const int32_t want = wishes.at(i, 1);
      if (want < 0 || want >= kWants) {
        throw InvalidArgument(text("step: wish ", i, " is ", want, ", expected 0 to ", kWants - 1));
      }
      batch.wishes.push_back({wishes.at(i, 0), static_cast<Want>(want), wishes.at(i, 2)});
      if (batch.wishes.back().want == Want::kLogits) ++logits_rows;
    }
    engine.check(batch);
    auto results = std::make_unique<Results>(std::ssize(batch.wishes), top, logits_rows, vocab,
                                             static_cast<int64_t>(sequences));
    const StepResult views = results->views();
    std::optional<py::error_already_set> signal;
    try {
      const CoreCall inside;
      engine.step(batch, views, [&] {
        if (CoreCall::is_exiting()) return true;
        const py::gil_scoped_acquire acquire;
        // Runs Python's handlers on the main thread; elsewhere it does nothing.
        if (PyErr_CheckSignals() == 0) return false;
        signal.emplace();
        return true;
      });
    } catch (const Interrupted&) {
      if (signal.has_value()) throw std::move(*signal);
      throw;
    }
    results->make_read_only();
    return results;
  }

 private:
  // One user at a time: a second one would compute in the first one's memory.
  class Use {
   public:
    explicit Use(PyEngine& owner) : owner_(owner) {
      if (owner.is_used_.exchange(true)) {
        throw InvalidArgument("the engine is in use by another thread, expected one at a time");
      }
    }
    ~Use() { owner_.is_used_ = false; }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    PyEngine& owner_;
  };

  std::unique_ptr<Engine> engine_;
  std::atomic<bool> is_used_{false};
};

}  // namespace

void bind_engine(py::module_& module) {
  module.attr("PACKING_VERSION") = PackedFile::kVersion;
  py::class_<PackedFile, std::shared_ptr<PackedFile>>(module, "PackedFile")
      .def(py::init([](const std::string& path, const std::optional<py::bytes>& key) {
             return key.has_value() ? std::make_shared<PackedFile>(path, to_key(*key))
                                    : std::make_shared<PackedFile>(path);
           }),
           py::arg("path"), py::arg("key") = py::none())
      .def_property_readonly("about", &PackedFile::about)
      .def(
          "verify",
          [](const PackedFile& file, int threads) {
            const CoreCall inside;
            const ThreadPool::Lease lease(ThreadPool::shared(), threads);
            file.verify(threads);
          },
          py::arg("threads") = 1);
  module.def(
      "write_table",
      [](const Checkpoint& checkpoint, const py::object& plan, const std::string& format,
         const std::string& path, const py::bytes& key, const std::string& about, int threads,
         const py::object& progress) {
        const ModelPlan native = to_plan(plan);
        const WeightFormats formats = to_formats({{"per_layer_table", format}}, "disk", {});
        const NewPackedFile file{path, to_key(key), about};
        const CoreCall inside;
        const DefaultFloatMode mode;
        const ThreadPool::Lease lease(ThreadPool::shared(), threads);
        write_table(checkpoint, native, formats, file, threads, reporter(progress));
      },
      py::arg("checkpoint"), py::arg("plan"), py::kw_only(), py::arg("format"), py::arg("path"),
      py::arg("key"), py::arg("about") = "", py::arg("threads") = 1,
      py::arg("progress") = py::none());
  module.attr("PAGE_POSITIONS") = kPagePositions;
  module.attr("WANT_SAMPLE") = static_cast<int>(Want::kSample);
  module.attr("WANT_TARGET") = static_cast<int>(Want::kTarget);
  module.attr("WANT_TOP") = static_cast<int>(Want::kTop);
  module.attr("WANT_LOGITS") = static_cast<int>(Want::kLogits);

  py::class_<SamplingArgs>(module, "SamplingArgs")
      .def(py::init(&make_sampling), py::kw_only(), py::arg("temperature"), py::arg("top_k"),
           py::arg("top_p"), py::arg("min_p"), py::arg("repetition_penalty"), py::arg("seed"),
           py::arg("banned").noconvert(), py::arg("bias_ids").noconvert(),
           py::arg("bias_values").noconvert());

  py::class_<Results>(module, "StepResult")
      .def_readonly("tokens", &Results::tokens)
      .def_readonly("logprobs", &Results::logprobs)
      .def_readonly("best", &Results::best)
      .def_readonly("top_ids", &Results::top_ids)
      .def_readonly("top_logprobs", &Results::top_logprobs)
      .def_readonly("logits", &Results::logits)
      .def_readonly("status", &Results::status)
      .def_readonly("failures", &Results::failures);

  py::class_<PyEngine>(module, "Engine")
      .def(py::init<std::shared_ptr<Checkpoint>, const py::object&,
                    const std::map<std::string, std::string>&, const std::string&, int, int64_t,
                    int64_t, int64_t, const std::string&, const std::shared_ptr<PackedFile>&,
                    const std::shared_ptr<PackedFile>&, const py::object&,
                    const std::vector<std::string>&, bool>(),
           py::arg("checkpoint").none(false), py::arg("plan"), py::kw_only(), py::arg("formats"),
           py::arg("kv"), py::arg("threads"), py::arg("max_rows"), py::arg("global_pages"),
           py::arg("sliding_pages"), py::arg("per_layer_table") = "disk",
           py::arg("packed") = py::none(), py::arg("packed_table") = py::none(),
           py::arg("progress") = py::none(), py::arg("lattices") = std::vector<std::string>(),
           py::arg("is_fast") = false)
      .def_property_readonly("tier", [](const PyEngine& e) { return e.open().tier(); })
      .def_property_readonly("activations",
                             [](const PyEngine& e) { return e.open().activations(); })
      .def_property_readonly("threads", [](const PyEngine& e) { return e.open().threads(); })
      .def("memory",
           [](const PyEngine& e) {
             py::dict bytes;
             bytes["weights"] = e.open().weight_bytes();
             bytes["mapped"] = e.open().mapped_bytes();
             bytes["kv"] = e.open().kv_bytes();
             bytes["scratch"] = e.open().scratch_bytes();
             return bytes;
           })
      .def("int4_blocks",
           [](const PyEngine& e) {
             const Int4Blocks& blocks = e.open().int4_blocks();
             py::dict counts;
             counts["exact"] = blocks.exact;
             counts["nearest_scale"] = blocks.nearest_scale;
             counts["rounded"] = blocks.rounded;
             return counts;
           })
      .def("step", &PyEngine::step, py::arg("tokens").noconvert(), py::arg("slices").noconvert(),
           py::arg("global_pages"), py::arg("sliding_pages"), py::arg("wishes").noconvert(),
           py::arg("sampling"), py::arg("histories"), py::arg("top") = 0,
           py::arg("masks") = std::vector<std::optional<Array<uint32_t>>>())
      .def("copy_pages", &PyEngine::copy_pages, py::arg("kind"), py::arg("from_pages").noconvert(),
           py::arg("to_pages").noconvert())
      .def("page_bytes", &PyEngine::page_bytes, py::arg("kind"))
      .def("read_pages", &PyEngine::read_pages, py::arg("kind"), py::arg("pages").noconvert())
      .def("write_pages", &PyEngine::write_pages, py::arg("kind"), py::arg("pages").noconvert(),
           py::arg("bytes").noconvert())
      .def("write_packed", &PyEngine::write_packed, py::arg("path"), py::arg("key"),
           py::arg("about") = "")
      .def("close", &PyEngine::close);
}

}  // namespace cabochon
