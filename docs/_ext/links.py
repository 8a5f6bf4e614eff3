"""Finds broken links and missing pictures of the built site: `python docs/_ext/links.py SITE`."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """The anchors of a page, what it links and what pictures it shows."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in ("link", "script") and (given.get("href") or given.get("src")):
            self.links.append(given.get("href") or given["src"])
        if tag == "img":
            self.pictures.append((given.get("src", ""), given.get("alt", "")))


def broken(site: Path) -> list[str]:
    """Returns what is wrong with the pages of a site, one sentence for each fault.

    Links to other sites are not followed. A picture without a description counts as a fault.
    """
    site = site.resolve()
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    faults = [] if pages else [f"{site} holds no page"]
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        for link in page.links:
            target, fault = _target(path, link)
            if target is None:
                continue
            if site not in target.parents and target != site:
                fault = "leads out of the site"
            elif not target.exists():
                fault = "leads nowhere"
            elif fault and target in pages and fault not in pages[target].anchors:
                fault = f"has no anchor {fault!r} there"
            else:
                continue
            faults.append(f"{name}: the link {link} {fault}")
        for source, described in page.pictures:
            target, _ = _target(path, source)
            if target is not None and not target.is_file():
                faults.append(f"{name}: the picture {source} is missing")
            if not described.strip() and not source.startswith("data:"):
                faults.append(f"{name}: the picture {source} has no description")
    return faults


def _target(path: Path, link: str) -> tuple[Path | None, str]:
    """Returns the file that a link leads to and the anchor in it; None for another site."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None, ""
    file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    return (file / "index.html" if file.is_dir() else file), unquote(parts.fragment)


if __name__ == "__main__":
    found = broken(Path(sys.argv[1]))
    sys.stdout.write("\n".join([*found, f"{len(found)} faults"]) + "\n")
    sys.exit(bool(found))
