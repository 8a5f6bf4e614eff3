"""How the tests compile and call what they test."""

import contextlib
import functools

import jax
import jaxtyping
import numpy as np

# What users get, where `tests/conftest.py` asks for less of the compiler's work.
OPTIMIZED = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}


def compiled(function):
    """Returns `function` as one program: eagerly, each of its operations would be compiled."""
    programs = {}

    @functools.wraps(function)
    def call(*arrays, **options):
        given = {k: v for k, v in options.items() if isinstance(v, np.ndarray | jax.Array)}
        static = {k: v for k, v in options.items() if k not in given}
        key = repr(static)  # an estimator shows its arguments, or the addresses of its functions
        if key not in programs:
            call_with_static = functools.partial(function, **static)
            programs[key] = jax.jit(call_with_static)
        return programs[key](*arrays, **given)

    return call


@contextlib.contextmanager
def without_type_checks():
    """Calls what it surrounds as users do: types are checked in the tests only."""
    were_off = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", were_off)
