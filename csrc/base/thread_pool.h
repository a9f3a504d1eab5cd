// Worker threads for regions of row ranges. Knows nothing of what is computed.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <type_traits>
#include <vector>

namespace cabochon {

struct RowRange {
  int64_t begin, end;  // rows [begin, end)
  int thread;          // 0 is the caller
};

// One pool a process (shared()). A region splits rows into fixed, contiguous ranges, one a thread;
// its start and end together are one barrier. Regions do not nest; those of two models take turns.
// Workers spin for about 60 us after a region, then sleep, so an idle model costs nothing. Every
// thread computes with the default floating-point mode, whatever the caller had.
class ThreadPool {
 public:
  // In a forked child this is a new pool without workers: those of the parent do not exist there.
  static ThreadPool& shared();

  // Threads that this process may use: physical cores within its affinity and cgroup quota. Asked
  // of the system once.
  static int default_threads();

  // Keeps regions of this many threads possible while it lives. The pool has the workers that its
  // largest lease wants; the last to go leaves none behind.
  class Lease {
   public:
    Lease() = default;
    // Throws DeviceError when the system refuses a thread.
    Lease(ThreadPool& pool, int threads);
    ~Lease();
    Lease(Lease&& other) noexcept;
    Lease& operator=(Lease&& other) noexcept;

   private:
    ThreadPool* pool_ = nullptr;
    int threads_ = 0;
  };

  // Calls fn(RowRange) for ranges whose sizes are multiples of `granule` (but for the last). At
  // most `threads` ranges, and no more than leases provide for. fn must be noexcept: failures are
  // values in slots of the caller's.
  template <typename Fn>
    requires std::is_nothrow_invocable_v<Fn&, RowRange>
  void parallel_for(int threads, int64_t rows, int64_t granule, Fn&& fn) {
    const Region region{&fn, [](void* body, RowRange range) noexcept {
                          (*static_cast<std::remove_reference_t<Fn>*>(body))(range);
                        }};
    run(threads, rows, granule, region);
  }

  // Joins all workers; regions run on their callers from then on. Called at interpreter exit.
  void stop();

 private:
  struct Region {
    void* body = nullptr;
    void (*call)(void*, RowRange) noexcept = nullptr;
  };
  // A worker sleeps until its own ticket changes, so regions that do not need it leave it alone.
  struct alignas(64) Worker {
    std::atomic<uint32_t> ticket{0};
    bool is_stopping = false;  // written before the ticket
    std::thread thread;
  };

  ThreadPool() = default;
  void run(int threads, int64_t rows, int64_t granule, const Region& region);
  void work(int thread, Worker& worker);
  void resize(size_t workers);  // with owner_ held

  std::mutex owner_;  // one region, or one change of the workers, at a time
  std::multiset<int> leases_;
  std::vector<std::unique_ptr<Worker>> workers_;
  bool is_stopped_ = false;
  std::atomic<int> pending_{0};  // workers that have not finished the region at hand
  Region region_;
  int64_t rows_ = 0;
  int64_t step_ = 0;  // rows of a range
};

}  // namespace cabochon
