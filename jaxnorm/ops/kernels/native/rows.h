// r = 1: each statistic belongs to a run of adjacent elements, which are read once from memory and
// then again from cache.
#pragma once

#include "loops.h"

namespace JAXNORM_ISA {

constexpr int64_t kRun = 4096;           // elements whose moments are taken in cache at once
constexpr int64_t kChunk = 64;           // rows summed in float before they go to a double
constexpr int64_t kBlock = 4;            // rows whose gradient is taken together
constexpr int64_t kTaskBytes = 1 << 16;  // what is worth a task of its own

// xhat = (x - mean) * rstd + start, where start stands for what rounding the mean left over.
struct Statistic {
  float mean, rstd, start;
};

template <class T, class Lanes>
INLINE Vec standardized(const T* x, Statistic s, Lanes lanes) {
  return (load(x, lanes) - s.mean) * s.rstd + s.start;
}

// Of x - pivot and of its square in the forward pass, of dy and of dy * xhat in the backward pass.
struct Sums {
  double first, second;
};

// The pivot of the group that starts at x, in the first row of its sample: the median of the first,
// middle and last member, which a single outlier cannot be.
template <class T>
INLINE float pivot_at(const T* x, const View& v) {
  const float first = value(x), middle = value(x + v.row * v.c + v.member);
  const float last = value(x + (v.r - 1) * v.c + v.c / v.g - 1);
  const float low = first < middle ? first : middle, high = first < middle ? middle : first;
  return last < low ? low : last > high ? high : last;
}

// Keeps a statistic, from the sums about its pivot; `share` is one over its members. False where its
// squares may have left the range of float: until they are summed again, `wide`, rstd is negative.
INLINE bool settle(const Forward& f, int64_t k, float pivot, Sums sums, double share, bool wide,
                   Statistic& s) {
  const double offset = sums.first * share, square = sums.second * share - offset * offset;
  const double var = square < 0 ? 0 : square, mean = pivot + offset;  // and NaN stays NaN
  const bool constant = sums.first == 0 && sums.second == 0;
  if (!(wide || (constant ? f.epsilon > 1e-30f : var > 1e-30 && var < 1e30)))
    return f.rstd[k] = -1, false;
  const float rstd = wide ? (float)(1 / __builtin_sqrt(var + f.epsilon))
                          : 1 / __builtin_sqrtf((float)var + f.epsilon);
  const float near = (float)mean, tail = (float)(mean - near);
  f.var[k] = (float)var, f.rstd[k] = rstd;
  if (f.center) f.mean[k] = near, f.tail[k] = tail;
  s = {near, rstd, -tail * rstd};
  return true;
}

// The sums about the pivots in double, which holds what a float's square can be.
template <class T>
static void measure_wide(const T* x, int64_t rows, int64_t width, const float* pivot, bool center,
                         double* first, double* second) {
  for (int64_t r = 0; r < rows; ++r, x += width)
    for (int64_t c = 0; c < width; ++c) {
      const double d = (double)value(x + c) - pivot[c];
      if (center) first[c] += d;
      second[c] += d * d;
    }
}

// Each run is read twice, for its mean and for the squares about that mean, and its moments are
// merged with the others' in double: as exact as two passes over all of x.
template <class T>
FLATTEN static Sums measure_row(const T* x, int64_t n, bool center, float pivot) {
  Sums sums = {0, 0};
  for (int64_t start = 0; start < n; start += kRun, x += kRun) {
    const int64_t k = smaller(kRun, n - start);
    float total = 0, squares;
    if (center)
      reduce<1>(k, &total,
                [&](int64_t i, auto lanes, Vec* out) { *out = load(x + i, lanes) - pivot; });
    const float mean = total / (float)k;
    reduce<1>(k, &squares, [&](int64_t i, auto lanes, Vec* out) {
      const Vec d = (load(x + i, lanes) - pivot) - mean;
      *out = d * d;
    });
    sums.first += total;
    sums.second += squares + (double)total * total / (double)k;
  }
  return sums;
}

template <class T, class U>
FLATTEN static void apply_row(const T* x, Output<U> y, int64_t n, Statistic s, const float* scale,
                              const float* bias) {
  const auto xhat = [&](int64_t i, auto lanes) {
    prefetch(x + i, n);
    return standardized(x + i, s, lanes);
  };
  if (scale && bias)
    sweep(n, [&](int64_t i, auto lanes) {
      y.put(i, xhat(i, lanes) * load(scale + i, lanes) + load(bias + i, lanes), lanes);
    });
  else if (scale)
    sweep(n,
          [&](int64_t i, auto lanes) { y.put(i, xhat(i, lanes) * load(scale + i, lanes), lanes); });
  else if (bias)
    sweep(n,
          [&](int64_t i, auto lanes) { y.put(i, xhat(i, lanes) + load(bias + i, lanes), lanes); });
  else
    sweep(n, [&](int64_t i, auto lanes) { y.put(i, xhat(i, lanes), lanes); });
}

template <class T, class U>
static void forward_rows(const Forward& f, Executor executor) {
  const View v = f.view;
  const int64_t length = v.c / v.g, rows = larger(1, kTaskBytes / (v.c * (int64_t)sizeof(T)));
  const double share = 1 / (double)length;
  const T* x = (const T*)f.x;
  const Output<U> y(f.y, v.n * v.c, length);
  parallel(executor, ceil_div(v.n, rows), [&](int64_t task) {
    for (int64_t n = task * rows; n < smaller(v.n, (task + 1) * rows); ++n) {
      const int64_t affine = n / (v.n / v.a) * v.c;
      for (int64_t g = 0; g < v.g; ++g) {
        const int64_t at = n * v.c + g * length, k = n * v.g + g;
        const float pivot = f.center ? pivot_at(x + at, v) : 0;
        Sums sums = measure_row(x + at, length, f.center, pivot);
        Statistic s;
        if (!settle(f, k, pivot, sums, share, false, s)) {
          sums = {0, 0};
          measure_wide(x + at, length, 1, &pivot, f.center, &sums.first, &sums.second);
          settle(f, k, pivot, sums, share, true, s);
        }
        apply_row(x + at, y.at(at), length, s, f.scale ? f.scale + affine + g * length : nullptr,
                  f.bias ? f.bias + affine + g * length : nullptr);
      }
    }
  });
}

INLINE Statistic statistic_of(const Backward& b, int64_t k) {
  if (!b.center) return {0, b.rstd[k], 0};
  return {b.mean[k], b.rstd[k], -b.tail[k] * b.rstd[k]};
}

// What a statistic's members share in dx = rstd * scale * dy + slope * xhat + start.
struct Pullback {
  Statistic s;
  float slope, start;
};

// From the sums over scale * dy. xhat has no unit, so no product in floats leaves their range.
INLINE Pullback pullback(const Backward& b, int64_t k, Statistic s, Sums sums) {
  const View& v = b.view;
  const double rstd = s.rstd, share = 1 / (double)(v.r * (v.c / v.g));
  const double slope = share * ((b.dvar ? 2 * b.dvar[k] / rstd : 0) - rstd * sums.second);
  const double start = b.center ? share * ((b.dmean ? b.dmean[k] : 0) - rstd * sums.first) : 0;
  return {s, (float)slope, (float)start};
}

template <class T, class U>
FLATTEN static Sums sum_row(const T* x, const U* dy, int64_t n, Statistic s, const float* scale) {
  Sums sums = {0, 0};
  for (int64_t start = 0; start < n; start += kRun) {
    float part[2];
    reduce<2>(smaller(kRun, n - start), part, [&](int64_t i, auto lanes, Vec* out) {
      i += start;
      out[0] = load(dy + i, lanes);
      if (scale) out[0] *= load(scale + i, lanes);
      out[1] = out[0] * standardized(x + i, s, lanes);
    });
    sums.first += part[0], sums.second += part[1];
  }
  return sums;
}

// dx of a panel of K registers' columns, and their sums of dy * xhat and of dy added to (dscale,
// dbias). The next rows are asked for meanwhile: memory would rest otherwise.
template <class T, class U, int K, bool kApply, class Lanes>
INLINE void pull_panel(const T* x, const U* dy, Output<T> dx, int64_t rows, int64_t stride,
                       const Pullback* terms, int64_t g, const float* scale, float* dscale,
                       float* dbias, Lanes lanes) {
  Vec gain[K], product[K] = {}, total[K] = {};
  for (int j = 0; j < K; ++j) gain[j] = scale ? load(scale + j * kLanes, lanes) : splat(1);
  for (int64_t r = 0; r < rows; ++r) {
    const Pullback p = terms[r * g];
    for (int j = 0; j < K; ++j) {
      const int64_t i = r * stride + j * kLanes;
      if (starts_line<T>(j)) prefetch(x + i, rows * stride);
      if (starts_line<U>(j)) prefetch(dy + i, rows * stride);
      const Vec u = load(dy + i, lanes), xhat = standardized(x + i, p.s, lanes);
      if (kApply) dx.put(i, u * p.s.rstd * gain[j] + (xhat * p.slope + p.start), lanes);
      product[j] += u * xhat;
      total[j] += u;
    }
  }
  for (int j = 0; j < K; ++j) {
    store(dscale + j * kLanes, load(dscale + j * kLanes, lanes) + product[j], lanes);
    store(dbias + j * kLanes, load(dbias + j * kLanes, lanes) + total[j], lanes);
  }
}

template <class T, class U, bool kApply>
FLATTEN static void pull_rows(const T* x, const U* dy, Output<T> dx, int64_t rows, int64_t stride,
                              int64_t length, const Pullback* terms, int64_t g, const float* scale,
                              float* dscale, float* dbias) {
  constexpr int64_t kWidth = kPanel * kLanes;
  int64_t c = 0;
  for (; c + kWidth <= length; c += kWidth)
    pull_panel<T, U, kPanel, kApply>(x + c, dy + c, dx.at(c), rows, stride, terms, g,
                                     scale ? scale + c : nullptr, dscale + c, dbias + c, All{});
  sweep(length - c, [&](int64_t i, auto lanes) {
    i += c;
    pull_panel<T, U, 1, kApply>(x + i, dy + i, dx.at(i), rows, stride, terms, g,
                                scale ? scale + i : nullptr, dscale + i, dbias + i, lanes);
  });
}

// Float sums of rows, handed on to doubles before they grow long.
class AffineSums {
 public:
  AffineSums(double* total, int64_t n) : total_(total), part_(n), n_(n) {
    clear(total, n);
    for (int64_t i = 0; i < n; ++i) part_[i] = 0;
  }
  AffineSums(const AffineSums&) = delete;
  AffineSums& operator=(const AffineSums&) = delete;
  ~AffineSums() { flush(); }

  float* take(int64_t rows) {  // where these rows are to be added
    if (rows_ + rows > kChunk) flush();
    rows_ += rows;
    return part_;
  }

 private:
  void flush() {
    for (int64_t i = 0; i < n_; ++i) total_[i] += part_[i], part_[i] = 0;
    rows_ = 0;
  }

  double* const total_;
  const Scratch<float> part_;
  const int64_t n_;
  int64_t rows_ = 0;
};

// parts is (a, blocks, [dscale, dbias], c); the blocks are added in their order.
static void add_parts(const Backward& b, const double* parts, int64_t blocks, Executor executor) {
  constexpr int64_t kStrip = 256;
  const View v = b.view;
  const int64_t strips = ceil_div(v.c, kStrip);
  parallel(executor, v.a * strips, [&](int64_t task) {
    const int64_t a = task / strips, start = task % strips * kStrip;
    const int64_t width = smaller(kStrip, v.c - start);
    for (int64_t which = 0; which < 2; ++which) {
      float* result = which == 0 ? b.dscale : b.dbias;
      if (result == nullptr) continue;
      double total[kStrip] = {};
      for (int64_t k = 0; k < blocks; ++k) {
        const double* part = parts + (2 * (a * blocks + k) + which) * v.c + start;
        for (int64_t c = 0; c < width; ++c) total[c] += part[c];
      }
      for (int64_t c = 0; c < width; ++c) result[a * v.c + start + c] = (float)total[c];
    }
  });
}

// A few rows are summed one by one, and then taken a panel of columns at a time, from cache.
template <class T, class U>
static void backward_rows(const Backward& b, Executor executor) {
  const View v = b.view;
  const int64_t length = v.c / v.g, own = v.n / v.a;  // own: rows that share a scale and a bias
  const int64_t bytes = v.c * (int64_t)(sizeof(T) + sizeof(U));
  const int64_t rows = larger(ceil_div(own, 64), larger(kBlock, kTaskBytes / bytes));
  const int64_t blocks = ceil_div(own, rows);
  const auto pull = b.dx ? pull_rows<T, U, true> : pull_rows<T, U, false>;
  const Output<T> dx(b.dx, v.n * v.c, length);
  Scratch<double> parts(v.a * blocks * 2 * v.c);
  parallel(executor, v.a * blocks, [&](int64_t task) {
    const int64_t a = task / blocks, start = a * own + task % blocks * rows;
    const int64_t end = smaller((a + 1) * own, start + rows);
    const float* scale = b.scale ? b.scale + a * v.c : nullptr;
    AffineSums sums(parts + task * 2 * v.c, 2 * v.c);
    Scratch<Pullback> terms(kBlock * v.g);
    for (int64_t n = start; n < end; n += kBlock) {
      const T* x = (const T*)b.x + n * v.c;
      const U* dy = (const U*)b.dy + n * v.c;
      const int64_t count = smaller(kBlock, end - n);
      float* affine = sums.take(count);
      for (int64_t i = 0; i < count * v.g; ++i) {
        const int64_t k = n * v.g + i;
        const Statistic s = statistic_of(b, k);
        const Sums sums = sum_row(x + i * length, dy + i * length, length, s,
                                  scale ? scale + i % v.g * length : nullptr);
        terms[i] = pullback(b, k, s, sums);
      }
      for (int64_t g = 0, c = 0; g < v.g; ++g, c += length)
        pull(x + c, dy + c, dx.at(n * v.c + c), count, v.c, length, terms + g, v.g,
             scale ? scale + c : nullptr, affine + c, affine + v.c + c);
    }
  });
  add_parts(b, parts, blocks, executor);
}

}  // namespace JAXNORM_ISA
