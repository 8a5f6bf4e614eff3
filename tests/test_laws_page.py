"""The page of the laws has every number that a test cites, and names the file that cites it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/laws.md").read_text("utf-8")


def sections(text: str) -> dict[int, str]:
    """Returns the text below each heading `### Law N`, by number."""
    parts = re.split(r"^### Law (\d+).*$", text.split("\n## Laws without")[0], flags=re.MULTILINE)
    return {int(number): body for number, body in zip(parts[1::2], parts[2::2], strict=True)}


def cited(text: str) -> set[int]:
    """Returns the laws of a test file: of the names of its tests, and of its first line."""
    head = text.split("\n", 1)[0]
    found = {int(n) for n in re.findall(r"(?m)^def test_law_(\d+)_", text)}
    named = re.search(r"Laws? (.*?):", head)
    for first, last in re.findall(r"(\d+)(?: to (\d+))?", named[1]) if named else ():
        found |= set(range(int(first), int(last or first) + 1))
    return found


def test_each_law_is_described_and_names_the_files_that_cite_it():
    missing, laws = [], sections(PAGE)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name = path.relative_to(ROOT).as_posix()
        for number in sorted(cited(path.read_text("utf-8"))):
            if f"`{name}`" not in laws.get(number, ""):
                missing.append(f"law {number}: {name}")
    assert missing == []


def test_the_files_on_the_page_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)`", PAGE)
    assert named and [name for name in named if not (ROOT / name).is_file()] == []


def test_laws_are_numbered_without_a_gap():
    assert list(sections(PAGE)) == list(range(1, len(sections(PAGE)) + 1))


def test_numbers_are_found_in_names_and_in_the_first_line():
    text = '"""Laws 7 to 9, 21 and 30: state."""\n\ndef test_law_2_x(): ...\n# law 40\n'
    assert cited(text) == {2, 7, 8, 9, 21, 30}
