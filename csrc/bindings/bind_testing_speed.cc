// `_core.testing`: how fast kernels, matrices, attention and memory are, for benchmarks. Timed
// here, since a call from Python takes longer than a tile.
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "bindings/convert.h"
#include "bindings/testing.h"
#include "cpu/cpu_ops.h"
#include "cpu/select.h"

namespace cabochon {
namespace {

double seconds_of(auto&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// 12 independent chains of one instruction, in assembly: a compiler that keeps one accumulator in
// memory would halve the peak and flatter everything compared with it.
#if defined(__x86_64__)
#define CABOCHON_CHAIN(instruction, i) instruction " %%zmm12, %%zmm13, %%zmm" #i "\n"
#define CABOCHON_CHAINS(instruction)                                                          \
  asm volatile(                                                                               \
      "vpxorq %%zmm12, %%zmm12, %%zmm12\n"                                                    \
      "vpxorq %%zmm13, %%zmm13, %%zmm13\n"                                                    \
      "1:\n" CABOCHON_CHAIN(instruction, 0) CABOCHON_CHAIN(instruction, 1) CABOCHON_CHAIN(    \
          instruction, 2) CABOCHON_CHAIN(instruction, 3) CABOCHON_CHAIN(instruction, 4)       \
          CABOCHON_CHAIN(instruction, 5) CABOCHON_CHAIN(instruction, 6)                       \
              CABOCHON_CHAIN(instruction, 7) CABOCHON_CHAIN(instruction, 8)                   \
                  CABOCHON_CHAIN(instruction, 9) CABOCHON_CHAIN(instruction, 10)              \
                      CABOCHON_CHAIN(instruction, 11) "dec %0\njnz 1b\nvzeroupper\n"          \
      : "+r"(left)                                                                            \
      :                                                                                       \
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
        "xmm10", "xmm11", "xmm12", "xmm13")
#endif

constexpr double kChains = 12, kLanes512 = 16;

// Gop/s of one thread; a multiply and an add are two.
double peak_vpdpbusd(int64_t iterations) {
  require(iterations > 0, "expected iterations > 0");
  cpu::kernels_for("avx512");  // throws where it is missing
  double seconds = 0;
#if defined(__x86_64__)
  seconds = seconds_of([left = iterations]() mutable { CABOCHON_CHAINS("vpdpbusd"); });
#endif
  return kChains * kLanes512 * 8 * static_cast<double>(iterations) / seconds / 1e9;
}

double peak_vdpbf16ps(int64_t iterations) {
  require(iterations > 0, "expected iterations > 0");
  cpu::kernels_for("avx512bf16");
  double seconds = 0;
#if defined(__x86_64__)
  seconds = seconds_of([left = iterations]() mutable { CABOCHON_CHAINS("vdpbf16ps"); });
#endif
  return kChains * kLanes512 * 4 * static_cast<double>(iterations) / seconds / 1e9;
}

double peak_fma(int64_t iterations) {
  require(iterations > 0, "expected iterations > 0");
  cpu::kernels_for("avx512");
  double seconds = 0;
#if defined(__x86_64__)
  seconds = seconds_of([left = iterations]() mutable { CABOCHON_CHAINS("vfmadd231ps"); });
#endif
  return kChains * kLanes512 * 2 * static_cast<double>(iterations) / seconds / 1e9;
}

// GB/s of one pass in which each thread XORs its contiguous share; best of `runs`.
double read_bandwidth(int64_t megabytes, int threads, int runs) {
  require(megabytes > 0 && threads > 0 && runs > 0, "expected numbers > 0");
  const int64_t lines = megabytes * 1'000'000 / 64;
  const Buffer buffer(lines * 64, true);
  auto* words = reinterpret_cast<uint64_t*>(buffer.data());
  ThreadPool& pool = ThreadPool::shared();
  const ThreadPool::Lease lease(pool, threads);
  std::vector<uint64_t> sums(static_cast<size_t>(threads) * 8);  // a cache line each
  const py::gil_scoped_release release;
  // Written, by the threads that read it: pages never written are all one page of zeros.
  auto fill = [&](RowRange range) noexcept {
    std::memset(words + range.begin * 8, 1, static_cast<size_t>(range.end - range.begin) * 64);
  };
  auto read = [&](RowRange range) noexcept {
    uint64_t sum[8] = {};
    const uint64_t* end = words + range.end * 8;
    for (const uint64_t* word = words + range.begin * 8; word < end; word += 8) {
      for (int i = 0; i < 8; ++i) sum[i] ^= word[i];
    }
    for (uint64_t part : sum) sums[static_cast<size_t>(range.thread) * 8] ^= part;
  };
  pool.parallel_for(threads, lines, 1, fill);
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < runs; ++run) {
    best = std::min(best, seconds_of([&] { pool.parallel_for(threads, lines, 1, read); }));
  }
  return static_cast<double>(lines) * 64 / best / 1e9;
}

// Best seconds of `runs` for `tokens` queries at the end of `keys` positions, and the bytes of keys
// and values that one pass reads. Keys that turn in `turned` columns stand beside values for the
// others.
std::pair<double, int64_t> time_attention(const std::string& tier, const std::string& kv,
                                          int64_t keys, int64_t tokens, int64_t heads,
                                          int64_t kv_heads, int64_t head_dim, int64_t window,
                                          int64_t turned, int threads, int runs) {
  require(keys >= tokens && tokens > 0 && heads > 0 && kv_heads > 0 && head_dim > 0 &&
              head_dim <= 1024 && turned >= 0 && turned <= head_dim && threads > 0 && runs > 0,
          "expected numbers > 0 and keys >= tokens");
  KvLayer layer = kv_layer(to_kv_dtype(kv), kv_heads, head_dim, turned, 0);
  const int64_t pages = (keys + 63) / 64;
  const Buffer cache(pages * layer.bytes, true);
  layer.pages = cache.data();
  layer.page_bytes = layer.bytes;
  cpu::CpuOps ops(cpu::kernels_for(tier), threads);
  const auto sized = [](int64_t n) { return static_cast<size_t>(n); };
  std::vector<int32_t> numbers(sized(pages)), sequence(sized(keys), 0);
  std::vector<int64_t> positions(sized(keys));
  for (int64_t i = 0; i < pages; ++i) numbers[sized(i)] = static_cast<int32_t>(i);
  for (int64_t i = 0; i < keys; ++i) positions[sized(i)] = i;
  const PageTable table{.pages = numbers, .is_ring = false};
  std::vector<float> rows(sized(64 * kv_heads * head_dim));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 31) / 31.0f - 0.5f;
  const py::gil_scoped_release release;
  for (int64_t first = 0; first < keys; first += 64) {
    const int64_t count = std::min<int64_t>(64, keys - first);
    const Tensor stored{Dtype::kF32, {count, kv_heads, head_dim}, rows.data()};
    ops.store_kv(
        {.kv = layer,
         .keys = stored,
         .values = stored,
         .places = {std::span(sequence).subspan(sized(first), sized(count)),
                    std::span<const int64_t>(positions).subspan(sized(first), sized(count)),
                    {&table, 1}}});
  }
  std::vector<float> queries(sized(tokens * heads * head_dim), 0.01f), out(queries.size());
  std::vector<float> norm(sized(head_dim), 1.0f);
  std::vector<float> scratch(sized(attention_scratch(tokens, heads, head_dim, turned)));
  const Shape shape{tokens, heads, head_dim};
  const AttentionArgs args{
      .out = {Dtype::kF32, shape, out.data()},
      .queries = {Dtype::kF32, shape, queries.data()},
      .kv = layer,
      .places = {std::span(sequence).first(sized(tokens)),
                 std::span<const int64_t>(positions).last(sized(tokens)),
                 {&table, 1}},
      .window = window,
      .scale = 1.0f,
      .key_norm = {Dtype::kF32, {head_dim}, norm.data()},
      .scratch = {Dtype::kF32, {static_cast<int64_t>(scratch.size())}, scratch.data()}};
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < runs; ++run) {
    best = std::min(best, seconds_of([&] { ops.attention(args); }));
  }
  return {best, pages * layer.bytes};
}

// Best seconds of `runs` matmuls of ones, and the bytes of their weights. kernel: "int4", "int8",
// "bf16" or "bf16-fast" (tier "avx512bf16"). Panels, and rows in steps of 32, are shared out among
// the threads.
std::pair<double, int64_t> time_matmul(const std::string& kernel, const std::string& tier,
                                       int64_t tokens, int64_t rows, int64_t cols, size_t granule,
                                       int threads, int runs) {
  require_granule(granule);
  const bool is_fast = kernel == "bf16-fast";
  require(kernel == "int4" || kernel == "int8" || kernel == "bf16" || is_fast,
          "kernel: int4, int8, bf16 or bf16-fast");
  require(tokens > 0 && rows > 0 && rows % 32 == 0 && cols > 0 && cols % 128 == 0 && threads > 0 &&
              runs > 0,
          "expected numbers > 0, rows a multiple of 32 and columns of 128");
  const cpu::Kernels kernels = cpu::kernels_for(tier);
  require(!is_fast || kernels.matmul_bf16_pairs != nullptr, "bf16-fast is of tier avx512bf16");
  const int64_t panel_bytes = kernel == "int4"   ? cols / 32 * int64_t{cpu::kInt4UnitBytes}
                              : kernel == "int8" ? cols / 128 * int64_t{cpu::kInt8UnitBytes}
                                                 : cols * 32 * int64_t{sizeof(uint16_t)};
  const int64_t panels = rows / 32;
  const Buffer weights(panels * panel_bytes, true);
  ThreadPool& pool = ThreadPool::shared();
  const ThreadPool::Lease lease(pool, threads);
  const auto sized = [&](int64_t n) { return static_cast<size_t>(n); };
  std::vector<float> x(sized(tokens * cols), 1.0f), out(sized(tokens * rows));
  const std::vector<uint16_t> bf16_x(x.size(), 0x3f80);
  std::vector<int8_t> codes(sized(tokens * cols));
  std::vector<float> scales(sized(tokens * cols) / granule);
  std::vector<int32_t> sums(sized(tokens * cols / 32));
  kernels.quantize_rows(codes.data(), scales.data(), sums.data(), x.data(), sized(tokens),
                        sized(cols), granule);
  const cpu::QuantizedRows quantized{.codes = codes.data(),
                                     .scales = scales.data(),
                                     .sums = sums.data(),
                                     .tokens = sized(tokens),
                                     .cols = sized(cols),
                                     .granule = granule};
  const py::gil_scoped_release release;
  // 0x3f3f is the bf16 of 0.75.
  auto fill = [&](RowRange range) noexcept {
    std::memset(weights.data() + range.begin * panel_bytes, 0x3f,
                sized((range.end - range.begin) * panel_bytes));
  };
  auto multiply = [&](RowRange range) noexcept {
    const auto* from = reinterpret_cast<const uint8_t*>(weights.data() + range.begin * panel_bytes);
    float* to = out.data() + range.begin * 32;
    const size_t count = sized((range.end - range.begin) * 32);
    if (kernel == "bf16") {
      kernels.matmul_bf16(to, sized(rows), x.data(), reinterpret_cast<const uint16_t*>(from),
                          sized(tokens), count, sized(cols));
    } else if (is_fast) {
      kernels.matmul_bf16_pairs(to, sized(rows), bf16_x.data(),
                                reinterpret_cast<const uint16_t*>(from), sized(tokens), count,
                                sized(cols));
    } else {
      (kernel == "int4" ? kernels.matmul_int4 : kernels.matmul_int8)(to, sized(rows), &quantized,
                                                                     from, count);
    }
  };
  pool.parallel_for(threads, panels, 1, fill);
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < runs; ++run) {
    best = std::min(best, seconds_of([&] { pool.parallel_for(threads, panels, 1, multiply); }));
  }
  return {best, panels * panel_bytes};
}

}  // namespace

void bind_testing_speed(py::module_& module) {
  const auto granule = py::arg("granule") = 128;
  const py::call_guard<py::gil_scoped_release> without_gil;  // a loop on each of several threads
  module.def("peak_vpdpbusd", peak_vpdpbusd, py::arg("iterations"), without_gil);
  module.def("peak_vdpbf16ps", peak_vdpbf16ps, py::arg("iterations"), without_gil);
  module.def("peak_fma", peak_fma, py::arg("iterations"), without_gil);
  module.def("read_bandwidth", read_bandwidth, py::arg("megabytes"), py::arg("threads"),
             py::arg("runs") = 1);
  module.def("time_matmul", time_matmul, py::arg("kernel"), py::arg("tier"), py::arg("tokens"),
             py::arg("rows"), py::arg("cols"), py::kw_only(), granule, py::arg("threads") = 1,
             py::arg("runs") = 1);
  module.def("time_attention", time_attention, py::kw_only(), py::arg("tier"), py::arg("kv"),
             py::arg("keys"), py::arg("tokens") = 1, py::arg("heads"), py::arg("kv_heads"),
             py::arg("head_dim"), py::arg("window") = 0, py::arg("turned") = 0,
             py::arg("threads") = 1, py::arg("runs") = 1);
}

}  // namespace cabochon
