"""Losses of logits and a batch."""

import jax.numpy as jnp
import optax

from jaxnorm.training._entries import entry
from jaxnorm.typing import Array, PyTree


def cross_entropy(
    logits: Array, batch: PyTree, *, label_smoothing: float = 0.0
) -> tuple[Array, dict[str, Array]]:
    """Returns the mean cross-entropy of integer labels and the accuracy.

    The loss is the mean over the batch of `-sum(q * log_softmax(logits))`, where q puts
    `1 - label_smoothing` on the label and shares the rest equally among all K classes (Szegedy et
    al., Rethinking the Inception Architecture, arXiv:1512.00567, 2015, section 7). It is computed
    in float32 or wider.

    Args:
        logits: [N, K], unnormalized log-probabilities.
        batch: a mapping with `labels` [N], integers in `range(K)`.
        label_smoothing: share of the probability spread over all classes, in 0..1.

    Returns:
        The loss [] in nats, and as metrics `accuracy` [] in 0..1.

    Raises:
        ValueError: the batch has no labels, or logits and labels do not fit each other.

    Examples:
        >>> logits = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]]))
        >>> loss, metrics = cross_entropy(logits, {"labels": jnp.array([0, 1])})
        >>> print(f"{loss:.4f} {metrics['accuracy']:.1f}")
        1.4979 0.5
    """
    labels = entry(batch, "labels", "name it so, or write a loss of your own")
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"cross_entropy needs logits [N, K] and labels [N], got {list(logits.shape)} and "
            f"{list(labels.shape)}"
        )
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if label_smoothing:
        uniform = optax.softmax_cross_entropy(logits, jnp.full_like(logits, 1 / logits.shape[1]))
        nats = (1 - label_smoothing) * nats + label_smoothing * uniform
    correct = jnp.argmax(logits, axis=-1) == labels
    return jnp.mean(nats), {"accuracy": jnp.mean(correct, dtype=logits.dtype)}
