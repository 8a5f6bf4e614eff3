"""Every kernel is lowered for GPU and TPU at the sizes of models, on a machine that has neither."""

import functools

import jax
import jax.numpy as jnp
import pytest

from jaxnorm import layer_norm, rms_norm, standardize
from jaxnorm.ops import show_config
from tests.laws.implementations import VARIABLE
from tests.ops.kernels.pallas.test_transforms import kernels

BOTH = pytest.mark.parametrize("platform", ["cuda", "tpu"])
DTYPES = (jnp.bfloat16, pytest.param(jnp.float32, marks=pytest.mark.nightly))
# Rows, entries, groups of a row: transformers, short heads, long rows.
SIZES = [(8192, 4096, 1), (6304, 768, 1), (65536, 64, 1), (2048, 32768, 1), (4096, 4096, 32)]


def arrays(*shapes, dtype=jnp.float32):
    return [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "length", "groups"), SIZES)
def test_forward_and_backward_are_one_kernel_each(platform, dtype, rows, length, groups):
    def run(x, scale, bias, ct):
        def normalized(*given):
            x, scale, *bias = given
            options = {"scale": scale, "bias": bias[0] if bias else None, "center": bool(bias)}
            stats_shape = (rows, groups)
            return standardize(x, stats_shape, epsilon=1e-6, implementation="pallas", **options)[0]

        layer, rms = (jax.vjp(normalized, *given) for given in ((x, scale, bias), (x, scale)))
        return layer[0], rms[0], layer[1](ct), rms[1](ct)

    (x,), (scale,) = arrays((rows, length), dtype=dtype), arrays((1, length))
    # A GPU adds up over the columns of long rows in a kernel of its own.
    long = platform == "cuda" and length == 32768
    assert kernels(run, x, scale, scale, x, platform=platform) == (6 if long else 4)


@BOTH
@pytest.mark.parametrize("wish", ["", "pallas"])
def test_the_kernels_serve_those_who_ask(monkeypatch, platform, wish):
    monkeypatch.setenv(VARIABLE, wish)
    x, scale = arrays((64, 96), (96,))
    assert kernels(layer_norm, x, scale, scale, platform=platform) == bool(wish)
    assert kernels(rms_norm, x, scale, platform=platform) == bool(wish)
    assert kernels(functools.partial(layer_norm, implementation="xla"), x, platform=platform) == 0


def test_what_no_kernel_serves_is_left_to_plain_jax():
    (x,) = arrays((64, 96), dtype=jnp.float16)
    run = functools.partial(layer_norm, implementation="pallas")
    assert kernels(run, x, platform="cuda") == 1
    assert kernels(run, x, platform="tpu") == 0  # no float16
    (x,) = arrays((16, 1 << 20))
    assert kernels(run, x, platform="tpu") == 0  # more than the fast memory


REFUSED = {
    "the kernels take no mask": {"mask": jnp.ones((4, 6), bool)},
    "the kernels have no variance='fast'": {"variance": "fast"},
    "the kernels have no layout for these axes": {"scale": jnp.ones((4, 1))},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_kernels_cannot_do_is_refused_with_the_reason(reason):
    with pytest.raises(ValueError, match=f"'pallas' does not serve.*{reason}"):
        options = {"epsilon": 0.1, "implementation": "pallas", **REFUSED[reason]}
        standardize(jnp.ones((4, 6)), (1, 6), **options)


def test_the_configuration_says_why_the_kernels_do_not_serve(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    x = jax.ShapeDtypeStruct((8, 64), jnp.float32)
    interpreter = "Pallas kernels in the interpreter"
    assert f"{interpreter}: no: not asked for" in show_config(x, (8, 1))
    asked = show_config(x, (8, 1), implementation="pallas")
    assert asked.splitlines()[-1] == f"{interpreter}: serves"
    wide = jax.ShapeDtypeStruct((8, 64), jnp.float64)
    assert f"{interpreter}: no: the kernels take float32" in show_config(
        wide, (8, 1), implementation="pallas"
    )
    with pytest.raises(ValueError, match=r"x \[8, 64\]; pass stats_shape="):
        show_config(x)
