#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <set>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/float_mode.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cabochon {
namespace {

constexpr auto kSpin = std::chrono::microseconds(60);

void pause_core() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Spins for a while, then sleeps until the value is no longer `old`.
template <typename T>
void wait_while(const std::atomic<T>& value, T old) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  while (std::chrono::steady_clock::now() < deadline) {
    for (int i = 0; i < 64; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      pause_core();
    }
  }
  value.wait(old, std::memory_order_acquire);
}

// CPUs of a cgroup v2 quota ("max 100000" or "200000 100000"); 0 when there is none.
int quota_cpus() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  return std::max(1, static_cast<int>(std::stod(quota) / period));
}

}  // namespace

ThreadPool& ThreadPool::shared() {
  // Never destroyed: workers are joined by stop() at interpreter exit, not by a static destructor.
  static ThreadPool* const pool = new ThreadPool;
  return *pool;
}

int ThreadPool::default_threads() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return 1;
  std::set<std::pair<int, int>> cores;  // (package, core): two hyperthreads count once
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const std::string topology = text("/sys/devices/system/cpu/cpu", cpu, "/topology/");
    int package = 0, core = cpu;
    std::ifstream(topology + "physical_package_id") >> package;
    std::ifstream(topology + "core_id") >> core;
    cores.emplace(package, core);
  }
  const int quota = quota_cpus();
  const int count = std::max(1, static_cast<int>(cores.size()));
  return quota == 0 ? count : std::min(count, quota);
}

void ThreadPool::reserve(int threads) {
  const std::scoped_lock lock(owner_);
  stopping_.store(false);
  while (static_cast<int>(workers_.size()) < threads - 1) {
    const int thread = static_cast<int>(workers_.size()) + 1;
    // Read here, under the lock: a worker that read it later could miss a region that counts on it.
    const uint32_t epoch = epoch_.load();
    try {
      workers_.emplace_back([this, thread, epoch] { work(thread, epoch); });
    } catch (const std::system_error& error) {
      throw DeviceError(text("thread ", thread, " of ", threads,
                             " could not be started: ", error.what(), "; give fewer threads"));
    }
  }
}

void ThreadPool::run(int threads, int64_t rows, int64_t granule, const Region& region) {
  const DefaultFloatMode mode;
  if (rows <= 0) return;
  const std::scoped_lock lock(owner_);
  const int64_t granules = (rows + granule - 1) / granule;
  const int64_t ranges =
      std::min<int64_t>({threads, granules, static_cast<int64_t>(workers_.size()) + 1});
  if (ranges <= 1) {
    region.call(region.body, {0, rows, 0});
    return;
  }
  region_ = region;
  rows_ = rows;
  step_ = (granules + ranges - 1) / ranges * granule;
  pending_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  region.call(region.body, {0, std::min(step_, rows), 0});
  for (int left = pending_.load(std::memory_order_acquire); left != 0;
       left = pending_.load(std::memory_order_acquire)) {
    wait_while(pending_, left);
  }
}

void ThreadPool::work(int thread, uint32_t seen) {
  const DefaultFloatMode mode;
  while (true) {
    wait_while(epoch_, seen);
    seen = epoch_.load(std::memory_order_acquire);
    if (stopping_.load(std::memory_order_acquire)) return;
    const int64_t begin = std::min(step_ * thread, rows_);
    const int64_t end = std::min(begin + step_, rows_);
    if (begin < end) region_.call(region_.body, {begin, end, thread});
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_all();
  }
}

void ThreadPool::stop() {
  const std::scoped_lock lock(owner_);
  stopping_.store(true, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

}  // namespace cabochon
