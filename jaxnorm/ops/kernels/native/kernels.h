// What the kernels compute, in plain structs that every instruction set's copy of them shares.
//
// x is seen as (n, r, c) with g groups of c / g adjacent channels. A statistic belongs to each
// (n, g) and is taken over the r rows and the channels of its group: layer and RMS norm are r = 1,
// g = 1, batch norm is n = 1, g = c, instance norm g = c, group norm has any g. scale and bias are
// (a, c): with a = 1 all n share them, otherwise each has those of its n / a neighbours.
#pragma once

#include <cstdint>

namespace jaxnorm {

struct View {
  int64_t n, r, c, g, a;
  int64_t row, member;  // where the middle member of a group's statistic is
};

enum class Type { kFloat32, kBfloat16, kFloat16 };

// Runs body(context, 0) to body(context, tasks - 1), in any order and on any threads.
struct Executor {
  void* pool;
  void (*run)(void* pool, int64_t tasks, void (*body)(void* context, int64_t task), void* context);
};

// mean, tail, var and rstd are (n, g). The tail is what rounding the mean to a float left over.
// Without `center` both are null, and var is the mean square. rstd is 1 / sqrt(var + epsilon), also
// where var is no float. scale and bias may be null. Where r > 1 y may be null too: then shift,
// slope and start, (n, c), are what y = (x - shift) * slope + start needs.
struct Forward {
  View view;
  bool center;
  float epsilon;
  const void* x;
  const float *scale, *bias;
  void* y;
  float *mean, *tail, *var, *rstd;
  float *shift, *slope, *start;
};

// dmean and dvar, the cotangents of the moments, may be null, and so may dx, dscale and dbias.
struct Backward {
  View view;
  bool center;
  const void *x, *dy;
  const float *scale, *mean, *tail, *rstd, *dmean, *dvar;
  void* dx;
  float *dscale, *dbias;
};

struct Kernels {
  void (*forward)(Type x, Type y, const Forward&, Executor);
  void (*backward)(Type x, Type y, const Backward&, Executor);
};

}  // namespace jaxnorm
