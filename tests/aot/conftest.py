"""The compilers for GPU and TPU, each in a process of its own (see CONTRIBUTING.md)."""

import contextlib

import pytest

from experiments.bench._ahead import compiler, why_not


@pytest.fixture(scope="session")
def ahead():
    """Returns `ahead(target)`: runs a module's function where programs are compiled for a target.

    `ahead("h100")(function, *arguments)` returns what the function does; what goes in and out is
    pickled. The test is skipped where the compiler is not installed.
    """
    with contextlib.ExitStack() as stack:
        running = {}

        def get(target):
            if (reason := why_not(target)) is not None:
                pytest.skip(reason)
            if target not in running:
                running[target] = stack.enter_context(compiler(target))
            return running[target]

        yield get
