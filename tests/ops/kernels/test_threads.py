"""The same bits on every number of threads, the same numbers on every instruction set."""

import functools
import hashlib
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.ops.kernels import _library, _native
from tests.ops.kernels.cases import (
    CASES,
    Case,
    arrays,
    computed,
    expected,
    needs_native,
    standardized,
)
from tests.stats.reference import relative_error

pytestmark = needs_native

# Enough elements for threads, several tasks in both kernels, and subnormal numbers.
LARGE = [
    Case((700, 133), (700, 1), (1, 133)),
    Case((9000, 48), (1, 48), (1, 48)),
    Case((12, 900, 64), (12, 1, 8), (1, 1, 64)),
    Case((2, 9000, 24), (2, 1, 1), (2, 1, 24)),
]


def bits() -> dict[str, str]:
    """Returns a hash of output, moments and gradients for every large case."""
    hashes = {}
    for case in LARGE:
        x, scale, bias, cotangents = arrays(case)
        x = x * jnp.where(jnp.arange(case.shape[-1]) % 5 == 0, 1e-39, 1.0)
        results = jax.tree.leaves(computed(case, x, scale, bias, cotangents, epsilon=1e-30))
        data = b"".join(np.asarray(v).tobytes() for v in results)
        hashes[str(case)] = hashlib.sha256(data).hexdigest()
    return hashes


def in_a_process_with(threads: int) -> dict[str, str]:
    """Returns `bits` from a process whose XLA has this many threads."""
    code = "import json; from tests.ops.kernels.test_threads import bits; print(json.dumps(bits()))"
    environment = {**os.environ, "NPROC": str(threads), "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.nightly
def test_the_number_of_threads_changes_no_bit():
    alone = in_a_process_with(1)
    assert in_a_process_with(7) == alone
    assert in_a_process_with(2) == alone


def test_running_again_changes_no_bit():
    assert bits() == bits()


def test_many_calls_at_once_end():
    # More calls than threads, each waiting for tasks that the others' threads would run.
    case = LARGE[1]
    x, scale, bias, _ = arrays(case)

    @functools.partial(jax.pmap, in_axes=(0, None, None))
    def run(x, scale, bias):
        return standardized(x, case.stats_shape, scale, bias, epsilon=1e-5)[0]

    many = jnp.stack([x] * jax.local_device_count())
    for _ in range(5):
        y = jax.block_until_ready(run(many, scale, bias))
    assert np.isfinite(np.asarray(y)).all()


@pytest.fixture
def restore():
    chosen = _native.instruction_set()
    yield
    _library.load().handle.jaxnorm_use_instruction_set(chosen.encode())


@pytest.mark.parametrize("name", ["avx512", "avx2", "portable"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_every_instruction_set_is_right(restore, name, dtype):
    if not _library.load().handle.jaxnorm_use_instruction_set(name.encode()):
        pytest.skip(f"this processor has no {name}")
    assert _native.instruction_set() == name
    for case in CASES.values():
        inputs = arrays(case, dtype, mean=0.3)
        got, gradients = computed(case, *inputs, epsilon=1e-5)
        want, wanted = expected(case, *inputs, epsilon=1e-5)
        bound = 4e-6 + (0 if dtype == jnp.float32 else float(jnp.finfo(dtype).eps) / 2)
        for have, value in zip((*got, *gradients), (*want, *wanted), strict=True):
            assert relative_error(have, value, 1.0) < bound


def test_an_unknown_instruction_set_is_refused():
    assert not _library.load().handle.jaxnorm_use_instruction_set(b"avx1024")
