"""Directives that write what the package's own tables hold, so that the pages cannot miss a row.

``rules``
    The formulas of every rule: what its docstring says before its parameters, and its references.
``capabilities``
    What `numbaopt.methods` returns.
``endings``
    The statuses of a run and their sentences.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from docutils import nodes
from numpydoc.docscrape import NumpyDocString
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from numbaopt import methods, status
from numbaopt.optimizers import OPTIMIZERS
from numbaopt.optimizers.combined import MAKERS

FIRST = [f"numbaopt.optimizers.{family}" for family in ("sgd", "adagrad", "adam", "variants", "sign", "combined")]
DOI = re.compile(r"doi:(10\.\S+?)(?=[.,;)]?(\s|$))")
AUTHOR = re.compile(r"[A-Z][\w'-]+, [A-Z]\.")


class Written(SphinxDirective):
    """A directive that stands for the reStructuredText of its `text`."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(self.text()), allow_section_headings=True)

    def text(self) -> Iterator[str]:
        raise NotImplementedError


class Rules(Written):
    def text(self) -> Iterator[str]:
        yield ".. currentmodule:: numbaopt\n"
        every = filter(_ours, dict.fromkeys([*OPTIMIZERS.values(), *MAKERS.values()]))
        for module, family in groupby(sorted(every, key=_place), lambda rule: rule.__module__):
            yield from _headed(inspect.getdoc(sys.modules[module]).partition("\n")[0].rstrip("."), "-")
            for rule in family:
                yield from _headed(rule.__name__, "~")
                said = NumpyDocString(inspect.getdoc(rule))
                yield from (" ".join(said["Summary"]), "", *said["Extended Summary"], "")
                yield from ("", *_apart(said["References"]), "", f"Parameters and defaults: `{rule.__name__}`.", "")


class Capabilities(Written):
    def text(self) -> Iterator[str]:
        rows = [(", ".join(f"``{name}``" for name in (m.name, *m.aliases)), f"`{m.optimizer.__name__}`",
                 " ".join(m.slots), *("✓" if able else "" for able in (m.bounds, m.stochastic)))
                for m in sorted(methods(), key=lambda m: _place(m.optimizer)) if _ours(m.optimizer)]  # fmt: skip
        yield ".. currentmodule:: numbaopt\n"
        yield from _table(("``method=``", "class", "state", "bounds", "minibatches"), rows)


class Endings(Written):
    def text(self) -> Iterator[str]:
        codes = {code: name for name, code in vars(status).items() if isinstance(code, int)}
        rows = [(str(code), f"``{codes[code]}``", said) for code, said in status.MESSAGES.items()]
        yield from _table(("``status``", "", "``message`` begins"), rows)


def _ours(rule: Any) -> bool:
    """Not one that a page of the gallery has registered."""
    return rule.__module__.startswith("numbaopt.")


def _place(rule: Any) -> int:
    """Families in the order in which people learn them; solvers come behind."""
    return [*FIRST, rule.__module__].index(rule.__module__)


def _headed(title: str, line: str) -> Iterator[str]:
    yield from ("", title, line * len(title), "")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    yield ".. list-table::\n   :header-rows: 1\n"
    for row in (head, *rows):
        for k, cell in enumerate(row):
            yield f"   {'*' if k == 0 else ' '} - {cell}"


def _apart(references: list[str]) -> Iterator[str]:
    """References as paragraphs of their own, with links."""
    before = ""
    for line in references:
        if AUTHOR.match(line.strip()) and (before.endswith(".") or "doi:" in before):
            yield ""
        before = line.strip()
        yield DOI.sub(r"`doi:\1 <https://doi.org/\1>`__", line)


def _with_links(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """What comes after the heading of a docstring's references, as `_apart` writes it."""
    begin = next((k for k, line in enumerate(lines) if line.strip() == ".. rubric:: References"), None)
    if begin is not None:
        end = next((k for k in range(begin + 1, len(lines)) if lines[k].startswith(".. rubric::")), len(lines))
        lines[begin + 1:end] = _apart(lines[begin + 1:end])


def _without_package(app: Sphinx, env: Any, node: Any, text: Any) -> Any:
    """Names of the package need no prefix in the docstrings of its rooms."""
    if node.get("refdomain") != "py" or "." in node["reftarget"]:
        return None
    return env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, node["reftype"],
                                             f"numbaopt.{node['reftarget']}", node, text)  # fmt: skip


def setup(app: Sphinx) -> dict[str, bool]:
    for name, directive in (("rules", Rules), ("capabilities", Capabilities), ("endings", Endings)):
        app.add_directive(name, directive)
    app.connect("autodoc-process-docstring", _with_links, priority=900)  # after numpydoc
    app.connect("missing-reference", _without_package)
    return {"parallel_read_safe": True}
