"""The directive `experiment`: what the kept run of an experiment showed.

    ```{experiment} cifar
    :about: Validation accuracy after; Without batch norm, validation loss
    :figure: cifar.png
    ```

The verdict and the numbers are those of the ledger, read from `experiments/results` by the
experiment's own `claims` and `summary`. `about` picks the sentences that hold one of its parts; a
part that no sentence holds is an error.
"""

import functools
import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from experiments._ledger import say
from experiments._registry import ROWS, load

RESULTS = Path(__file__).parents[2] / "experiments/results"


@functools.cache
def sentences(name: str) -> list[str]:
    """Returns the verdict and the numbers of an experiment, as the ledger says them."""
    report = json.loads((RESULTS / name / "run.json").read_text("utf-8"))
    (row,) = [row for row in ROWS if row.name == name]
    return say(load(row), report["results"])


class Finding(SphinxDirective):
    """An experiment's verdict, some of its numbers, and a figure, with a link to the ledger."""

    required_arguments = 1
    option_spec = MappingProxyType({"about": directives.unchanged, "figure": directives.unchanged})

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        verdict, *numbers = sentences(name)
        lines = [f"**Experiment [{name}](/ledger.md#{name.replace('_', '-')}).** {verdict}", ""]
        for part in filter(None, map(str.strip, self.options.get("about", "").split(";"))):
            found = [number for number in numbers if part in number]
            if not found:
                raise self.error(f"no sentence of the experiment {name} holds {part!r}")
            lines += [f"- {number}" for number in found]
        if figure := self.options.get("figure"):
            path = Path("/../experiments/results", name, figure).as_posix()
            lines += ["", f"![What the experiment {name} measured]({path})"]
        self.env.note_dependency(str(RESULTS / name / "run.json"))
        box = nodes.container(classes=["finding"])
        box += self.parse_text_to_nodes("\n".join(lines))
        return [box]


def setup(app: Any) -> dict[str, bool]:
    """Adds the directive."""
    app.add_directive("experiment", Finding)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
