"""The one loop of all that trains here: points in time, measurements, checkpoints, resuming."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from jaxnorm.training import Metrics, latest_step, stop_on_signal

from ._run import Run
from ._tables import Row

State = TypeVar("State")


class Point(NamedTuple):
    """A point of a training."""

    step: int
    state: Any
    metrics: Metrics  # of the last `advance`; empty before the first


class Measured(NamedTuple):
    """What is measured at a point."""

    tables: Mapping[str, Sequence[Row]]  # rows by table, without the training's own columns
    remark: str = ""  # shown with the progress
    scalars: Mapping[str, Any] | None = None  # None for the numbers of the only row


def every(steps: int, times: int, *, start: bool = False) -> range:
    """Return points that are `steps` apart, the start among them if asked.

    Examples:
        >>> list(every(5, 3)), list(every(5, 3, start=True))
        ([5, 10, 15], [0, 5, 10, 15])
    """
    return range(0 if start else steps, times * steps + 1, steps)


def train(
    run: Run,
    name: str,
    start: Callable[[], State],
    advance: Callable[[State], tuple[State, Metrics]],
    measure: Callable[[Point], Measured],
    *,
    points: Sequence[int],
    where: Mapping[str, str | int],
    steps: int = 1,
    begin: int = 0,
) -> State:
    """Train, measure at the points, and return the last state.

    A checkpoint follows a measurement: the last one, and others every `run.save_every_s`. With
    `run.resume`, training goes on after the last checkpoint, and rows of later steps are dropped
    and measured again. A training that has ended gives its last state back. SIGTERM ends the
    process with status 143 after a checkpoint, also between two points. On many hosts all do the
    same after the same step, by the clock of the first.

    Args:
        run: takes tables, scalars and checkpoints, and shows progress.
        name: names the training's checkpoints, progress and scalars.
        start: returns the state at the step `begin`.
        advance: takes `steps` training steps.
        measure: returns the rows of a point.
        points: training steps at which to measure, ascending; `begin` may be one.
        where: columns by name that tell this training's rows from others'.
        steps: training steps of one `advance`. They divide the distances between points.
        begin: training steps that the first state has behind it.
    """
    folder = run.checkpoints / name
    saved = latest_step(folder) if run.resume else None
    run.rewind(-1 if saved is None else saved, where)
    state, step, metrics = start(), begin if saved is None else saved, {}
    if saved is not None:
        state = run.hosts.restore(folder, state)
    written = time.monotonic()
    with run.progress(name, len(points), "points") as report, stop_on_signal() as stopped:
        for done, point in enumerate(points, 1):
            if saved is not None and point <= saved:
                continue
            while step < point:
                state, metrics = advance(state)
                step += steps
                if step < point and stopped():
                    _leave(run, folder, state, step)
            measured = measure(Point(step, state, metrics))
            _record(run, name, {**where, "step": step}, measured)
            report(done, measured.remark)
            late = run.hosts.agree(time.monotonic() - written >= run.save_every_s)
            if step > begin and (point == points[-1] or late):
                run.hosts.save(folder, state, step)
                written = time.monotonic()
            if step > begin and stopped():
                _leave(run, folder, state, step)
    return state


def _leave(run: Run, folder: Path, state: Any, step: int) -> NoReturn:
    """Ends the process after a checkpoint, which may be written already."""
    if latest_step(folder) != step:
        run.hosts.save(folder, state, step)
    raise SystemExit(128 + signal.SIGTERM)


def _record(run: Run, name: str, own: Mapping[str, str | int], measured: Measured) -> None:
    for table, rows in measured.tables.items():
        run.record(table, [{**own, **row} for row in rows])
    scalars = measured.scalars
    if scalars is None:
        ((row,),) = measured.tables.values()
        scalars = {name: value for name, value in row.items() if not isinstance(value, str)}
    run.scalars(name, int(own["step"]), scalars)
