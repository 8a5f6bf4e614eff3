"""VGG networks against the parameter counts that are published for them."""

import jax
import numpy as np
import pytest

from jaxnorm.linen import BatchNorm
from jaxnorm.models import vgg_11, vgg_16, vgg_small
from tests.models import reference


def parameters(model, pixels: int) -> int:
    images = np.ones((1, pixels, pixels, 3), np.float32)
    return reference.size(jax.eval_shape(model.init, jax.random.key(0), images)["params"])


@pytest.mark.parametrize(
    ("model", "count", "millions"),
    # The exact counts are those of torchvision's vgg11 and vgg16, the millions the paper's table 2.
    [(vgg_11(), 132_863_336, 133), (vgg_16(), 138_357_544, 138)],
    ids=["vgg_11", "vgg_16"],
)
def test_published_networks_have_the_published_number_of_parameters(model, count, millions):
    assert parameters(model, 224) == count
    assert round(count / 1e6) == millions


def test_small_network_has_the_parameters_of_its_layers():
    convolutions = 9 * (3 * 32 + 32**2 + 32 * 64 + 64**2 + 64 * 128 + 128**2)
    widths = 2 * (32 + 64 + 128)
    dense = 4 * 4 * 128 * 10 + 10
    assert parameters(vgg_small(), 32) == convolutions + widths + dense
    # Batch norm has a scale and a bias and makes the convolutions' own biases idle.
    assert parameters(vgg_small(norm=BatchNorm), 32) == convolutions + 2 * widths + dense


def test_a_field_that_is_given_replaces_the_networks_own():
    assert vgg_small(stages=((4,),)).stages == ((4,),)
    assert vgg_16(dropout_rate=0.0).dropout_rate == 0.0
