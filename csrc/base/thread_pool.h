// Worker threads for regions of row ranges. Knows nothing of what is computed.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace cabochon {

struct RowRange {
  int64_t begin, end;  // rows [begin, end)
  int thread;          // 0 is the caller
};

// One pool a process (shared()). A region splits rows into fixed, contiguous ranges, one a thread;
// its start and end together are one barrier. Regions do not nest. Workers spin for about 50 us
// after a region, then sleep, so an idle model costs nothing. Every thread computes with the
// default floating-point mode (round to nearest, denormals kept), whatever the caller had.
class ThreadPool {
 public:
  static ThreadPool& shared();

  // Threads that this process may use: physical cores within its affinity and cgroup quota.
  static int default_threads();

  // Makes sure that regions of this many threads can run; keeps the larger of all requests.
  // Throws DeviceError when the system refuses a thread.
  void reserve(int threads);

  // Calls fn(RowRange) for ranges whose sizes are multiples of `granule` (but for the last). At
  // most `threads` ranges. fn must be noexcept: failures are values in slots of the caller's.
  template <typename Fn>
    requires std::is_nothrow_invocable_v<Fn&, RowRange>
  void parallel_for(int threads, int64_t rows, int64_t granule, Fn&& fn) {
    Region region{&fn, [](void* body, RowRange range) noexcept {
                    (*static_cast<std::remove_reference_t<Fn>*>(body))(range);
                  }};
    run(threads, rows, granule, region);
  }

  // Joins all workers; the next region makes none and runs on the caller until reserve is called.
  // Called at interpreter exit.
  void stop();

 private:
  struct Region {
    void* body;
    void (*call)(void*, RowRange) noexcept;
  };

  ThreadPool() = default;
  void run(int threads, int64_t rows, int64_t granule, const Region& region);
  void work(int thread, uint32_t seen);

  std::mutex owner_;  // one region at a time: a second model waits for its turn
  std::vector<std::thread> workers_;
  std::atomic<uint32_t> epoch_{0};  // counts regions; workers wait for it to change
  std::atomic<int> pending_{0};     // workers that have not finished the current region
  std::atomic<bool> stopping_{false};
  Region region_{};
  int64_t rows_ = 0;
  int64_t step_ = 0;  // rows of a range
};

}  // namespace cabochon
