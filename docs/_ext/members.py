"""Pages of the normalizers, made from the catalogue when the documentation is built.

They go to `docs/normalizers`, which git ignores: a page for each member, a gallery with all
pictures, and two tables for `normalizers.md`. A file is only written where its content changes, so
that a second build reads nothing twice.
"""

import ast
import csv
import inspect
import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import blocks
import formulas

import jaxnorm
from jaxnorm.functional import CATALOGUE, SPECS, Member

HERE = Path(__file__).parent
FOLDER = "normalizers"
LEAGUE = HERE.parents[1] / "experiments/results/league/league.csv"
WHEN: dict[str, str] = tomllib.loads((HERE / "when.toml").read_text("utf-8"))

THEMES = {
    "batch": "Over the batch",
    "streaming": "Over a stream of examples or steps",
    "whitening": "Whitening",
    "layer": "Over the features of each position",
    "instance": "Over the positions of each example",
    "response": "Over neighbours and other channels",
    "evolved": "A norm and its activation in one",
    "graph": "Over graphs",
    "conditional": "With a condition",
    "kernels": "Of kernels",
    "pointwise": "Without statistics",
}
CLAIMS = {  # claim -> what it says, its law's heading
    "offset": (
        "Output and gradient keep their digits at every mean/std up to 1e6.",
        "law-1-the-statistics-are-right-at-any-offset",
    ),
    "range": (
        "Output and gradient are right for inputs of every size from 1e-20 to 1e20.",
        "laws-without-a-number",
    ),
    "mask": (
        "What a mask excludes changes neither the statistics nor a gradient, whatever it holds.",
        "law-5-masked-entries-reach-no-gradient",
    ),
    "weights": (
        "An entry of weight two counts as two entries.",
        "law-16-fractions-weigh-and-a-norm-may-have-several-feature-axes",
    ),
    "shards": (
        "Statistics over shards are those of the whole array.",
        "law-2-masked-shards-weigh-by-their-valid-entries",
    ),
    "streaming": (
        "Running statistics over batches are those of all their examples.",
        "law-7-running-statistics-are-right-from-the-first-step",
    ),
    "scale": (
        "The output stays the same where the input is multiplied by a positive number.",
        "laws-without-a-number",
    ),
    "shift": (
        "The output stays the same where a number is added to the input.",
        "laws-without-a-number",
    ),
}
CONTESTS = {  # column of the league -> how its number is said
    "images_32_accuracy": "accuracy on images {:.1%} at a batch of 32",
    "images_2_accuracy": "{:.1%} at a batch of 2",
    "text_16_loss": "loss {:.3f} nats per character on text",
}


def page(member: Member, league: dict[str, dict[str, str]]) -> str:
    """Returns the page of a member as MyST."""
    name, drawn = member.name, blocks.blocks(member)
    symbols = blocks.symbols(member)
    shape = f" Statistics shape: `{symbols}`." if symbols else ""
    return "\n".join(
        [
            f"# {name}\n",
            f"**When to use it.** {WHEN[name]}\n",
            f"```{{figure}} figures/{name}.svg\n:alt: {drawn.words}\n:width: 280px\n",
            f"Blue: one sample. {drawn.words[0].upper()}{drawn.words[1:]}.{shape}\n```\n",
            "## Formula\n",
            _formula(member),
            f"\nSource: {_linked(member.paper)}.\n",
            "## What it keeps\n",
            _claims(member),
            "## Costs and limits\n",
            _facts(member, league),
            "## How to call it\n",
            _calls(member),
        ]
    )


def gallery() -> str:
    """Returns the page with all pictures, and the list of all pages."""
    lines = [
        "# Gallery of statistics\n",
        "Each picture shows an array with its examples (N) in the depth, its positions (H W) down "
        "and its channels (C) to the right. Kernels have input channels (I), positions (h w) and "
        "output channels (O). Blue is the sample behind one statistic. The pale tones are the "
        "samples of the others. The pictures are drawn from the statistics shapes of the "
        "catalogue.\n",
    ]
    for theme, title in THEMES.items():
        lines += [f"## {title}\n", ":::{container} gallery"]
        for member in (m for m in CATALOGUE if m.theme == theme):
            words = blocks.blocks(member).words
            picture = f"![{words}](figures/{member.name}.svg)"
            lines.append(f"[{picture}]({member.name}.md)\n[`{member.name}`]({member.name}.md)\n")
        lines.append(":::\n")
    names = "\n".join(member.name for member in CATALOGUE)
    return "\n".join(lines) + f"\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"


def table() -> str:
    """Returns the tables of all members, one for each theme."""
    head = ("name", "statistics", "state", "does not change with", "takes", "costs", "elsewhere")
    lines = []
    for theme, title in THEMES.items():
        lines += [f"### {title}\n", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for m in (m for m in CATALOGUE if m.theme == theme):
            cells = (
                f"[`{m.name}`]({FOLDER}/{m.name}.md)",
                f"`{blocks.symbols(m)}`" if m.stats_shape else "-",
                "yes" if m.stateful else "-",
                ", ".join(c for c in ("scale", "shift") if c in m.claims) or "-",
                ", ".join(c for c in ("mask", "weights", "shards") if c in m.claims) or "-",
                m.cost,
                m.elsewhere or "-",
            )
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def league_table(league: dict[str, dict[str, str]]) -> str:
    """Returns the best members of each contest of the league, beside none."""
    rows = [
        ("images, batches of 32: accuracy", "images_32_accuracy", -1),
        ("images, batches of 2: accuracy", "images_2_accuracy", -1),
        ("text: loss in nats per character", "text_16_loss", 1),
    ]
    lines = ["| contest | the best | none |", "|---|---|---|"]
    for title, column, sign in rows:
        form = ".1%" if column.endswith("accuracy") else ".3f"
        entered = [name for name in league if league[name][column]]
        ranked = sorted(entered, key=lambda name: sign * float(league[name][column]))
        best = [name for name in ranked if name != "none"][:8]
        said = [f"`{name}` {float(league[name][column]):{form}}" for name in best]
        lines.append(f"| {title} | {', '.join(said)} | {float(league['none'][column]):{form}} |")
    return "\n".join(lines) + "\n"


def write_pages(app: Any, config: Any) -> None:
    """Writes what the documentation takes from the catalogue; called when a build starts."""
    folder = Path(app.srcdir) / FOLDER
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    with LEAGUE.open() as file:
        league = {row["member"]: row for row in csv.DictReader(file)}
    pages = {f"{member.name}.md": page(member, league) for member in CATALOGUE}
    pages |= {"gallery.md": gallery(), "_table.md": table(), "_league.md": league_table(league)}
    for path in folder.glob("*.md"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
    _draw(folder / "figures")


def setup(app: Any) -> dict[str, bool]:
    """Connects the pages to the start of a build."""
    app.connect("config-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _draw(folder: Path) -> None:
    """Draws what is not there yet, and all of it where the drawing or the catalogue changed."""
    pictures = {member.name: [("", blocks.blocks(member))] for member in CATALOGUE}
    pictures["four"] = blocks.four()
    sources = [Path(blocks.__file__), *Path(jaxnorm.__file__).parent.glob("functional/*/_rows.py")]
    newest = max(path.stat().st_mtime for path in sources)
    for name, blocks_ in pictures.items():
        path = folder / f"{name}.svg"
        if not path.exists() or path.stat().st_mtime < newest:
            blocks.save(path, blocks_)


def _formula(member: Member) -> str:
    found = formulas.find(_head(member))
    lines = [f"$$\n{formulas.to_latex(formula)}\n$$\n" for formula in found]
    signs = {
        r"\gamma": "$\\gamma$ is `scale`",
        r"\mu": "$\\mu$ is the mean of the sample",
        r"\sigma^2": "$\\sigma^2$ its variance",
        r"\varepsilon": "$\\varepsilon$ is `epsilon`",
    }
    used = [said for sign, said in signs.items() if any(sign in line for line in lines)]
    if "bias" in inspect.signature(member.function).parameters:
        used.insert(1, "$\\beta$ is `bias`")
    prose = _in_line(_head(member), found)
    return "\n".join(lines) + "\n" + prose + "\n\n" + (", ".join(used) + "." if used else "")


def _in_line(prose: str, found: list[str]) -> str:
    """Returns the docstring's words as MyST, with its formulas as such."""
    parts = re.split(r"(`[^`]*`)", prose)
    for i, part in enumerate(parts):
        code = " ".join(part.strip("`").split())
        if i % 2 and code in found:
            parts[i] = f"${formulas.to_latex(code)}$"
            # A page's only formula stands above: a paragraph that begins with it starts after it.
            rest = parts[i + 1]
            begins = parts[i - 1].endswith("\n\n") and re.match(r"[;.]\s", rest)
            if len(found) == 1 and begins:
                parts[i] = ""
                rest = rest[1:].lstrip()
                parts[i + 1] = rest[:1].upper() + rest[1:]
        elif not i % 2:
            parts[i] = part.replace("|", r"\|")
    return "".join(parts)


def _claims(member: Member) -> str:
    if not member.claims:
        return "It takes no statistics, so the laws about statistics say nothing of it.\n"
    kept = [(said, law) for claim, (said, law) in CLAIMS.items() if claim in member.claims]
    lines = [f"- {said} ([law](../laws.md#{law}))" for said, law in kept]
    return "\n".join(lines) + "\n\nThe tests hold each of these for this function.\n"


def _facts(member: Member, league: dict[str, dict[str, str]]) -> str:
    lines = [f"- It costs {member.cost}, beside the pass over the input that every norm makes."]
    if member.cost == "none":
        lines = ["- It costs nothing beside the pass over the input."]
    if member.stateful:
        lines.append("- A state goes in and comes out.")
    if member.limits:
        lines.append(f"- Limits: {member.limits}.")
    lines.append(f"- Elsewhere: {member.elsewhere or 'in no library that was looked at'}.")
    row = league.get(member.name)
    said = [text.format(float(row[key])) for key, text in CONTESTS.items() if row and row[key]]
    if said:
        lines.append(f"- In the [league](../ledger.md#league), untuned: {', '.join(said)}.")
    return "\n".join(lines) + "\n"


def _calls(member: Member) -> str:
    module = SPECS[member.name].module
    function = f"{{py:func}}`jaxnorm.{member.name} <jaxnorm.functional.{member.name}>`"
    parts = [f"```python\n{_signature(member)}\n```", _example(member.function)]
    for room in ("linen", "nnx"):
        cls = getattr(getattr(jaxnorm, room), module)
        parts += [f"As a module of `flax.{room}`, {{py:class}}`jaxnorm.{room}.{module}`:"]
        parts += [_example(cls)]
    return "\n\n".join(parts) + f"\n\nReference: {function} has all arguments.\n"


def _head(member: Member) -> str:
    """Returns the part of the docstring before its first section."""
    return (inspect.getdoc(member.function) or "").split("\nArgs:")[0].strip()


def _example(function: Any) -> str:
    """Returns the example of a docstring; every public name has one."""
    found = re.search(r"\nExamples:\n(.*?)(?=\n\S|\Z)", inspect.getdoc(function) or "", re.S)
    assert found, f"{function} has no example"
    return f"```pycon\n{textwrap.dedent(found[1]).strip()}\n```"


def _signature(member: Member) -> str:
    """Returns the call with its arguments and defaults as the source has them, without types."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(member.function)))
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    for argument in [*function.args.args, *function.args.kwonlyargs]:
        argument.annotation = None
    call = f"jaxnorm.{member.name}({ast.unparse(function.args)})"
    if len(call) < 90:
        return call
    parts = re.split(r", (?![^(\[]*[)\]])", ast.unparse(function.args))
    lines = textwrap.wrap(", ".join(p.replace(" ", "\0") for p in parts), 84)
    body = "\n".join(f"    {line}" for line in lines).replace("\0", " ")
    return f"jaxnorm.{member.name}(\n{body},\n)"


def _linked(paper: str) -> str:
    return re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", paper)
