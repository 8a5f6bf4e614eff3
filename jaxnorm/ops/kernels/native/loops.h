// Loops over registers, scratch memory, and tasks over threads.
#pragma once

#include <cstdlib>

#include "kernels.h"
#include "vector.h"

#define FLATTEN __attribute__((flatten))  // a loop's body is a lambda: it must not become a call

namespace JAXNORM_ISA {

using namespace jaxnorm;

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// body(i, lanes) for the registers that cover [0, n).
template <class Body>
INLINE void sweep(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, All{});
  if (i < n) body(i, First{n - i});
}

// The sums of K terms over [0, n): term(i, lanes, out) writes K registers. Four partial sums of
// each hide the latency of an addition.
template <int K, class Term>
INLINE void reduce(int64_t n, float* sums, Term term) {
  Vec total[4][K] = {}, value[K];
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int u = 0; u < 4; ++u) {
      term(i + u * kLanes, All{}, value);
      for (int k = 0; k < K; ++k) total[u][k] += value[k];
    }
  sweep(n - i, [&](int64_t j, auto lanes) {
    term(i + j, lanes, value);
    for (int k = 0; k < K; ++k) total[0][k] += keep(value[k], lanes);
  });
  for (int k = 0; k < K; ++k)
    sums[k] = sum((total[0][k] + total[1][k]) + (total[2][k] + total[3][k]));
}

// An output that is written once. A large one goes past the caches, if each of its rows of `width`
// elements starts at a whole cache line.
template <class T>
class Output {
 public:
  Output(void* data, int64_t elements, int64_t width) : data_((T*)data) {
    constexpr int64_t kLine = 64, kCached = 1 << 24;
    streams_ = elements * (int64_t)sizeof(T) >= kCached && (uintptr_t)data % kLine == 0 &&
               width * (int64_t)sizeof(T) % kLine == 0;
  }
  Output at(int64_t i) const { return Output(data_ + i, streams_); }
  INLINE_MEMBER void put(int64_t i, Vec value, All) const {
    streams_ ? stream(data_ + i, value) : store(data_ + i, value, All{});
  }
  INLINE_MEMBER void put(int64_t i, Vec value, First lanes) const {
    store(data_ + i, value, lanes);
  }

 private:
  Output(T* data, bool streams) : data_(data), streams_(streams) {}
  T* data_;
  bool streams_;
};

INLINE void clear(double* p, int64_t n) { std::memset(p, 0, n * sizeof(double)); }

template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t n) : memory_(std::malloc(n * sizeof(T) + 64)) {
    if (memory_ == nullptr) std::abort();
    data_ = (T*)(((uintptr_t)memory_ + 63) & ~(uintptr_t)63);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }
  operator T*() const { return data_; }

 private:
  void* memory_;
  T* data_;
};

// body(task) for each task. How work is cut into tasks depends on its shape alone, and what tasks
// leave behind is added up in their order, so threads never change a bit of the result.
template <class Body>
INLINE void parallel(Executor executor, int64_t tasks, Body body) {
  const auto task = [](void* context, int64_t i) {
    (*(Body*)context)(i);
    finish_streams();
  };
  executor.run(executor.pool, tasks, task, &body);
}

INLINE Executor serial() {
  return {nullptr, [](void*, int64_t tasks, void (*body)(void*, int64_t), void* context) {
            for (int64_t task = 0; task < tasks; ++task) body(context, task);
          }};
}

}  // namespace JAXNORM_ISA
