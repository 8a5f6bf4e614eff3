"""Runs Flax's tests with our classes: `python -m tests.flax_suite [linen] [nnx]`."""

import sys

from tests.flax_suite.differences import SELECTION
from tests.flax_suite.runner import run_room

for room in sys.argv[1:] or SELECTION:
    report = run_room(room)
    print(f"{room}\n{report.summary()}", *report.problems(), sep="\n", flush=True)
