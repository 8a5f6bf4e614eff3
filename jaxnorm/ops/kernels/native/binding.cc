// XLA's custom calls, and the choice of an instruction set when the library is loaded.
#include <cstring>

#include "kernels.h"
#include "pool.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace jaxnorm_base {
extern const jaxnorm::Kernels kernels;
}
#ifdef JAXNORM_X86
namespace jaxnorm_avx2 {
extern const jaxnorm::Kernels kernels;
}
namespace jaxnorm_avx512 {
extern const jaxnorm::Kernels kernels;
}
#endif

namespace jaxnorm {
namespace {

namespace ffi = xla::ffi;

using Floats = ffi::Buffer<ffi::F32>;
using Out = ffi::Result<ffi::AnyBuffer>;
using FloatsOut = ffi::Result<Floats>;
using Dimensions = ffi::Span<const int64_t>;  // of a View

struct InstructionSet {
  const char* name;
  const Kernels* kernels;
  bool (*supported)();
};

// The best first.
const InstructionSet kInstructionSets[] = {
#ifdef JAXNORM_X86
    {"avx512", &jaxnorm_avx512::kernels,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
     }},
    {"avx2", &jaxnorm_avx2::kernels,
     [] {
       // Every processor with AVX2 and FMA has F16C, which not every compiler can ask for.
       return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
     }},
#endif
    {"portable", &jaxnorm_base::kernels, [] { return true; }},
};

const InstructionSet* best() {
#ifdef JAXNORM_X86
  __builtin_cpu_init();
#endif
  const InstructionSet* set = kInstructionSets;
  while (!set->supported()) ++set;
  return set;
}

const InstructionSet* chosen = best();

Type type_of(const ffi::AnyBuffer& buffer) {
  switch (buffer.element_type()) {
    case ffi::BF16:
      return Type::kBfloat16;
    case ffi::F16:
      return Type::kFloat16;
    default:
      return Type::kFloat32;
  }
}

// An operand or result that is not there is an empty one.
float* data(Floats& buffer) { return buffer.element_count() ? buffer.typed_data() : nullptr; }
float* data(FloatsOut& buffer) { return data(*buffer); }
void* data(Out& buffer) { return buffer->element_count() ? buffer->untyped_data() : nullptr; }

View view_of(Dimensions d) { return {d[0], d[1], d[2], d[3], d[4], d[5], d[6]}; }

template <class Arguments>
ffi::Error run(void (*kernel)(Type, Type, const Arguments&, Executor), ffi::ThreadPool threads,
               const ffi::AnyBuffer& x, const ffi::AnyBuffer& y, const Arguments& arguments) {
  const View& v = arguments.view;
  if ((int64_t)x.element_count() != v.n * v.r * v.c || v.c % v.g || v.n % v.a)
    return ffi::Error::InvalidArgument("jaxnorm: the view does not fit the array");
  Pool pool(threads);
  kernel(type_of(x), type_of(y), arguments, pool.executor(x.element_count()));
  return ffi::Error::Success();
}

ffi::Error forward(ffi::ThreadPool threads, Dimensions d, bool center, float epsilon,
                   ffi::AnyBuffer x, Floats scale, Floats bias, Out y, FloatsOut mean,
                   FloatsOut tail, FloatsOut var, FloatsOut rstd, FloatsOut shift,
                   FloatsOut slope, FloatsOut start) {
  return run(chosen->kernels->forward, threads, x, *y,
             {view_of(d), center, epsilon, x.untyped_data(), data(scale), data(bias), data(y),
              data(mean), data(tail), data(var), data(rstd), data(shift), data(slope),
              data(start)});
}

ffi::Error backward(ffi::ThreadPool threads, Dimensions d, bool center, ffi::AnyBuffer x,
                    ffi::AnyBuffer dy, Floats scale, Floats mean, Floats tail, Floats rstd,
                    Floats dmean, Floats dvar, Out dx, FloatsOut dscale, FloatsOut dbias) {
  return run(chosen->kernels->backward, threads, x, dy,
             {view_of(d), center, x.untyped_data(), dy.untyped_data(), data(scale), data(mean),
              data(tail), data(rstd), data(dmean), data(dvar), data(dx), data(dscale),
              data(dbias)});
}

auto bind() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Attr<Dimensions>("view").Attr<bool>("center");
}

auto forward_binding() {
  return bind()
      .Attr<float>("epsilon")
      .Arg<ffi::AnyBuffer>().Arg<Floats>().Arg<Floats>()
      .Ret<ffi::AnyBuffer>()
      .Ret<Floats>().Ret<Floats>().Ret<Floats>().Ret<Floats>()
      .Ret<Floats>().Ret<Floats>().Ret<Floats>();
}

auto backward_binding() {
  return bind()
      .Arg<ffi::AnyBuffer>().Arg<ffi::AnyBuffer>().Arg<Floats>()
      .Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
      .Ret<ffi::AnyBuffer>().Ret<Floats>().Ret<Floats>();
}

}  // namespace
}  // namespace jaxnorm

EXPORT XLA_FFI_Error* jaxnorm_forward(XLA_FFI_CallFrame*);
EXPORT XLA_FFI_Error* jaxnorm_backward(XLA_FFI_CallFrame*);

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxnorm_forward, jaxnorm::forward, jaxnorm::forward_binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxnorm_backward, jaxnorm::backward, jaxnorm::backward_binding());

EXPORT const char* jaxnorm_instruction_set() { return jaxnorm::chosen->name; }

// Computes with the named instruction set from now on; false where the processor lacks it.
EXPORT bool jaxnorm_use_instruction_set(const char* name) {
  for (const auto& set : jaxnorm::kInstructionSets)
    if (std::strcmp(set.name, name) == 0 && set.supported()) {
      jaxnorm::chosen = &set;
      return true;
    }
  return false;
}
