"""What the documentation shows runs as it stands there, and nothing is missing in it.

Blocks of Python are run page by page, those with prompts as doctests.  Where another library's code stands beside ours
(``from_*.md``), each pair ends in an ``x``: both are run, and must agree.
"""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import numbaopt as no
from numbaopt.losses import LOSSES
from numbaopt.optimizers import OPTIMIZERS
from numbaopt.optimizers.combined import MAKERS
from numbaopt.transforms import TRANSFORMS

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
BLOCK = re.compile(r"(?:^:::\{grid-item-card\} (?P<owner>[^\n]+)\n)?^```python\n(?P<code>.*?)^```$",
                   re.DOTALL | re.MULTILINE)  # fmt: skip
PEERS = {"SciPy": "scipy", "scikit-learn": "sklearn", "torch": "torch", "optax": "optax"}
CLOSE = {"SciPy": 1e-4, "scikit-learn": 1e-3, "torch": 1e-9, "optax": 1e-9}
CHECKS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def registries():
    """Rules, losses and transforms of a page are gone with it."""
    kept = [(table, dict(table)) for table in (OPTIMIZERS, LOSSES, TRANSFORMS)]
    yield
    for table, before in kept:
        table.clear()
        table.update(before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_of_a_page_runs(page, tmp_path, monkeypatch, registries):
    monkeypatch.chdir(tmp_path)
    names, theirs, owner_before, pairs = {"__name__": page.stem}, {}, None, 0
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        code, owner = found["code"], found["owner"]
        if ">>>" in code:
            _check(code, names, f"{page.name}:{found.start()}")  # a name of its own: Numba asks for its lines
        elif owner in PEERS:
            theirs = {**names, **theirs}
            if importlib.util.find_spec(PEERS[owner]):
                exec(code, theirs)
        else:
            exec(code, names)
        if owner == "numbaopt" and importlib.util.find_spec(PEERS[owner_before]):
            ours, peers = (np.asarray(each["x"]) for each in (names, theirs))
            np.testing.assert_allclose(ours, peers, atol=CLOSE[owner_before], err_msg=code)
            assert np.ptp(ours) > 0
            pairs += 1
        owner_before = owner
    if page.name.startswith("from_"):
        peer = page.stem.removeprefix("from_").replace("scikit_learn", "sklearn")
        assert pairs >= 3 * (importlib.util.find_spec(peer) is not None)


def _check(code, names, where):
    """Run a block with prompts; its names stay for the next ones."""
    test = doctest.DocTestParser().get_doctest(code, {}, where, None, 0)
    test.globs, told = names, []
    doctest.DocTestRunner(optionflags=CHECKS).run(test, out=told.append, clear_globs=False)
    assert not told, "".join(told)


PUBLIC = ["numbaopt", "numbaopt.autodiff", "numbaopt.linear_model", "numbaopt.losses", "numbaopt.plotting",
          "numbaopt.schedules", "numbaopt.stream", "numbaopt.transforms"]  # fmt: skip


def test_reference_has_every_public_name():
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((DOCS / "reference").glob("*.rst")))
    told, module = {}, ""
    for line in text.splitlines():
        if line.startswith((".. currentmodule::", ".. automodule::")):
            module = line.split()[-1]
        elif re.fullmatch(r"   [A-Za-z]\w*", line):
            told.setdefault(module, set()).add(line.strip())
    for name in PUBLIC:
        home = importlib.import_module(name)
        wanted = {key for key in home.__all__ if callable(getattr(home, key))}
        missing = wanted - told.get(name, set()) - (told["numbaopt"] if name == "numbaopt.autodiff" else set())
        assert not missing, f"docs/reference lacks {missing} of {name}"


@pytest.mark.parametrize("rule", dict.fromkeys([*OPTIMIZERS.values(), *MAKERS.values()]), ids=lambda r: r.__name__)
def test_every_rule_says_its_formula_first(rule):
    before = inspect.getdoc(rule).partition("Parameters\n---")[0]
    assert ".. math::" in before, f"the docstring of {rule.__name__} has no formula before its parameters"


def test_a_wrong_page_would_be_noticed(tmp_path):
    with pytest.raises(AssertionError, match="Expected"):
        _check(">>> no.Adam(lr=0.5).lr\n0.25\n", {"no": no}, "page")
