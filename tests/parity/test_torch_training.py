"""Running statistics beside PyTorch's: evaluation, and five training steps and then evaluation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import BatchStats, batch_norm, cumulative, ema, instance_norm
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, wide

torch = pytest.importorskip("torch", reason="needs the extra `parity`")

STEPS, RATE, MOMENTUM, EPSILON = 5, 0.1, 0.1, 1e-5
SHAPES = {2: (7, 5), 3: (5, 5, 9), 4: (3, 5, 7, 5), 5: (3, 5, 3, 5, 2)}
MODULES = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}


def batches(ndim, mean=2.0):
    """Returns the batches of all steps and of the evaluation, and what the loss compares with."""
    rng = np.random.default_rng(ndim)
    shape = (STEPS + 1, *SHAPES[ndim])
    return rng.normal(mean, 3, shape), rng.normal(size=shape)


def our_training(x, target, dtype):
    """Returns parameters, statistics and output in evaluation."""
    average = ema(1 - MOMENTUM, unbiased=True)
    options = {"axis": 1, "epsilon": EPSILON, "estimator": average}

    @compiled
    def step(parameters, stats, x, target):
        def loss(parameters):
            y, after = batch_norm(x, stats, *parameters, use_running_average=False, **options)
            return jnp.mean((y - target) ** 2), after

        gradients, after = jax.grad(loss, has_aux=True)(parameters)
        return jax.tree.map(lambda p, g: p - RATE * g, parameters, gradients), after

    parameters, stats = (jnp.ones(5, dtype), jnp.zeros(5, dtype)), average.init((5,), dtype)
    for now in range(STEPS):
        given = jnp.asarray(x[now], dtype), jnp.asarray(target[now], dtype)
        parameters, stats = step(parameters, stats, *given)
    last = jnp.asarray(x[-1], dtype)
    evaluate = functools.partial(batch_norm, use_running_average=True, **options)
    y, _ = compiled(evaluate)(last, stats, *parameters)
    return *parameters, *stats, y


def their_training(x, target, dtype):
    module = getattr(torch.nn, MODULES[x.ndim - 1])(5, momentum=MOMENTUM, eps=EPSILON, dtype=dtype)
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    for now in range(STEPS):
        optimizer.zero_grad()
        y = module(torch.tensor(x[now], dtype=dtype))
        torch.mean((y - torch.tensor(target[now], dtype=dtype)) ** 2).backward()
        optimizer.step()
    module.eval()
    with torch.no_grad():
        y = module(torch.tensor(x[-1], dtype=dtype))
    state = module.running_mean, module.running_var
    return [v.detach().double().numpy() for v in (module.weight, module.bias, *state, y)]


@pytest.mark.parametrize("ndim", SHAPES)
@pytest.mark.sampled(2)
def test_five_steps_and_an_evaluation_end_where_pytorch_in_float64_ends(ndim):
    x, target = batches(ndim)
    expected = their_training(x.astype(np.float32), target.astype(np.float32), torch.float64)
    got = our_training(x, target, jnp.float32)
    bound = STEPS * 8 * np.finfo(np.float32).eps * np.sqrt(x[0].size / 5)
    for have, want in zip(got, expected, strict=True):
        assert relative_error(have, want, 1.0) < bound


@pytest.mark.usefixtures("x64")
def test_five_steps_agree_to_the_digits_of_float64():
    x, target = batches(4)
    expected = their_training(x, target, torch.float64)
    bound = STEPS * 8 * np.finfo(np.float64).eps * np.sqrt(x[0].size / 5)
    for have, want in zip(our_training(x, target, jnp.float64), expected, strict=True):
        assert relative_error(have, want, 1.0) < bound


def test_five_steps_at_a_large_offset_end_where_pytorch_in_float64_ends():
    x, target = batches(4, mean=3e4)
    x = x.astype(np.float32).astype(np.float64)
    expected = their_training(x, target.astype(np.float32), torch.float64)
    scale, bias, mean, var, _ = our_training(x, target, jnp.float32)
    bound = STEPS * 8 * np.finfo(np.float32).eps * np.sqrt(x[0].size / 5)
    for have, want in zip((scale, bias, mean, var), expected, strict=False):
        assert relative_error(have, want, 1.0) < bound


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_evaluation_with_given_statistics_is_within_a_rounding_of_float64(dtype):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(2, 3, SHAPES[4]), dtype)
    stats = BatchStats(
        *(jnp.asarray(v, jnp.float32) for v in (rng.normal(size=5), rng.gamma(2, size=5)))
    )
    y, _ = compiled(batch_norm)(x, stats, axis=1, use_running_average=True, epsilon=EPSILON)
    exact = [torch.tensor(wide(v)) for v in (x, *stats)]
    want = torch.nn.functional.batch_norm(*exact, training=False, eps=EPSILON).numpy()
    half_ulp = float(jnp.finfo(dtype).eps) / 2
    granted = half_ulp * np.abs(want) + 8 * np.finfo(np.float32).eps * np.abs(want).max()
    assert np.all(np.abs(wide(y) - want) <= granted)


def test_no_momentum_is_the_average_of_all_batches_up_to_what_lies_between_them():
    # PyTorch averages unbiased variances of equal batches; ours is the population's variance.
    x, _ = batches(4)
    module = torch.nn.BatchNorm2d(5, momentum=None, dtype=torch.float64)
    population = cumulative()
    state = population.init((5,))
    options = {"axis": 1, "use_running_average": False, "estimator": population}
    train = compiled(functools.partial(batch_norm, **options))
    for batch in x:
        module(torch.tensor(batch))
        _, state = train(jnp.asarray(batch, jnp.float32), state)
    m = batch.size // 5
    between = x.mean((1, 3, 4)).var(0)
    want = module.running_var.numpy() * (m - 1) / m + between
    assert relative_error(state.mean, module.running_mean.numpy()) < 1e-5
    assert relative_error(state.var, want) < 1e-5


def test_pytorch_refuses_single_values_where_we_do():
    x = np.ones((1, 5), np.float32)
    with pytest.raises(ValueError):
        torch.nn.functional.batch_norm(torch.tensor(x), None, None, training=True)
    with pytest.raises(ValueError):
        batch_norm(x, ema().init((5,)), use_running_average=False)
    with pytest.raises(ValueError):
        torch.nn.functional.instance_norm(torch.tensor(x[..., None]))
    with pytest.raises(ValueError):
        instance_norm(x[..., None], feature_axes=1)
