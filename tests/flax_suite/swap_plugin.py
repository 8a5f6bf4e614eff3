"""A pytest plugin that runs Flax's tests with jaxnorm's classes in the place of Flax's.

It is loaded into a process of its own (`-p swap_plugin`) and takes its orders from the JSON text in
the environment variable `FLAX_SWAP`: the fields of `runner.Orders`, and the file for its report.

Each call of our core is counted for the class that made it, and a class that never made one fails
the run.
"""

import builtins
import collections
import functools
import importlib
import inspect
import json
import os
import re
import sys
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ORDERS = json.loads(os.environ["FLAX_SWAP"])


class Calls:
    """Counts of the calls into our core, for each class that made them."""

    def __init__(self, classes: dict[type, str], perturbation: float):
        """Starts at zero for each of `classes`."""
        self.counts = collections.Counter(dict.fromkeys(classes.values(), 0))
        self._classes = classes
        self._perturbation = perturbation
        self._depth = 0

    def counted(self, function):
        """Returns `function` with its calls counted, save those from inside another counted one."""

        @functools.wraps(function, updated=())
        def wrapper(*args, **kwargs):
            self._depth += 1
            try:
                result = function(*args, **kwargs)
            finally:
                self._depth -= 1
            if self._depth:
                return result
            self._credit(sys._getframe(1))
            return self._perturbed(result)

        return wrapper

    def _credit(self, frame) -> None:
        while frame is not None:
            for cls in type(frame.f_locals.get("self")).__mro__:
                if cls in self._classes:
                    self.counts[self._classes[cls]] += 1
                    return
            frame = frame.f_back

    def _perturbed(self, result):
        if not self._perturbation:
            return result
        return jax.tree.map(lambda leaf: leaf + self._perturbation, result)


def replace(room: str, names: list[str]) -> dict[type, str]:
    """Puts our classes where Flax keeps its own, in every module of Flax that holds them."""
    ours, theirs = (
        importlib.import_module(f"jaxnorm.{room}"),
        importlib.import_module(f"flax.{room}"),
    )
    modules = [m for name, m in sys.modules.items() if name.split(".")[0] == "flax"]
    replaced = {}
    for name in names:
        our_class, their_class = getattr(ours, name), getattr(theirs, name)
        assert our_class is not their_class, f"jaxnorm.{room}.{name} is Flax's own class"
        places = [module for module in modules if vars(module).get(name) is their_class]
        assert len(places) >= 2, f"flax.{room}.{name} was found only in {places}"
        for module in places:
            setattr(module, name, our_class)
        replaced[our_class] = name
    return replaced


def count_core_calls(calls: Calls, rooms: list[str]) -> None:
    """Counts every call that the modules of `rooms` make to a public function of ours."""
    core = {}
    for package in map(importlib.import_module, ("jaxnorm.ops", "jaxnorm.functional")):
        for name, value in list(vars(package).items()):
            if name.startswith("_") or inspect.isclass(value) or not callable(value):
                continue
            core[id(value)] = calls.counted(value)
            setattr(package, name, core[id(value)])
    for name, module in list(sys.modules.items()):
        if name.startswith(tuple(f"jaxnorm.{room}" for room in rooms)):
            for attribute, value in list(vars(module).items()):
                if id(value) in core:
                    setattr(module, attribute, core[id(value)])


class Plugin:
    """The hooks of one run."""

    def __init__(self):
        """Replaces the classes; Flax's tests are not imported yet."""
        classes = {}
        for room in ORDERS["rooms"]:
            classes.update(replace(room, ORDERS["classes"]))
        self.calls = Calls(classes, ORDERS["perturbation"])
        count_core_calls(self.calls, ORDERS["rooms"])
        self.outcomes: dict[str, str] = {}
        self.messages: dict[str, str] = {}
        self.unmatched: list[str] = []
        self.rounded = 0

    def pytest_collection_modifyitems(self, config, items):
        """Keeps the tests that concern the classes, and marks those whose difference is meant."""
        kept = [item for item in items if selected(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
        keys = set().union(*map(test_keys, items))
        self.unmatched = sorted({*ORDERS["differences"], *ORDERS["rounding"]} - keys)
        for item in items:
            row = row_of(ORDERS["differences"], item)
            if row:
                reason, raises, _ = row
                raises = getattr(builtins, raises)
                item.add_marker(pytest.mark.xfail(reason=reason, raises=raises, strict=True))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        """Allows for rounding where a test compares two implementations for equality of bits."""
        tolerance = row_of(ORDERS["rounding"], item)
        if not tolerance:
            return (yield)
        check = functools.partial(self._close, tolerance)
        with mock.patch.object(np.testing, "assert_array_equal", check):
            return (yield)

    def _close(self, tolerance, actual, desired, *args, **kwargs):
        actual, desired = np.asarray(actual), np.asarray(desired)
        assert actual.dtype == desired.dtype, f"{actual.dtype} and {desired.dtype}"
        eps = float(jnp.finfo(desired.dtype).eps)
        actual, desired = actual.astype(np.float64), desired.astype(np.float64)
        largest = np.max(np.abs(desired), initial=0.0, where=np.isfinite(desired))
        np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * eps * largest)
        self.rounded += not np.array_equal(actual, desired, equal_nan=True)

    def pytest_runtest_logreport(self, report):
        """Keeps each test's outcome: the worst of its phases."""
        if report.when == "call" or report.outcome != "passed":
            xfailed = getattr(report, "wasxfail", None) is not None and report.skipped
            self.outcomes[report.nodeid] = "xfailed" if xfailed else report.outcome
            if report.failed:
                self.messages[report.nodeid] = report.longreprtext[-2000:]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        """Writes the report, and fails the run if a class never called our core."""
        idle = sorted(name for name, count in self.calls.counts.items() if not count)
        report = {
            "outcomes": self.outcomes,
            "messages": self.messages,
            "calls": dict(self.calls.counts),
            "idle": idle,
            "unmatched": self.unmatched,
            "rounded": self.rounded,
        }
        Path(ORDERS["report"]).write_text(json.dumps(report, indent=1))
        if idle and not session.exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        """Prints the counts."""
        terminalreporter.write_line(f"calls into jaxnorm: {dict(self.calls.counts)}")


def test_keys(item) -> set[str]:
    """Returns a test's `file::Class::function`, and the same with the number of its parameters."""
    path = item.path.relative_to(item.config.rootpath).as_posix()
    place = f"{path}::{item.cls.__name__}" if item.cls else path
    return {f"{place}::{inspect.unwrap(item.function).__name__}", f"{place}::{item.name}"}


def row_of(table: dict, item):
    """Returns what stands of a test in a table, or None."""
    return next((table[key] for key in test_keys(item) if key in table), None)


def selected(item) -> bool:
    """Tells whether a test's file is selected and its source matches the file's expression."""
    path = item.path.relative_to(item.config.rootpath).as_posix()
    return re.search(ORDERS["select"][path], inspect.getsource(item.function)) is not None


def pytest_configure(config):
    """Replaces the classes before any test of Flax is imported."""
    config.pluginmanager.register(Plugin(), "flax_swap")
