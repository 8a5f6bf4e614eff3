"""A table of plain text."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Returns rows as lines with columns of one width.

    Args:
        rows: cells of text, as many in each row; the first row is the head.
        left: how many columns stand to the left of their width; numbers stand to the right.

    Returns:
        One line per row.

    Examples:
        >>> print(aligned([["path", "size"], ["norm", "8"]]))
        path  size
        norm     8
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
