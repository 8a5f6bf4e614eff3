"""Samples that span rows: batch, instance, group and ghost norms."""


def serves(view, dtypes, *, target) -> str | None:
    """Returns that there is no kernel yet."""
    return "the Pallas kernels of samples that span rows are not written yet"
