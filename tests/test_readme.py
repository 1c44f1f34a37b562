"""What README shows runs as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest

from numbaopt.optimizers import OPTIMIZERS

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.mark.filterwarnings("ignore:the objective runs from Python")
def test_the_code_of_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 5))
    labels = X[:, 0] > 0
    np.save("X.npy", X)
    np.save("y.npy", labels)
    names = {"X": X, "y": labels, "x": np.ones(3), "gradient": lambda x: 2 * x}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        exec(block, names)
    assert len(blocks) >= 9
    assert abs(names["x"]).max() < 0.1
    assert OPTIMIZERS.pop("signmomentum") is names["SignMomentum"]
