"""Every public name says what it takes, what it returns and shows it by an example."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import jaxnorm


def public_objects() -> dict[str, object]:
    """Returns our functions and classes that can be reached without an underscore, by name."""
    found, seen = {}, set()
    walked = pkgutil.walk_packages(jaxnorm.__path__, "jaxnorm.")
    names = [info.name for info in walked if "._" not in info.name]
    for module in map(importlib.import_module, ["jaxnorm", *names]):
        for name, value in vars(module).items():
            ours = getattr(value, "__module__", "").split(".")[0] == "jaxnorm"
            if not name.startswith("_") and ours and callable(value) and id(value) not in seen:
                seen.add(id(value))
                found[f"{module.__name__}.{name}"] = value
    return found


def section(doc: str, *titles: str) -> str | None:
    """Returns the text of the first section of a docstring with one of the titles."""
    found = re.search(rf"^(?:{'|'.join(titles)}):\n((?:[ \t]+.*\n?|\n)*)", doc, re.MULTILINE)
    return found and found[1]


def call_faults(function, title: str = "Args") -> Iterator[str]:
    """Yields what the docstring of a function does not say of its arguments and its result."""
    doc = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    names = [name for name in signature.parameters if name not in ("self", "cls")]
    told = section(doc, title) or ""
    for name in names:
        if not re.search(rf"^\s+(\w+, )*(\*\*?)?{name}\b.*:", told, re.MULTILINE):
            yield f"no argument {name}"
    if signature.return_annotation not in (None, "None") and not section(doc, "Returns", "Yields"):
        yield "no result"


def class_faults(cls: type) -> Iterator[str]:
    """Yields what the docstrings of a class and of its public methods do not say."""
    doc = inspect.cleandoc(vars(cls).get("__doc__") or "")
    # The metaclass of nnx hides a constructor's arguments from the class itself.
    constructor = vars(cls).get("__init__", cls)
    parameters = inspect.signature(constructor).parameters
    told = section(doc, "Args", "Attributes") or ""
    # A field may also be explained by the comment behind it.
    commented = re.findall(r"^    (\w+): .*  # ", inspect.getsource(cls), re.MULTILINE)
    # Every module of Flax takes `parent` and `name`, and none of Flax's own documents them.
    for name in [name for name in parameters if name not in (*commented, "self", "parent", "name")]:
        if not re.search(rf"^\s+(\w+, )*(\*\*?)?{name}\b.*:", told, re.MULTILINE):
            yield f"no argument {name}"
    for name, method in vars(cls).items():
        public = name == "__call__" or not name.startswith("_")
        own = inspect.isfunction(method) and method.__module__ == cls.__module__
        if public and own and name != "setup":
            yield from (f"{name}: {fault}" for fault in call_faults(method))


def faults(value) -> Iterator[str]:
    """Yields what is missing in the docstring of a public function or class."""
    doc = value.__doc__ or ""
    if not doc or doc.startswith(f"{value.__name__}("):
        yield "no docstring"
        return
    if inspect.isclass(value) and issubclass(value, Exception):
        return
    if ">>>" not in doc:
        yield "no example"
    yield from class_faults(value) if inspect.isclass(value) else call_faults(value)


def test_every_public_name_has_its_arguments_its_result_and_an_example():
    missing = {name: list(faults(value)) for name, value in public_objects().items()}
    assert {name: found for name, found in missing.items() if found} == {}


def test_the_core_is_among_the_public_names():
    assert {"jaxnorm.batch_norm", "jaxnorm.moments", "jaxnorm.linen.BatchNorm"} <= {
        *public_objects()
    }


def no_docstring(x):
    return x


def no_argument(x: int, y: int) -> int:
    """Returns the sum.

    Args:
        x: a number.

    Returns:
        A number.

    Examples:
        >>> no_argument(1, 2)
        3
    """
    return x + y


def no_result(x: int) -> int:
    """Returns the number.

    Args:
        x: a number.

    Examples:
        >>> no_result(1)
        1
    """
    return x


def no_example(x: int) -> int:
    """Returns the number.

    Args:
        x: a number.

    Returns:
        A number.
    """
    return x


class NoArgument(NamedTuple):
    """A pair.

    Attributes:
        first: a number.

    Examples:
        >>> NoArgument(1, 2).first
        1
    """

    first: int
    second: int


class NoMethod:
    """Nothing but a method.

    Examples:
        >>> NoMethod().double(1)
        2
    """

    def double(self, x: int) -> int:
        return 2 * x


@pytest.mark.parametrize(
    "value", [no_docstring, no_argument, no_result, no_example, NoArgument, NoMethod]
)
def test_a_docstring_that_lacks_something_is_noticed(value):
    assert list(faults(value))
