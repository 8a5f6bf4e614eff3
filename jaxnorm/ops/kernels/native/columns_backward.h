// Backward, members in columns: the sums of each block, then dx from them.
#pragma once

#include "columns.h"

namespace JAXNORM_ISA {

// The sums of dy and of dy * xhat over rows <= kChunk, added to (first, second) of each of K
// registers' columns from c on. What lies `ahead` is asked for meanwhile.
template <int K, class T, class U, class Lanes>
INLINE void sum_panel(const T* x, const U* dy, int64_t rows, int64_t stride, const Columns& k,
                      int64_t c, double* first, double* second, Lanes lanes, int64_t ahead = 0) {
  Vec shift[K], rstd[K], start[K], total[K] = {}, product[K] = {};
  for (int j = 0; j < K; ++j) {
    shift[j] = load(k.shift + c + j * kLanes, All{});
    rstd[j] = load(k.rstd + c + j * kLanes, All{});
    start[j] = load(k.tail + c + j * kLanes, All{});
  }
  for (int64_t r = 0; r < rows; ++r)
    for (int j = 0; j < K; ++j) {
      const int64_t i = r * stride + c + j * kLanes;
      if (ahead && starts_line<T>(j)) prefetch(x + i, ahead);
      if (ahead && starts_line<U>(j)) prefetch(dy + i, ahead);
      const Vec u = load(dy + i, lanes);
      total[j] += u;
      product[j] += u * keep((load(x + i, lanes) - shift[j]) * rstd[j] + start[j], lanes);
    }
  float totals[K * kLanes], products[K * kLanes];
  for (int j = 0; j < K; ++j) {
    store(totals + j * kLanes, total[j], All{});
    store(products + j * kLanes, product[j], All{});
  }
  for (int64_t i = 0; i < K * kLanes; ++i) first[c + i] += totals[i], second[c + i] += products[i];
}

template <class T, class U>
FLATTEN static void sum_columns(const T* x, const U* dy, int64_t rows, int64_t width,
                                const Columns& k, double* first, double* second) {
  constexpr int64_t kWidth = kPanel * kLanes;
  for (int64_t r = 0; r < rows; r += kChunk, x += kChunk * width, dy += kChunk * width) {
    const int64_t n = smaller(kChunk, rows - r);
    int64_t c = 0;
    for (; c + kWidth <= width; c += kWidth)
      sum_panel<kPanel>(x, dy, n, width, k, c, first, second, All{}, next_panel(c, kWidth, width));
    sweep(width - c, [&](int64_t i, auto lanes) {
      sum_panel<1>(x, dy, n, width, k, c + i, first, second, lanes);
    });
  }
}

// dx = dy * gain + (x - shift) * rstd * slope + start
template <class T, class U>
FLATTEN static void pull_columns(const T* x, const U* dy, Output<T> dx, int64_t rows, int64_t width,
                                 const Columns& k) {
  for (int64_t r = 0; r < rows; ++r, x += width, dy += width, dx = dx.at(width))
    sweep(width, [&](int64_t i, auto lanes) {
      const Vec near = (load(x + i, lanes) - load(k.shift + i, All{})) * load(k.rstd + i, All{});
      const Vec shared = near * load(k.slope + i, All{}) + load(k.start + i, All{});
      dx.put(i, load(dy + i, lanes) * load(k.gain + i, All{}) + shared, lanes);
    });
}

template <class T, class U>
struct BackwardSample {
  const Backward& args;
  const Packed p;
  const Output<T> dx;
  double* part;  // [dscale, dbias] of these samples

  const View& view() const { return args.view; }
  int64_t length() const { return view().c / view().g; }
  int64_t offset(int64_t n) const { return n * view().r * view().c; }
  const T* x(int64_t n) const { return (const T*)args.x + offset(n); }
  const U* dy(int64_t n) const { return (const U*)args.dy + offset(n); }
  const float* scale(int64_t n) const {
    return args.scale ? args.scale + n / (view().n / view().a) * view().c : nullptr;
  }

  bool applies() const { return args.dx; }

  void prepare(int64_t n, Columns& k) const {
    for (int64_t g = 0, c = 0; g < view().g; ++g) {
      const Statistic s = statistic_of(args, n * view().g + g);
      for (int64_t i = 0; i < length(); ++i, ++c)
        k.shift[c] = s.mean, k.rstd[c] = s.rstd, k.tail[c] = s.start;
    }
    k.repeat((float*)k.shift, k.rstd, k.tail);
  }

  void measure(int64_t n, int64_t q0, int64_t q1, const Columns& k, double* first,
               double* second, bool) const {
    packed_rows(p, q0, q1, [&](int64_t rows, int64_t width, int64_t at) {
      sum_columns(x(n) + at, dy(n) + at, rows, width, k, first, second);
    });
  }

  // The share of dscale and dbias, and what apply needs of each statistic.
  bool finish(int64_t n, Columns& k, bool) const {
    const float* gain = scale(n);
    for (int64_t g = 0; g < view().g; ++g) {
      const int64_t at = n * view().g + g, start = g * length();
      Sums sums = {0, 0};
      for (int64_t c = start; c < start + length(); ++c) {
        const double factor = gain ? gain[c] : 1;
        sums.first += factor * k.first[c], sums.second += factor * k.second[c];
        part[c] += k.second[c], part[view().c + c] += k.first[c];
      }
      const Pullback pull = pullback(args, at, statistic_of(args, at), sums);
      for (int64_t c = start; c < start + length(); ++c) {
        k.gain[c] = gain ? k.rstd[c] * gain[c] : k.rstd[c];
        k.slope[c] = pull.slope;
        k.start[c] = pull.start + pull.slope * k.tail[c];
      }
    }
    k.repeat(k.gain, k.slope, k.start);
    return true;
  }

  void apply(int64_t n, int64_t q0, int64_t q1, const Columns& k) const {
    packed_rows(p, q0, q1, [&](int64_t rows, int64_t width, int64_t at) {
      pull_columns(x(n) + at, dy(n) + at, dx.at(offset(n) + at), rows, width, k);
    });
  }
};

template <class T, class U>
static void backward_columns(const Backward& b, Executor executor) {
  const View& v = b.view;
  const Packed p = pack(v);
  const Plan cut = plan(v, p, sizeof(T));
  const Output<T> dx(b.dx, v.n * v.r * v.c, v.c);
  const int64_t own = v.n / v.a;  // samples that share a scale and a bias
  const int64_t tasks = cut.samples ? ceil_div(own, cut.samples) : 1;
  const int64_t samples = cut.samples ? cut.samples : own;
  Scratch<double> parts(v.a * tasks * 2 * v.c);
  const auto run = [&](int64_t task, Executor within) {
    double* part = parts + task * 2 * v.c;
    clear(part, 2 * v.c);
    Columns k(v, p);
    const int64_t a = task / tasks, n = a * own + task % tasks * samples;
    const BackwardSample<T, U> sample = {b, p, dx, part};
    each_sample(sample, p, cut, n, smaller((a + 1) * own, n + samples), k, within);
  };
  if (cut.samples)
    parallel(executor, v.a * tasks, [&](int64_t task) { run(task, serial()); });
  else
    for (int64_t task = 0; task < v.a; ++task) run(task, executor);
  add_parts(b, parts, tasks, executor);
}

}  // namespace JAXNORM_ISA
