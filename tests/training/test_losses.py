"""Cross-entropy against float64 NumPy."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.training import cross_entropy


def reference(logits: np.ndarray, labels: np.ndarray, smoothing: float) -> float:
    logits = logits.astype(np.float64)
    log_softmax = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    target = np.eye(logits.shape[1])[labels] * (1 - smoothing) + smoothing / logits.shape[1]
    return -np.mean(np.sum(target * log_softmax, axis=1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_mean_cross_entropy_with_the_smoothed_labels(smoothing):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((32, 10)).astype(np.float32) * 5
    labels = rng.integers(0, 10, 32)
    loss_fn = functools.partial(cross_entropy, label_smoothing=smoothing)
    loss, metrics = loss_fn(jnp.asarray(logits), {"labels": labels})
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(loss, reference(logits, labels, smoothing), rtol=8 * eps)
    assert metrics["accuracy"] == np.float32(np.mean(logits.argmax(1) == labels))


def test_bfloat16_logits_are_taken_in_float32():
    logits = jnp.zeros((3, 7), jnp.bfloat16)
    loss, metrics = cross_entropy(logits, {"labels": jnp.zeros(3, jnp.int32)})
    assert loss.dtype == metrics["accuracy"].dtype == jnp.float32
    np.testing.assert_allclose(loss, np.log(7), rtol=4 * np.finfo(np.float32).eps)


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\[4, 3\] and \[5\]"):
        cross_entropy(jnp.zeros((4, 3)), {"labels": jnp.zeros(5, jnp.int32)})
