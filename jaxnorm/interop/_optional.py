"""Packages that are imported only by the functions that need them."""

import importlib
from types import ModuleType


def require(package: str, purpose: str) -> ModuleType:
    """Returns an optional package, imported now.

    Args:
        package: such as "torch".
        purpose: what needs it, for the error.

    Returns:
        The module.

    Raises:
        ImportError: the package is not installed.

    Examples:
        >>> require("math", "arithmetic").sqrt(4.0)
        2.0
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {package}, which is not installed; the extra `parity` brings it: "
            'pip install "jaxnorm[parity]"'
        ) from error
