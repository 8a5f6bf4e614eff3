"""What a norm elsewhere does beside its weights, as the arguments of our modules."""

from typing import Any, NamedTuple

from jaxnorm import linen, nnx


class NormOptions(NamedTuple):
    """The module that does what a norm of another framework does, with its arguments.

    Examples:
        >>> NormOptions("LayerNorm", {"epsilon": 1e-5}).linen(name="ln").epsilon
        1e-05
    """

    name: str  # of the class in jaxnorm.linen and jaxnorm.nnx
    options: dict[str, Any]  # its arguments

    def linen(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the module of `jaxnorm.linen`.

        Args:
            *args: arguments before the options, such as the layer that WeightNorm wraps.
            **kwargs: more arguments, or others than `options`.

        Returns:
            A linen module.
        """
        return getattr(linen, self.name)(*args, **{**self.options, **kwargs})

    def nnx(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the module of `jaxnorm.nnx`.

        Args:
            *args: arguments before the options: the number of features.
            **kwargs: more arguments, `rngs` among them, or others than `options`.

        Returns:
            An nnx module.
        """
        return getattr(nnx, self.name)(*args, **{**self.options, **kwargs})


def last_axes(count: int) -> int | tuple[int, ...]:
    """Returns the last `count` axes: -1 for one, (-2, -1) for two.

    Args:
        count: how many.

    Returns:
        Axes counted from the end.
    """
    return -1 if count == 1 else tuple(range(-count, 0))


def affine(use_scale: Any, use_bias: Any) -> dict[str, bool]:
    """Returns whether there are a scale and a bias, as arguments.

    Args:
        use_scale: true where there is a scale.
        use_bias: true where there is a bias.

    Returns:
        The arguments of ours.
    """
    return {"use_scale": bool(use_scale), "use_bias": bool(use_bias)}


def refused(layer: Any, why: str) -> ValueError:
    """Returns the error of a norm that no module of ours equals.

    Args:
        layer: the norm.
        why: what it does, and what to do instead.

    Returns:
        To be raised.
    """
    return ValueError(f"{type(layer).__name__} {why}")
