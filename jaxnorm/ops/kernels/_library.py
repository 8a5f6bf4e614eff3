"""The compiled kernels: where they are, whether they can be used, and if not, why not."""

import ctypes
import functools
import json
import os
import threading
from pathlib import Path
from typing import NamedTuple

import jax

BUILT = Path(__file__).parent / "build"
TARGETS = ("jaxnorm_forward", "jaxnorm_backward")

_registering = threading.Lock()


class Library(NamedTuple):
    """What loading came to."""

    handle: ctypes.CDLL | None
    why_not: str | None


@functools.cache
def load() -> Library:
    """Returns the loaded library, or the reason why there is none.

    Examples:
        >>> loaded = load()
        >>> (loaded.handle is None) == (loaded.why_not is not None)
        True
    """
    path = BUILT / "libjaxnorm.so"
    if not path.exists():
        return Library(None, record().get("reason", "jaxnorm was not installed by its build"))
    try:
        handle = ctypes.CDLL(str(path))
        handle.jaxnorm_instruction_set.restype = ctypes.c_char_p
        handle.jaxnorm_use_instruction_set.argtypes = [ctypes.c_char_p]
        handle.jaxnorm_use_instruction_set.restype = ctypes.c_bool
    except (OSError, AttributeError) as error:
        return Library(None, f"{path.name} cannot be loaded: {error}")
    return Library(handle, None)


def why_not_registered() -> str | None:
    """Returns why XLA cannot call the library, or None where it can: it is registered by this.

    XLA checks the version of its interface as it registers. That must not happen before its CPU
    client is there: until then it queues, and a queued library of a wrong version would keep the
    client itself from starting.

    Examples:
        >>> why_not_registered() is None or load().handle is None
        True
    """
    with _registering:
        return _register()


@functools.cache
def _register() -> str | None:
    handle, why_not = load()
    if handle is None:
        return why_not
    try:
        jax.local_devices(backend="cpu")
        for target in TARGETS:
            function = jax.ffi.pycapsule(getattr(handle, target))
            jax.ffi.register_ffi_target(target, function, platform="cpu")
    except Exception as error:  # whatever XLA finds wrong with it, plain JAX serves
        return f"XLA refused {BUILT.name}/libjaxnorm.so: {error}"
    return None


def record() -> dict:
    """Returns what the build wrote down: "built", and "reason" or what it was built with.

    Examples:
        >>> isinstance(record(), dict)
        True
    """
    try:
        return json.loads((BUILT / "record.json").read_text())
    except (OSError, ValueError):
        return {}


def disabled() -> bool:
    """Returns whether the environment variable JAXNORM_DISABLE_NATIVE asks for plain JAX.

    Examples:
        >>> isinstance(disabled(), bool)
        True
    """
    return os.environ.get("JAXNORM_DISABLE_NATIVE", "0") not in ("", "0")
