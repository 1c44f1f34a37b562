"""Small files for tests."""

import contextlib
import gzip
import io
import tarfile

import numpy as np


def written(folder, text, name="e.toml"):
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def idx(array, kind=8):
    """The bytes of an idx file."""
    return bytes([0, 0, kind, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def mnist_like(path, parts=("train", "t10k"), pack=True):
    """An archive like MNIST's, of 20 images of 2 x 2 and three classes a part."""
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w:gz") as archive:
        for part in parts:
            for what, shape in (("images-idx3", (20, 2, 2)), ("labels-idx1", (20,))):
                content = idx((rng.random(shape) * (256 if len(shape) > 1 else 3)).astype(np.uint8))
                content = gzip.compress(content) if pack else content
                member = tarfile.TarInfo(f"data/{part}-{what}-ubyte{'.gz' if pack else ''}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


@contextlib.contextmanager
def files_up_to(size):
    """No file of this process may grow beyond so many bytes."""
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
