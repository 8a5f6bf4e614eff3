"""What the README shows can be run, and the commands that CI runs are those it gives."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def python_blocks(text: str) -> list[tuple[int, str]]:
    """Returns the first line's number and the code of each block of Python in a Markdown text."""
    blocks = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: block.start(1)].count("\n") + 1, block[1]) for block in blocks]


def marked_command(text: str, name: str) -> str:
    """Returns the command in the fenced block behind the comment `<!-- name -->`."""
    block = re.search(rf"<!-- {name} -->\s*^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return block[1].strip() if block else ""


BLOCKS = python_blocks(README.read_text("utf-8"))


@pytest.mark.parametrize(("line", "code"), BLOCKS, ids=[f"line{line}" for line, _ in BLOCKS])
@pytest.mark.sampled(4)
def test_a_snippet_runs(line, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Lines before the snippet keep the numbers of a traceback those of the README.
    exec(compile("\n" * (line - 1) + code, str(README), "exec"), {"__name__": f"readme_{line}"})


def test_there_are_snippets_for_the_three_ways_in():
    code = "\n".join(code for _, code in BLOCKS)
    ways = ("jaxnorm.batch_norm(", "jaxnorm.linen", "jaxnorm.nnx")
    assert [way for way in ways if way not in code] == []


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("test-command", ("pip install", "[test]", "python -m pytest")),
        ("main-command", ("pip install", "[experiments]", "python -m experiments")),
    ],
)
def test_a_command_is_given_where_ci_looks_for_it(name, parts):
    command = marked_command(README.read_text("utf-8"), name)
    assert [part for part in parts if part not in command] == []


def test_blocks_are_found_with_the_lines_they_stand_on():
    text = "a\n```python\nx = 1\n```\n```bash\nls\n```\n```python\ny = 2\n```\n"
    assert python_blocks(text) == [(3, "x = 1\n"), (9, "y = 2\n")]


def test_a_marked_command_is_found_behind_its_comment():
    text = "```bash\nno\n```\n<!-- test-command -->\n```bash\nyes\n```\n"
    assert marked_command(text, "test-command") == "yes"
