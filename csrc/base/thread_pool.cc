#include "base/thread_pool.h"

#include <pthread.h>
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

// CPUs of this process's cgroup v2 quota ("max 100000" or "200000 100000"); 0 when there is none.
int quota_cpus() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period) || quota <= 0 || period <= 0) return 0;  // "max" is no number
  return std::max(1, static_cast<int>(quota / period));
}

int count_threads() {
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

// Never destroyed: workers are joined by stop() at interpreter exit, not by a static destructor.
ThreadPool* process_pool = nullptr;
std::once_flag process_pool_made;

}  // namespace

ThreadPool& ThreadPool::shared() {
  std::call_once(process_pool_made, [] {
    process_pool = new ThreadPool;
    // The parent's pool is left alone in the child: its lock may be held, and its threads are gone.
    pthread_atfork(nullptr, nullptr, [] { process_pool = new ThreadPool; });
  });
  return *process_pool;
}

int ThreadPool::default_threads() {
  static const int threads = count_threads();
  return threads;
}

ThreadPool::Lease::Lease(ThreadPool& pool, int threads) : threads_(threads) {
  const std::scoped_lock lock(pool.owner_);
  const int most = pool.leases_.empty() ? 1 : *pool.leases_.rbegin();
  pool.resize(static_cast<size_t>(std::max(threads, most) - 1));
  pool.leases_.insert(threads);
  pool_ = &pool;
}

ThreadPool::Lease::~Lease() {
  // In a forked child the lease may be on the parent's pool, which nobody may touch there.
  if (pool_ == nullptr || pool_ != &shared()) return;
  const std::scoped_lock lock(pool_->owner_);
  pool_->leases_.erase(pool_->leases_.find(threads_));
  const int most = pool_->leases_.empty() ? 1 : *pool_->leases_.rbegin();
  pool_->resize(static_cast<size_t>(most - 1));
}

ThreadPool::Lease::Lease(Lease&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), threads_(other.threads_) {}

ThreadPool::Lease& ThreadPool::Lease::operator=(Lease&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(threads_, other.threads_);
  return *this;
}

void ThreadPool::resize(size_t workers) {
  if (is_stopped_) workers = 0;
  while (workers_.size() > workers) {
    Worker& worker = *workers_.back();
    worker.is_stopping = true;
    worker.ticket.fetch_add(1, std::memory_order_release);
    worker.ticket.notify_one();
    worker.thread.join();
    workers_.pop_back();
  }
  while (workers_.size() < workers) {
    const int thread = static_cast<int>(workers_.size()) + 1;
    auto worker = std::make_unique<Worker>();
    try {
      worker->thread = std::thread([this, thread, &own = *worker] { work(thread, own); });
    } catch (const std::system_error& error) {
      throw DeviceError(text("thread ", thread + 1, " of ", workers + 1,
                             " could not be started: ", error.what(), "; give fewer threads"));
    }
    workers_.push_back(std::move(worker));
  }
}

void ThreadPool::run(int threads, int64_t rows, int64_t granule, const Region& region) {
  const DefaultFloatMode mode;
  if (rows <= 0) return;
  const int64_t granules = (rows + granule - 1) / granule;
  if (threads <= 1 || granules <= 1) {
    region.call(region.body, {0, rows, 0});
    return;
  }
  const std::scoped_lock lock(owner_);
  const int64_t most =
      std::min<int64_t>({threads, granules, static_cast<int64_t>(workers_.size()) + 1});
  region_ = region;
  rows_ = rows;
  step_ = (granules + most - 1) / most * granule;
  const int helpers = static_cast<int>((rows + step_ - 1) / step_) - 1;
  pending_.store(helpers, std::memory_order_relaxed);
  for (int i = 0; i < helpers; ++i) {
    workers_[static_cast<size_t>(i)]->ticket.fetch_add(1, std::memory_order_release);
    workers_[static_cast<size_t>(i)]->ticket.notify_one();
  }
  region.call(region.body, {0, std::min(step_, rows), 0});
  for (int left = pending_.load(std::memory_order_acquire); left != 0;
       left = pending_.load(std::memory_order_acquire)) {
    wait_while(pending_, left);
  }
}

void ThreadPool::work(int thread, Worker& worker) {
  const DefaultFloatMode mode;
  for (uint32_t seen = 0;; ++seen) {
    wait_while(worker.ticket, seen);
    if (worker.is_stopping) return;
    const int64_t begin = step_ * thread;
    region_.call(region_.body, {begin, std::min(begin + step_, rows_), thread});
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_all();
  }
}

void ThreadPool::stop() {
  const std::scoped_lock lock(owner_);
  is_stopped_ = true;
  resize(0);
}

}  // namespace cabochon
