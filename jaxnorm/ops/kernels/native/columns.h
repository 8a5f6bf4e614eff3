// r > 1: the members of a statistic lie c apart. Sums are kept for each column, over blocks of
// rows, added up in double and folded into groups.
#pragma once

#include "rows.h"

namespace JAXNORM_ISA {

constexpr int64_t kSampleBytes = 1 << 20;  // of a sample that stays in one core's cache

// Narrow rows are taken m at a time, so that registers are full: q packed rows of w = m * c
// elements, then one of `tail`.
struct Packed {
  int64_t m, w, q, tail;
};

INLINE int64_t common_divisor(int64_t a, int64_t b) {
  while (b) {
    const int64_t rest = a % b;
    a = b, b = rest;
  }
  return a;
}

INLINE Packed pack(const View& v) {
  int64_t m = 64 / common_divisor(v.c, 64);
  if (m * v.c > 1024) m = 16 / common_divisor(v.c, 16);
  if (m * v.c > 2048) m = 1;
  return {m, m * v.c, v.r / m, v.r % m * v.c};
}

// body(rows, width, offset): packed rows q0 to q1 and, after the last of all, the tail.
template <class Body>
INLINE void packed_rows(const Packed& p, int64_t q0, int64_t q1, Body body) {
  if (q1 > q0) body(q1 - q0, p.w, q0 * p.w);
  if (q1 == p.q && p.tail) body((int64_t)1, p.tail, p.q * p.w);
}

// From a panel of kWidth columns at c to the next, or to the first of the next chunk of rows. The
// processor foresees by itself where only one panel makes a row.
INLINE int64_t next_panel(int64_t c, int64_t panel, int64_t width) {
  if (width < 2 * panel) return 0;
  return c + 2 * panel <= width ? panel : kChunk * width - c;
}

// How samples become tasks: several small ones in each task (`samples`), or (`samples` zero) one
// large one after the other, each cut into `blocks` of `rows` packed rows.
struct Plan {
  int64_t samples, blocks, rows;
};

INLINE Plan plan(const View& v, const Packed& p, int64_t item) {
  const int64_t bytes = v.r * v.c * item, own = v.n / v.a;
  if (bytes <= kTaskBytes || (bytes <= kSampleBytes && v.n >= 8))
    return {larger(smaller(larger(1, kTaskBytes / bytes), own), ceil_div(own, 64)), 1, p.q};
  const int64_t rows = larger(larger(kChunk, 2 * kTaskBytes / (p.w * item)), ceil_div(p.q, 128));
  return {0, larger(1, ceil_div(p.q, rows)), rows};
}

// The numbers of each column of one sample, over a packed row in whole registers.
class Columns {
 public:
  Columns(const View& v, const Packed& p)
      : size(ceil_div(p.w, kLanes) * kLanes),
        shift(6 * size),
        slope(shift + size),
        start(slope + size),
        rstd(start + size),
        tail(rstd + size),
        gain(tail + size),
        first(2 * size),
        second(first + size),
        v_(v),
        p_(p) {
    for (int64_t i = 0; i < 6 * size; ++i) shift[i] = 0;
  }

  // The first c columns are channels; those after them repeat the channels.
  template <class... Column>
  void repeat(Column... column) {
    for (int64_t i = v_.c; i < p_.w; i += v_.c)
      (std::memcpy(column + i, column, v_.c * sizeof(float)), ...);
  }

  void fold() {  // the sums of all columns into those of the channels
    for (int64_t i = v_.c; i < p_.w; i += v_.c)
      for (int64_t c = 0; c < v_.c; ++c) first[c] += first[i + c], second[c] += second[i + c];
  }

  const int64_t size;
  const Scratch<float> shift;  // the pivot, and then the mean
  float *const slope, *const start, *const rstd, *const tail, *const gain;
  const Scratch<double> first;  // the sums
  double* const second;

 private:
  const View v_;
  const Packed p_;
};

// The samples from n to end, one after the other, each cut into blocks. A Sample has prepare(n, k),
// measure(n, q0, q1, k, first, second, wide), finish(n, k, wide) and apply(n, q0, q1, k). What the
// blocks measure is added in their order, and measured again, `wide`, where finish says no.
template <class Sample>
static void each_sample(const Sample& sample, const Packed& p, const Plan& cut, int64_t n,
                        int64_t end, Columns& k, Executor executor) {
  const int64_t size = 2 * k.size;
  Scratch<double> parts(cut.blocks * size);
  for (; n < end; ++n) {
    sample.prepare(n, k);
    const auto measure = [&](bool wide) {
      parallel(executor, cut.blocks, [&](int64_t block) {
        double* part = parts + block * size;
        clear(part, size);
        const int64_t q = block * cut.rows;
        sample.measure(n, q, smaller(p.q, q + cut.rows), k, part, part + k.size, wide);
      });
      clear(k.first, size);
      for (int64_t block = 0; block < cut.blocks; ++block)
        for (int64_t i = 0; i < size; ++i) k.first[i] += parts[block * size + i];
      k.fold();
      return sample.finish(n, k, wide);
    };
    if (!measure(false)) measure(true);
    if (!sample.applies()) continue;
    // The last block first: what was read last may still be in cache.
    parallel(executor, cut.blocks, [&](int64_t task) {
      const int64_t q = (cut.blocks - 1 - task) * cut.rows;
      sample.apply(n, q, smaller(p.q, q + cut.rows), k);
    });
  }
}

}  // namespace JAXNORM_ISA
