// The kernels for one instruction set: this file is compiled for each with other flags and another
// JAXNORM_ISA, and binding.cc chooses among the copies when the library is loaded.
#include "columns_backward.h"
#include "columns_forward.h"

namespace JAXNORM_ISA {

// body(T{}, U{}) for the types of x and y. y has the type of x, or it is float, or x is.
template <class Body>
static void with_types(Type x, Type y, Body body) {
  switch (x) {
    case Type::kFloat32:
      if (y == Type::kBfloat16) return body(float{}, bfloat16{});
      if (y == Type::kFloat16) return body(float{}, float16{});
      return body(float{}, float{});
    case Type::kBfloat16:
      return x == y ? body(bfloat16{}, bfloat16{}) : body(bfloat16{}, float{});
    case Type::kFloat16:
      return x == y ? body(float16{}, float16{}) : body(float16{}, float{});
  }
}

static void forward(Type x, Type y, const Forward& f, Executor executor) {
  with_types(x, y, [&](auto t, auto u) {
    f.view.r == 1 ? forward_rows<decltype(t), decltype(u)>(f, executor)
                  : forward_columns<decltype(t), decltype(u)>(f, executor);
  });
}

static void backward(Type x, Type y, const Backward& b, Executor executor) {
  with_types(x, y, [&](auto t, auto u) {
    b.view.r == 1 ? backward_rows<decltype(t), decltype(u)>(b, executor)
                  : backward_columns<decltype(t), decltype(u)>(b, executor);
  });
}

extern const Kernels kernels;
const Kernels kernels = {forward, backward};

}  // namespace JAXNORM_ISA
