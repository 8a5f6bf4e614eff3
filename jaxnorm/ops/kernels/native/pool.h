// Tasks on XLA's own threads, so that no second pool competes with it for the cores.
#pragma once

#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "kernels.h"
#include "xla/ffi/api/ffi.h"

namespace jaxnorm {

class Pool {
 public:
  explicit Pool(xla::ffi::ThreadPool threads) : threads_(threads) {}

  // Small work stays on the calling thread: waking another costs microseconds.
  Executor executor(int64_t elements) {
    constexpr int64_t kWorthThreads = 1 << 15;
    return {elements < kWorthThreads ? nullptr : this, run};
  }

 private:
  // The caller works too, and waits for claimed tasks only: a pool whose threads are all busy, or
  // whose one thread is the caller, cannot deadlock. A helper that comes late finds nothing to do.
  class Job {
   public:
    Job(int64_t tasks, void (*body)(void*, int64_t), void* context)
        : tasks_(tasks), body_(body), context_(context) {
      std::fegetenv(&environment_);
    }

    // A helper rounds and flushes subnormals as the caller does, or threads would change bits.
    void help() {
      std::fenv_t own;
      std::fegetenv(&own);
      std::fesetenv(&environment_);
      work();
      std::fesetenv(&own);
    }

    void work() {
      int64_t mine = 0;
      for (int64_t task; (task = next_.fetch_add(1)) < tasks_; ++mine) body_(context_, task);
      if (mine && done_.fetch_add(mine) + mine == tasks_) {
        std::lock_guard<std::mutex> lock(mutex_);
        finished_.notify_one();
      }
    }

    void wait() {
      for (int spins = 0; spins < 2000; ++spins)
        if (done_.load() == tasks_) return;
      std::unique_lock<std::mutex> lock(mutex_);
      finished_.wait(lock, [this] { return done_.load() == tasks_; });
    }

   private:
    const int64_t tasks_;
    void (*const body_)(void*, int64_t);
    void* const context_;
    std::fenv_t environment_;
    std::atomic<int64_t> next_{0}, done_{0};
    std::mutex mutex_;
    std::condition_variable finished_;
  };

  static void run(void* pool, int64_t tasks, void (*body)(void*, int64_t), void* context) {
    const int64_t threads = pool && tasks > 1 ? ((Pool*)pool)->threads_.num_threads() : 1;
    if (threads < 2) {
      for (int64_t task = 0; task < tasks; ++task) body(context, task);
      return;
    }
    const auto job = std::make_shared<Job>(tasks, body, context);
    for (int64_t helper = 1; helper < threads && helper < tasks; ++helper)
      ((Pool*)pool)->threads_.Schedule([job] { job->help(); });
    job->work();
    job->wait();
  }

  xla::ffi::ThreadPool threads_;
};

}  // namespace jaxnorm
