// The kernels for one instruction set: this file is compiled for each with other flags and another
// JAXNORM_ISA, and binding.cc chooses among the copies when the library is loaded.
#include "columns_backward.h"
#include "columns_forward.h"

namespace JAXNORM_ISA {

template <class T, class U>
static void forward(const Forward& f, Executor executor) {
  f.view.r == 1 ? forward_rows<T, U>(f, executor) : forward_columns<T, U>(f, executor);
}

template <class T, class U>
static void backward(const Backward& b, Executor executor) {
  b.view.r == 1 ? backward_rows<T, U>(b, executor) : backward_columns<T, U>(b, executor);
}

// y has the type of x, or it is float, or x is.
static void any_forward(Type x, Type y, const Forward& f, Executor executor) {
  const bool same = x == y;
  switch (x) {
    case Type::kFloat32:
      if (y == Type::kBfloat16) return forward<float, bfloat16>(f, executor);
      if (y == Type::kFloat16) return forward<float, float16>(f, executor);
      return forward<float, float>(f, executor);
    case Type::kBfloat16:
      return same ? forward<bfloat16, bfloat16>(f, executor)
                  : forward<bfloat16, float>(f, executor);
    case Type::kFloat16:
      return same ? forward<float16, float16>(f, executor) : forward<float16, float>(f, executor);
  }
}

static void any_backward(Type x, Type y, const Backward& b, Executor executor) {
  const bool same = x == y;
  switch (x) {
    case Type::kFloat32:
      if (y == Type::kBfloat16) return backward<float, bfloat16>(b, executor);
      if (y == Type::kFloat16) return backward<float, float16>(b, executor);
      return backward<float, float>(b, executor);
    case Type::kBfloat16:
      return same ? backward<bfloat16, bfloat16>(b, executor)
                  : backward<bfloat16, float>(b, executor);
    case Type::kFloat16:
      return same ? backward<float16, float16>(b, executor) : backward<float16, float>(b, executor);
  }
}

extern const Kernels kernels;
const Kernels kernels = {any_forward, any_backward};

}  // namespace JAXNORM_ISA
