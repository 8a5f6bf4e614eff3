// Forward, members in columns: the moments of each block, then y from them.
#pragma once

#include "columns.h"

namespace JAXNORM_ISA {

// The moments about the pivot of k <= kChunk rows, added to (first, second) of each of K registers'
// columns. The rows are read twice, the second time from cache, for the squares about their mean;
// meanwhile what lies `ahead` is asked for.
template <int K, class T, class Lanes>
INLINE void measure_panel(const T* x, int64_t k, int64_t stride, const float* pivot, bool center,
                          double* first, double* second, Lanes lanes, int64_t ahead = 0) {
  Vec shift[K], mean[K], total[K] = {}, squares[K] = {};
  for (int j = 0; j < K; ++j) shift[j] = load(pivot + j * kLanes, All{});
  const auto deviation = [&](int64_t r, int j) {
    return load(x + r * stride + j * kLanes, lanes) - shift[j];
  };
  if (center)
    for (int64_t r = 0; r < k; ++r)
      for (int j = 0; j < K; ++j) total[j] += keep(deviation(r, j), lanes);
  for (int j = 0; j < K; ++j) mean[j] = total[j] * (1 / (float)k);
  for (int64_t r = 0; r < k; ++r)
    for (int j = 0; j < K; ++j) {
      if (ahead && starts_line<T>(j)) prefetch(x + r * stride + j * kLanes, ahead);
      const Vec d = keep(deviation(r, j) - mean[j], lanes);
      squares[j] += d * d;
    }
  float totals[K * kLanes], others[K * kLanes];
  for (int j = 0; j < K; ++j) {
    store(totals + j * kLanes, total[j], All{});
    store(others + j * kLanes, squares[j], All{});
  }
  const double share = 1 / (double)k;
  for (int64_t i = 0; i < K * kLanes; ++i) {
    first[i] += totals[i];
    second[i] += others[i] + share * totals[i] * totals[i];
  }
}

template <class T>
FLATTEN static void measure_columns(const T* x, int64_t rows, int64_t width, const float* pivot,
                                    bool center, double* first, double* second) {
  constexpr int64_t kWidth = kPanel * kLanes;
  for (int64_t r = 0; r < rows; r += kChunk, x += kChunk * width) {
    const int64_t k = smaller(kChunk, rows - r);
    int64_t c = 0;
    for (; c + kWidth <= width; c += kWidth)
      measure_panel<kPanel>(x + c, k, width, pivot + c, center, first + c, second + c, All{},
                       next_panel(c, kWidth, width));
    sweep(width - c, [&](int64_t i, auto lanes) {
      i += c;
      measure_panel<1>(x + i, k, width, pivot + i, center, first + i, second + i, lanes);
    });
  }
}

// y = (x - shift) * slope + start: exactly the bias where x is constant.
template <class T, class U>
FLATTEN static void apply_columns(const T* x, Output<U> y, int64_t rows, int64_t width,
                                  const Columns& k) {
  for (int64_t r = 0; r < rows; ++r, x += width, y = y.at(width))
    sweep(width, [&](int64_t i, auto lanes) {
      const Vec d = load(x + i, lanes) - load(k.shift + i, All{});
      y.put(i, d * load(k.slope + i, All{}) + load(k.start + i, All{}), lanes);
    });
}

template <class T, class U>
struct ForwardSample {
  const Forward& args;
  const Packed p;
  const Output<U> y;

  const View& view() const { return args.view; }
  int64_t length() const { return view().c / view().g; }
  const T* x(int64_t n) const { return (const T*)args.x + n * view().r * view().c; }

  bool applies() const { return args.y; }

  void prepare(int64_t n, Columns& k) const {
    if (!args.center) return;
    for (int64_t g = 0, c = 0; g < view().g; ++g) {
      const float pivot = pivot_at(x(n) + c, view());
      for (int64_t i = 0; i < length(); ++i, ++c) k.shift[c] = pivot;
    }
    k.repeat((float*)k.shift);
  }

  void measure(int64_t n, int64_t q0, int64_t q1, const Columns& k, double* first,
               double* second, bool wide) const {
    packed_rows(p, q0, q1, [&](int64_t rows, int64_t width, int64_t at) {
      (wide ? measure_wide<T> : measure_columns<T>)(x(n) + at, rows, width, k.shift, args.center,
                                                    first, second);
    });
  }

  // The statistics, and what apply needs of them; false where some must be measured again.
  bool finish(int64_t n, Columns& k, bool wide) const {
    const int64_t affine = n / (view().n / view().a) * view().c;
    const double share = 1 / (double)(view().r * length());
    bool all = true;
    for (int64_t g = 0; g < view().g; ++g) {
      const int64_t at = n * view().g + g, start = g * length();
      if (wide && !(args.rstd[at] < 0)) continue;
      Sums sums = {0, 0};
      for (int64_t c = start; c < start + length(); ++c)
        sums.first += k.first[c], sums.second += k.second[c];
      Statistic s;
      if (!settle(args, at, k.shift[start], sums, share, wide, s)) {
        all = false;
        continue;
      }
      for (int64_t c = start; c < start + length(); ++c) {
        const float scale = args.scale ? args.scale[affine + c] : 1;
        k.shift[c] = s.mean;
        k.slope[c] = s.rstd * scale;
        k.start[c] = (args.bias ? args.bias[affine + c] : 0) + s.start * scale;
      }
    }
    if (!all) return false;
    for (int64_t c = 0, at = n * view().c; c < view().c && !applies(); ++c, ++at)
      args.shift[at] = k.shift[c], args.slope[at] = k.slope[c], args.start[at] = k.start[c];
    k.repeat((float*)k.shift, k.slope, k.start);
    return true;
  }

  void apply(int64_t n, int64_t q0, int64_t q1, const Columns& k) const {
    packed_rows(p, q0, q1, [&](int64_t rows, int64_t width, int64_t at) {
      apply_columns(x(n) + at, y.at(n * view().r * view().c + at), rows, width, k);
    });
  }
};

template <class T, class U>
static void forward_columns(const Forward& f, Executor executor) {
  const View& v = f.view;
  const Packed p = pack(v);
  const Plan cut = plan(v, p, sizeof(T));
  const ForwardSample<T, U> sample = {f, p, Output<U>(f.y, v.n * v.r * v.c, v.c)};
  if (cut.samples == 0) {
    Columns k(v, p);
    return each_sample(sample, p, cut, 0, v.n, k, executor);
  }
  parallel(executor, ceil_div(v.n, cut.samples), [&](int64_t task) {
    Columns k(v, p);
    const int64_t n = task * cut.samples;
    each_sample(sample, p, cut, n, smaller(v.n, n + cut.samples), k, serial());
  });
}

}  // namespace JAXNORM_ISA
