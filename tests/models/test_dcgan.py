"""The networks of a DCGAN have the paper's shapes, and each norm its place."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.linen import InstanceNorm
from jaxnorm.models import DCGANDiscriminator, DCGANGenerator


def variables_of(model, x):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), x))


def size(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_the_generator_has_the_papers_shapes_and_parameters():
    z = jnp.zeros((2, 100))
    params = variables_of(DCGANGenerator(), z)["params"]
    widths = [1024, 512, 256, 128]
    kernels = [100 * 4 * 4 * 1024]
    kernels += [25 * a * b for a, b in zip(widths, [*widths[1:], 3], strict=True)]
    assert size(params) == sum(kernels) + 2 * sum(widths) + 3
    image = jax.eval_shape(lambda: DCGANGenerator().init_with_output(jax.random.key(0), z)[0])
    assert image.shape == (2, 64, 64, 3)


def test_the_discriminator_mirrors_the_generator():
    x = jnp.zeros((2, 64, 64, 3))
    params = variables_of(DCGANDiscriminator(), x)["params"]
    widths = [3, 128, 256, 512, 1024]
    kernels = [25 * a * b for a, b in itertools.pairwise(widths)]
    assert size(params) == sum(kernels) + 128 + 2 * (256 + 512 + 1024) + 4 * 4 * 1024 + 1
    assert "norm_0" not in params


def test_images_are_between_minus_one_and_one_and_of_the_size_asked_for():
    model = DCGANGenerator(widths=(8, 4), start=(7, 7), channels=1, norm=InstanceNorm)
    z = 100 * jax.random.normal(jax.random.key(1), (3, 5))
    images, _ = model.init_with_output(jax.random.key(0), z)
    assert images.shape == (3, 28, 28, 1)
    assert float(jnp.abs(images).max()) <= 1


def test_spectral_norm_bounds_every_layer():
    model = DCGANDiscriminator(widths=(4, 8), norm=None, spectral=True)
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    variables = model.init(jax.random.key(0), x)
    for _ in range(30):
        _, changed = model.apply(variables, x, train=True, mutable=["batch_stats"])
        variables = {**variables, **changed}
    for name in ("down_0", "down_1"):
        kernel = np.asarray(variables["params"][name]["kernel"], np.float64)
        largest = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0]
        sigma = variables["batch_stats"][f"{name}_spectral"][f"{name}/kernel/sigma"]
        np.testing.assert_allclose(sigma, largest, rtol=1e-3)


def test_what_is_no_noise_and_no_image_is_refused():
    with pytest.raises(ValueError, match=r"needs noise \[N, Z\], got z \[2, 3, 4\]"):
        DCGANGenerator().init(jax.random.key(0), jnp.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=r"needs images \[N, H, W, C\], got x \[2, 3\]"):
        DCGANDiscriminator().init(jax.random.key(0), jnp.zeros((2, 3)))
