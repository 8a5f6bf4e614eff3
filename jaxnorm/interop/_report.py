"""What a conversion returns: the variables, and what became of every leaf."""

from typing import Any, NamedTuple

from jaxnorm.typing import Shape


class Mapped(NamedTuple):
    """A leaf of one side that became a leaf of the other.

    Examples:
        >>> print(Mapped("fc.weight", "output/kernel", (10, 4), (4, 10), "float32", "transposed"))
        fc.weight [10, 4] -> output/kernel [4, 10] float32, transposed
    """

    source: str  # its name in the source
    target: str  # its name in the target
    source_shape: Shape  # before
    target_shape: Shape  # after
    dtypes: str  # of the target, or of both where they differ
    layout: str  # "same", or what was done to the axes

    def __str__(self) -> str:
        layout = "" if self.layout == "same" else f", {self.layout}"
        return (
            f"{self.source} {list(self.source_shape)} -> {self.target} {list(self.target_shape)} "
            f"{self.dtypes}{layout}"
        )


class Conversion(NamedTuple):
    """Converted variables and the report of what was mapped to what.

    Examples:
        >>> done = Conversion({}, (), {}, {"bn.num_batches_tracked": "no place for it"})
        >>> print(done.report())
        left out: bn.num_batches_tracked: no place for it
    """

    variables: Any  # of the form of `like`
    mapped: tuple[Mapped, ...]  # in the order of the source, or of the target of `to_...`
    derived: dict[str, str]  # each target leaf without a source of its own -> what made it
    dropped: dict[str, str]  # each source leaf that has no target, and why that is right

    def report(self) -> str:
        """Returns the report as text, one line per leaf.

        Returns:
            What was mapped, then what was derived, then what was left out.
        """
        lines = [str(mapped) for mapped in self.mapped]
        lines += [f"derived: {leaf}: {how}" for leaf, how in self.derived.items()]
        lines += [f"left out: {leaf}: {why}" for leaf, why in self.dropped.items()]
        return "\n".join(lines)
