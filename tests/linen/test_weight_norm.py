"""The linen weight norm is pure, can keep the function, and every parameter learns."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jaxnorm
from jaxnorm.linen import WeightNorm
from tests.linen.reference import sample

EPS = float(jnp.finfo(jnp.float32).eps)
KEY = jax.random.key(0)
X = sample(shape=(3, 4))


def kernel_norm(kernel, axes):
    return np.sqrt((np.asarray(kernel, np.float64) ** 2).sum(axes))


@pytest.mark.parametrize(
    ("feature_axes", "reduced"), [(-1, (0, 1)), ((0, 2), (1,)), (None, (0, 1, 2)), (1, (0, 2))]
)
def test_law_15_the_kernels_norm_as_scale_keeps_the_function(feature_axes, reduced):
    conv = nn.Conv(4, (3,))
    x = sample(shape=(2, 6, 5))
    norm = WeightNorm(conv, scale_init=jaxnorm.weight_norm_scale, feature_axes=feature_axes)
    variables = norm.init(KEY, x)
    scale, params = (
        variables["params"]["layer_instance/kernel/scale"],
        variables["params"]["layer_instance"],
    )
    assert_allclose(scale, kernel_norm(params["kernel"], reduced), rtol=16 * EPS)
    plain = nn.Conv(4, (3,)).apply({"params": params}, x)
    assert_allclose(norm.apply(variables, x), plain, rtol=32 * EPS, atol=16 * EPS)


def test_law_15_a_scale_of_one_as_in_flax_does_not():
    norm = WeightNorm(nn.Dense(5))
    variables = norm.init(KEY, X)
    assert_array_equal(variables["params"]["layer_instance/kernel/scale"], np.ones(5))
    kernel = np.asarray(variables["params"]["layer_instance"]["kernel"], np.float64)
    expected = X @ (kernel / kernel_norm(kernel, 0))
    assert_allclose(norm.apply(variables, X), expected, rtol=32 * EPS, atol=8 * EPS)


def test_law_15_the_kernel_is_never_written():
    norm = WeightNorm(nn.Dense(5))
    variables = norm.init(KEY, X)
    raised = {
        **variables["params"],
        "layer_instance": jax.tree.map(lambda v: 3 * v, variables["params"]["layer_instance"]),
    }
    _, updated = norm.apply({"params": raised}, X, mutable=True)
    assert_array_equal(
        updated["params"]["layer_instance"]["kernel"], raised["layer_instance"]["kernel"]
    )
    assert (
        np.abs(kernel_norm(variables["params"]["layer_instance"]["kernel"], 0) - 1) > 1e-3
    ).all()


def test_output_and_gradients_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    norm = WeightNorm(nn.Dense(5), scale_init=nn.initializers.normal(1.0))
    variables = norm.init(KEY, X)
    cotangent = sample(shape=(3, 5), seed=1)

    def loss(params):
        return jnp.vdot(norm.apply({"params": params}, X), cotangent)

    gradients = jax.grad(loss)(variables["params"])
    linear = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 5).double())
    length, direction = linear.parametrizations.weight.parameters()
    kernel, scale = (
        variables["params"]["layer_instance"]["kernel"],
        variables["params"]["layer_instance/kernel/scale"],
    )
    with torch.no_grad():
        direction.copy_(torch.tensor(np.asarray(kernel).T))
        length.copy_(torch.tensor(np.asarray(scale)[:, None]))
        linear.bias.zero_()
    y = linear(torch.tensor(X, dtype=torch.float64))
    (y * torch.tensor(cotangent)).sum().backward()
    assert_allclose(norm.apply(variables, X), y.detach(), rtol=32 * EPS, atol=16 * EPS)
    close = {"rtol": 64 * EPS, "atol": 32 * EPS}
    assert_allclose(gradients["layer_instance"]["kernel"], direction.grad.T, **close)
    assert_allclose(gradients["layer_instance/kernel/scale"], length.grad[:, 0], **close)


class Block(nn.Module):
    """A layer with running statistics."""

    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False, momentum=0.5, name="norm")(nn.Dense(4)(x))


def test_running_statistics_of_the_layer_move():
    norm = WeightNorm(Block())
    variables = norm.init(KEY, X)
    _, updated = norm.apply(variables, X, mutable=["batch_stats"])
    assert np.abs(updated["batch_stats"]["layer_instance"]["norm"]["mean"]).min() > 0


def test_a_filter_picks_parameters_by_parts_of_their_paths():
    block = nn.Sequential([nn.Dense(4), nn.Dense(2)])
    variables = WeightNorm(block, variable_filter={"layers_1"}).init(KEY, X)
    scales = {name for name in variables["params"] if name.endswith("scale")}
    assert scales == {"layer_instance/layers_1/kernel/scale", "layer_instance/layers_1/bias/scale"}


def test_an_error_names_the_layer():
    with pytest.raises(ValueError, match=r"WeightNorm: feature_axes=3 names axis 3"):
        WeightNorm(nn.Dense(5), feature_axes=3).init(KEY, X)
