"""Streams in processes of their own: killed at any moment, and with less memory than data."""

import signal
import sys

import numpy as np
import pytest
from process import finish, python, start

import numbaopt as no

pytestmark = pytest.mark.process
ROWS, COLUMNS = 6000, 5

# every tick saves, and says so; there are some within every chunk
TRAIN = """
    import sys, time
    import numpy as np, numbaopt as no
    from numbaopt.stream import _trainer

    save = _trainer.Trainer.save

    def save_and_tell(self):
        save(self)
        print(int(self.now.step), flush=True)

    _trainer.CHECKPOINT_SECONDS = _trainer.TURN_SECONDS = 0.0
    _trainer.Trainer.save = save_and_tell
    folder, history = sys.argv[1:]
    source = no.stream.open(folder + "/X.npy", folder + "/y.npy", chunk_rows=1000)
    no.stream.minimize(source, method="adam", loss="logistic", l2=1e-3,
                       options=dict(batch_size=1, epochs=3, history=history, checkpoint=folder + "/run.npz"))
"""


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((ROWS, COLUMNS))
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", np.where(X[:, 0] + rng.standard_normal(ROWS) > 0, "yes", "no"))
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("history", ["progressive", "whole"])
def test_killed_and_resumed_in_another_process(folder, history):
    source = no.stream.open(folder / "X.npy", folder / "y.npy", chunk_rows=1000)
    options = {"batch_size": 1, "epochs": 3, "history": history}
    expected = no.stream.minimize(source, method="adam", loss="logistic", l2=1e-3, options=options)
    path, stood = folder / "run.npz", []
    for number, saves in ((signal.SIGKILL, 7), (signal.SIGINT, 13), (signal.SIGKILL, 29), (signal.SIGINT, 44)):
        path.unlink(missing_ok=True)
        child = start(TRAIN, folder, history)
        for _ in range(saves):
            stood.append(int(child.stdout.readline()))
        child.send_signal(number)
        _, errors = child.communicate(timeout=60)
        assert child.returncode in (-number, 1), errors
        assert ("KeyboardInterrupt: interrupted after step" in errors) == (number == signal.SIGINT)
        found = no.stream.resume(path, source)
        np.testing.assert_array_equal(found.x, expected.x)
        np.testing.assert_array_equal(found.history.fun, expected.history.fun)
    assert any(step % 1000 for step in stood)


# the limit is set once all is compiled and the thread has run: from then on there is little more than two chunks
BOUNDED = """
    import pathlib, resource, sys
    import numpy as np, numbaopt as no

    folder, room, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    columns = 64

    def train(name):
        if kind == "npy":
            source = no.stream.open(f"{folder}/{name}.npy", f"{folder}/{name}_y.npy", chunk_rows=1 << 14)
        else:
            source = no.stream.open(f"{folder}/{name}.svm", n_features=columns, zero_based=False,
                                    chunk_bytes=1 << 21, dtype=np.float32)
        return source, no.stream.minimize(source, method="adam", options=dict(batch_size=64, epochs=1, lr=0.01))

    train("small")
    used = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
    source, found = train("large")
    try:
        np.fromfile(next(pathlib.Path(folder).glob(f"large.{kind}")), np.uint8)
    except MemoryError:
        print(len(source.sizes) if source.sizes else source.n_chunks, found.nit, found.fun)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("kind", ["npy", "svm"])
def test_memory_is_bounded_with_a_file_four_times_as_large(tmp_path, kind):
    room = 40 << 20
    rng = np.random.default_rng(0)
    block = rng.standard_normal((1 << 14, 64)).astype(np.float32)  # 4 MB
    target = block @ np.linspace(-1, 1, 64, dtype=np.float32)
    times = {"small": 2, "large": 40}
    text = "".join(f"{t} " + " ".join(f"{j}:{v:.3f}" for j, v in enumerate(x, 1)) + "\n"
                   for x, t in zip(block[:4000], target, strict=False)).encode()  # fmt: skip
    for name, count in times.items():
        if kind == "npy":
            with open(tmp_path / f"{name}.npy", "wb") as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": (count << 14, 64)}
                np.lib.format.write_array_header_1_0(file, header)
                for _ in range(count):
                    file.write(block)
            np.save(tmp_path / f"{name}_y.npy", np.tile(target, count))
        else:
            with open(tmp_path / f"{name}.svm", "wb") as file:
                for _ in range(count * (4 << 20) // len(text) + 1):
                    file.write(text)
    assert (tmp_path / f"large.{kind}").stat().st_size >= 4 * room
    chunks, steps, fun = python(BOUNDED, tmp_path, room, kind)
    assert int(chunks) >= 40
    assert int(steps) > 1000
    assert float(fun) < 1.0


def test_importing_the_package_imports_no_reader():
    """pyarrow, and what unpacks archives, come with the first source that needs them."""
    code = "import sys, numbaopt; print(sum(name in sys.modules for name in ('pyarrow', 'tqdm', 'scipy.sparse')))"
    assert finish(start(code))[0].strip() == "0"
