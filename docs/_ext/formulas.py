"""Formulas of docstrings, which are written as code, as LaTeX.

`y = (x - mean) / sqrt(var + epsilon) * scale + bias` is a formula: names, calls, indices, powers,
and products that may be written side by side (`alpha x`). Divisions become fractions.
"""

import re
from typing import NamedTuple

SYMBOLS = {
    "epsilon": r"\varepsilon",
    "mean": r"\mu",
    "var": r"\sigma^2",
    "scale": r"\gamma",
    "bias": r"\beta",
    "alpha": r"\alpha",
    "beta": r"\beta",
    "sigma": r"\sigma",
    "pi": r"\pi",
}
PLAIN = {"max", "log", "tanh"}  # functions that LaTeX knows
PREFIXES = {"tr": r"\operatorname{tr}", "det": r"\det", "log": r"\log"}  # stand without brackets
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z]+(?:_[A-Za-z0-9]+)*'?)"
    r"|(?P<sign><-|\*\*|_\{|[-+*/^=()\[\]{}|,.:]))"
)


class Part(NamedTuple):
    """A piece of LaTeX and what has to be known to put it beside others."""

    text: str
    atom: bool = True  # whether a power or a product can follow without brackets


def find(docstring: str) -> list[str]:
    """Returns the formulas of a docstring in their order, as they are written there.

    A formula stands between backticks and has an equals sign or an arrow between spaces. Values of
    arguments, such as `r_max = 1`, are none.
    """
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]*)`", docstring)]
    return [
        span
        for span in spans
        if re.search(r" (=|<-) ", span)
        and not re.search(r"= -?[\d.]+$|\.\.\.|^[A-Z] = [A-Z]$", span)
    ]


def to_latex(formula: str) -> str:
    """Returns a formula as LaTeX, or raises `ValueError` where it is none."""
    return _Reader(formula).read()


class _Reader:
    """Reads a formula from left to right; each method reads one level of precedence."""

    def __init__(self, formula: str):
        self.formula = formula
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(formula.rstrip()):
            found = _TOKEN.match(formula, at)
            if not found:
                raise ValueError(f"{formula!r} has no meaning from {formula[at:]!r} on")
            kind = str(found.lastgroup)
            self.tokens.append((kind, found[kind]))
            at = found.end()
        self.at = 0
        self.bars = 0

    def read(self) -> str:
        text = self.relation()
        if self.at < len(self.tokens):
            raise ValueError(
                f"{self.formula!r} has {self.tokens[self.at][1]!r} where it should end"
            )
        return text

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, *signs: str) -> str:
        if self.peek() in signs and self.at < len(self.tokens):
            self.at += 1
            return self.tokens[self.at - 1][1]
        return ""

    def need(self, sign: str) -> None:
        if not self.take(sign):
            raise ValueError(f"{self.formula!r} has {self.peek()!r} in the place of {sign!r}")

    def relation(self) -> str:
        text = self.sum().text
        while sign := self.take("=", "<-"):
            text += (" = " if sign == "=" else r" \leftarrow ") + self.sum().text
        return text

    def sum(self) -> Part:
        sign = self.take("-")
        first = self.product()
        text, atom = sign + first.text, first.atom and not sign
        while sign := self.take("+", "-"):
            text, atom = f"{text} {sign} {self.product().text}", False
        return Part(text, atom)

    def product(self) -> Part:
        part = self.power()
        while True:
            if self.take("/"):
                # Only the numerator and the denominator themselves, without their brackets.
                part = Part(rf"\frac{{{_bare(part.text)}}}{{{_bare(self.power().text)}}}")
            elif self.take("*"):
                part = Part(rf"{part.text} \, {self.power().text}")
            elif self.take("."):
                part = Part(rf"{part.text} \cdot {self.power().text}")
            elif self.starts():
                part = Part(rf"{part.text} \, {self.power().text}")
            else:
                return part

    def starts(self) -> bool:
        """Tells whether a factor follows without a sign."""
        if self.at == len(self.tokens):
            return False
        kind, text = self.tokens[self.at]
        return kind in ("name", "number") or text == "(" or (text == "|" and not self.bars)

    def power(self) -> Part:
        base = self.factor()
        while self.take("^", "**"):
            group = self.take("{")
            exponent = self.sum().text if group else self.factor().text
            if group:
                self.need("}")
            base = Part(rf"{{{base.text}}}^{{{_bare(exponent)}}}")
        return base

    def factor(self) -> Part:
        if self.at == len(self.tokens):
            raise ValueError(f"{self.formula!r} ends too early")
        if self.take("("):
            inner = self.sum()
            self.need(")")
            return Part(rf"\left({inner.text}\right)")
        if self.take("["):
            return self.matrix()
        if self.take("|"):
            self.bars += 1
            inner = self.sum()
            self.need("|")
            self.bars -= 1
            return Part(rf"\left|{inner.text}\right|")
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            return Part(text)
        if kind != "name":
            raise ValueError(f"{self.formula!r} has {text!r} in the place of a name")
        if text in PREFIXES:
            inner = self.product() if text == "det" else self.factor()
            return Part(f"{PREFIXES[text]} {inner.text}")
        if text == "sum" or text.startswith("sum_"):
            return self.reduction(text)
        if self.peek() == "(" and (len(text) > 2 or text in ("N", "BN", "IN")):
            return self.call(text)
        return self.indexed(text)

    def matrix(self) -> Part:
        rows = []
        while True:
            self.need("[")
            entries = [self.sum().text]
            while self.take(","):
                entries.append(self.sum().text)
            self.need("]")
            rows.append(" & ".join(entries))
            if not self.take(","):
                break
        self.need("]")
        return Part(r"\begin{pmatrix}" + r" \\ ".join(rows) + r"\end{pmatrix}")

    def call(self, name: str) -> Part:
        self.need("(")
        arguments = [self.sum().text]
        while self.take(","):
            arguments.append(self.sum().text)
        self.need(")")
        joined = ", ".join(arguments)
        if name == "sqrt":
            return Part(rf"\sqrt{{{joined}}}")
        return Part(rf"{_function(name)}\left({joined}\right)")

    def reduction(self, name: str) -> Part:
        index = name.removeprefix("sum").lstrip("_")
        sign = r"\sum" + (f"_{{{index}}}" if index else "")
        if self.peek() == "(":
            self.need("(")
            inner = self.sum()
            self.need(")")
            return Part(rf"{sign} {inner.text}")
        return Part(f"{sign} {self.product().text}")

    def indexed(self, name: str) -> Part:
        head, index = _symbol(name)
        if self.take("_{"):
            index = self.sum().text
            self.need("}")
        if self.take("["):
            index = self.slice()
            self.need("]")
        if not index:
            return Part(head)
        if head.endswith("^2"):
            return Part(rf"{head[:-2]}_{{{index}}}^2")
        return Part(rf"{head}_{{{index}}}")

    def slice(self) -> str:
        if self.take(":"):
            return rf"1 \ldots {self.sum().text}"
        return self.sum().text


def _symbol(name: str) -> tuple[str, str]:
    """Returns a name as LaTeX, and its index: `mean_B` has the index B, `std_batch` batch."""
    head, _, index = name.partition("_")
    prime, head, index = name.endswith("'"), head.rstrip("'"), index.rstrip("'")
    if len(head) > 1 and len(index) > 1 and head not in ("std", "rms"):
        return _upright(name), ""
    single = len(head) == 1 or re.fullmatch(r"d[xy]", head)
    text = SYMBOLS.get(head, head if single else _upright(head))
    return text + ("'" if prime else ""), index if len(index) < 2 else _upright(index)


def _function(name: str) -> str:
    head, _, index = name.partition("_")
    text = rf"\{head}" if head in PLAIN else rf"\operatorname{{{head}}}"
    return text + (f"_{{{index}}}" if index else "")


def _upright(name: str) -> str:
    return rf"\text{{{name.replace('_', ' ')}}}"


def _bare(text: str) -> str:
    """Returns LaTeX without the brackets that enclose all of it."""
    left, right = r"\left(", r"\right)"
    if not (text.startswith(left) and text.endswith(right)):
        return text
    depth = 0
    for found in re.finditer(r"\\left\(|\\right\)", text):
        depth += 1 if found[0] == left else -1
        if depth == 0:
            return text[len(left) : -len(right)] if found.end() == len(text) else text
    return text
