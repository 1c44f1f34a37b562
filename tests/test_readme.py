"""What README shows runs as it stands there; the Chinese one shows the same, but for comments, and the same numbers."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from numbaopt.optimizers import OPTIMIZERS

ROOT = Path(__file__).resolve().parents[1]
README, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))


def blocks_of(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.filterwarnings("ignore:the objective runs from Python")
def test_the_code_of_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 5))
    labels = X[:, 0] > 0
    np.save("X.npy", X)
    np.save("y.npy", labels)
    names = {"X": X, "y": labels, "x": np.ones(3), "gradient": lambda x: 2 * x}
    for block in blocks_of(README):
        exec(block, names)
    assert len(blocks_of(README)) >= 9
    assert abs(names["x"]).max() < 0.1
    assert OPTIMIZERS.pop("signmomentum") is names["SignMomentum"]


def test_what_the_studies_say_of_many_starts():
    names = {}
    (block,) = blocks_of((ROOT / "experiments" / "README.md").read_text("utf-8"))
    exec(block, names)
    assert sum(wells.fun < 1e-6 for wells in names["found"]) == 7


def test_every_study_has_findings_and_a_picture():
    text = (ROOT / "experiments" / "README.md").read_text("utf-8")
    pictures = set(re.findall(r"!\[.+?\]\(pictures/(.+?)\)", text))
    assert pictures == {path.name for path in (ROOT / "experiments" / "pictures").iterdir()}
    for file in (ROOT / "experiments").glob("*.toml"):
        section = text.partition(f"\n## {file.name}\n")[2].partition("\n## ")[0]
        assert f"numbaopt run experiments/{file.name}" in section
        assert f"](pictures/{file.stem}." in section


def test_the_code_of_the_chinese_readme_is_the_same():
    english, chinese = ([ast.dump(ast.parse(block)) for block in blocks_of(text)] for text in (README, CHINESE))
    assert len(english) == len(chinese)
    for k, (one, other) in enumerate(zip(english, chinese, strict=True)):
        assert one == other, f"block {k} of README.zh.md: {blocks_of(CHINESE)[k]}"


def test_the_chinese_readme_shows_the_same_rules_and_pictures():
    for pattern in (r"!\[.*?\]\((.*?)\)", r"^\|.*?\| (`SGD.*|`Ada.*|`Adam.*|`Lion.*|`Switch.*) \|$"):
        english, chinese = (re.findall(pattern, text, re.MULTILINE) for text in (README, CHINESE))
        names = [re.findall(r"\w+\.png|`\w+`", " ".join(found)) for found in (english, chinese)]
        assert names[0] == names[1] != []


def test_numbers_of_the_chinese_readme_are_those_of_the_english_one():
    rows = re.findall(r"^\| .* \|$", CHINESE.partition("## 有多快")[2].partition("\n## ")[0], re.MULTILINE)
    assert len(rows) > 5
    table = [set(re.findall(r"[\d.]+", row)) for row in README.splitlines() if row.startswith("| ")]
    for row in rows[1:]:
        measured = set(re.findall(r"[\d.]+", "|".join(row.split("|")[2:])))
        assert any(measured <= numbers for numbers in table), f"README.md has no row with all numbers of {row}"


def test_figures_of_the_first_screen_are_those_of_the_tables():
    for text in (README, CHINESE):
        first = text[: text.index("./scripts/demo")]
        told = re.findall(r"\d[\d.]*x", first)
        assert len(told) >= 5
        for figure in told:
            assert re.search(rf"^\|.*(?<![\d.]){re.escape(figure)}.*\|$", README, re.MULTILINE), figure


def test_the_two_readmes_link_to_each_other():
    assert "(README.zh.md)" in README
    assert "(README.md)" in CHINESE
