"""Metrics pooled over processes; here one process, two of them in tests/hosts."""

import jax.numpy as jnp
import pytest

from jaxnorm.training import pool_metrics


def test_means_weigh_batches_by_their_rows():
    parts = [({"loss": jnp.array(1.0)}, 3), ({"loss": jnp.array(5.0)}, 1)]
    assert pool_metrics([*parts, ({"loss": jnp.array(jnp.nan)}, 0)]) == {"loss": 2.0}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "no parts"),
        ([({"a": 1.0}, 1), ({"b": 1.0}, 1)], r"\['a'\], \['b'\]"),
        ([({"a": 1.0}, -1)], r"rows \[-1\]"),
        ([({"a": 0.0}, 0)], "no process has any row"),
    ],
)
def test_parts_without_a_mean_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        pool_metrics(parts)
