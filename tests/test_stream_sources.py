"""Where chunks come from: every source gives the table it was made of, whatever the chunks; broken files say so."""

import bz2
import gzip
import io
import lzma
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import numbaopt as no
from numbaopt.stream import _parse
from numbaopt.stream._parse import parse

OPENERS = {"": open, ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def whole(source):
    """All rows, chunk after chunk, as one dense table."""
    chunks, k = [], 0
    while k != source.n_chunks and (chunk := source.read(k)) is not None:
        chunks.append(chunk)
        k += 1
    X = np.vstack([X.toarray() if sparse.issparse(X) else X for X, _ in chunks])
    return X, np.concatenate([y for _, y in chunks])


def table(rows=50, columns=4, dtype=np.float64):
    rng = np.random.default_rng(7)
    return rng.standard_normal((rows, columns)).astype(dtype), rng.integers(0, 3, rows).astype(dtype)


def libsvm_text(X, y, base=1):
    lines = [" ".join([repr(float(t)), *(f"{j + base}:{float(v)!r}" for j, v in enumerate(x) if v)])
             for x, t in zip(X, y, strict=True)]  # fmt: skip
    return ("\n".join(lines) + "\n").encode()


# ---- arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["array", "npy", "memmap", "slice", "csr", "fortran", "float32"])
@pytest.mark.parametrize("chunk_rows", [7, 50, 1000, None])
def test_arrays_give_their_rows(tmp_path, kind, chunk_rows):
    X, y = table(dtype=np.float32 if kind == "float32" else np.float64)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    given = {"npy": tmp_path / "X.npy", "memmap": mapped, "slice": mapped[10:], "csr": sparse.coo_array(X),
             "fortran": np.asfortranarray(X)}.get(kind, X)  # fmt: skip
    expected = (X[10:], y[10:]) if kind == "slice" else (X, y)
    source = no.stream.open(given, expected[1] if kind == "slice" else tmp_path / "y.npy", chunk_rows=chunk_rows)
    found = whole(source)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert source.dtype == X.dtype
    assert sum(source.sizes) == len(expected[1])
    assert source.steps_per_epoch(3) == sum(-(-len(source.read(k)[1]) // 3) for k in range(source.n_chunks))


def test_default_chunks_hold_some_megabytes_and_fit_usual_batches():
    source = no.stream.open(np.zeros((300_000, 20)), np.zeros(300_000))
    assert source.chunk_rows % 1024 == 0
    assert 8e6 < source.chunk_rows * 160 <= 2**24


def test_a_truncated_npy_file_is_refused_at_the_door(tmp_path):
    X, y = table()
    np.save(tmp_path / "X.npy", X)
    os.truncate(tmp_path / "X.npy", 1000)
    with pytest.raises(ValueError, match=r"X\.npy is truncated: it has 1000 bytes, 1728 are needed"):
        no.stream.open(tmp_path / "X.npy", y)


@pytest.mark.parametrize(("array", "text"), [
    (np.asfortranarray(np.ones((3, 2))), "stored by columns"), (np.array([[None]]), "Python objects"),
    (np.ones(3), "X must have 2 dimensions, not shape"), (np.ones((0, 2)), r"0 sample\(s\)"),
])  # fmt: skip
def test_npy_files_that_cannot_be_read_by_rows(tmp_path, array, text):
    np.save(tmp_path / "X.npy", array)
    with pytest.raises(ValueError, match=text):
        no.stream.open(tmp_path / "X.npy", np.ones(len(array)))


def test_no_npy_file(tmp_path):
    (tmp_path / "X.npy").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"X\.npy is not a usable \.npy file"):
        no.stream.open(tmp_path / "X.npy", np.ones(3))


@pytest.mark.parametrize("shrink", [False, True])
def test_a_file_that_changes_between_chunks(tmp_path, shrink):
    X, y = table()
    np.save(tmp_path / "X.npy", X)
    source = no.stream.open(tmp_path / "X.npy", y, chunk_rows=20)
    source.read(0)
    if shrink:
        os.truncate(tmp_path / "X.npy", 1000)
    else:
        os.utime(tmp_path / "X.npy", ns=(1, 1))
    with pytest.raises(ValueError, match=r"X\.npy has changed since the stream was opened"):
        source.read(1)


def test_digests_tell_data_and_chunks_apart(tmp_path):
    X, y = table()
    other = X.copy()
    other[7, 2] += 1
    for k, A in enumerate((X, other)):
        np.save(tmp_path / f"{k}.npy", A)
    sources = [no.stream.open(A, y, chunk_rows=rows) for A in (X, other, tmp_path / "0.npy", tmp_path / "1.npy")
               for rows in (10, 20)]  # fmt: skip
    digests = [source.digest() for source in sources]
    assert len(set(digests)) == len(digests)
    assert digests == [source.digest() for source in sources]


# ---- what Python makes -----------------------------------------------------------------------------------------------


def test_chunks_by_sequence_function_and_iterable():
    X, y = table()
    chunks = [(X[i : i + 20], y[i : i + 20]) for i in range(0, 50, 20)]
    for made in (chunks, lambda: iter(chunks), tuple(chunks), dict(enumerate(chunks)).values(), iter(chunks)):
        source = no.stream.open(made)
        assert source.n_features == 4
        np.testing.assert_array_equal(whole(source)[0], X)
    source = no.stream.open(lambda: iter(chunks))
    for k in (2, 0, 1, 1, 3):  # any order, by starting again
        assert (source.read(k) is None) if k == 3 else (source.read(k)[0] is chunks[k][0])


def test_an_iterator_is_good_for_one_epoch():
    X, y = table()
    source = no.stream.open((X[i : i + 20], y[i : i + 20]) for i in range(0, 50, 20))
    whole(source)
    with pytest.raises(ValueError, match="an iterator can be read once, for one epoch in order"):
        source.read(0)
    with pytest.raises(ValueError, match="classes must be given"):
        source.classes()


@pytest.mark.parametrize(("chunks", "error", "text"), [
    ([], ValueError, "chunks is empty"), (iter(()), ValueError, "chunks is empty"), (3, TypeError, "not int"),
    ([np.ones(3)], ValueError, r"must be \(X, y\)"), ([(np.ones(3), np.ones(3))], ValueError, "Expected 2D array"),
])  # fmt: skip
def test_chunks_that_are_none(chunks, error, text):
    with pytest.raises(error, match=text):
        no.stream.open(chunks)


def test_open_says_what_is_missing(tmp_path):
    with pytest.raises(TypeError, match="y is missing"):
        no.stream.open(np.ones((3, 2)))
    with pytest.raises(TypeError, match="y is missing"):
        no.stream.open(tmp_path / "X.npy")
    with pytest.raises(FileNotFoundError):
        no.stream.open(tmp_path / "X.npy", np.ones(3))


# ---- LIBSVM text -----------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_numbers_are_rounded_as_python_rounds_them(numbers):
    text = "".join(f"{x!r} 1:{x!r} 2:{x:.20g} 3:{x:+.12E}\n" for x in numbers)
    found = parse(np.frombuffer(text.encode(), np.uint8))
    np.testing.assert_array_equal(found.y, numbers)
    expected = [float(text) for x in numbers for text in (repr(x), f"{x:.20g}", f"{x:+.12E}")]
    np.testing.assert_array_equal(found.values, expected)


@given(st.integers(0, 10**18 - 1), st.integers(-250, 250))
def test_long_mantissas(m, e):
    """Where one operation does not do: products of two float64 pairs, Python where even those leave a doubt."""
    word = f"{m}e{e}"
    assert parse(np.frombuffer(word.encode(), np.uint8)).y[0] == float(word)


def test_halves_between_two_floats_go_to_python():
    words = [f"{(2**53 + 2 * k + 1)}e0" for k in range(50)] + [f"{2**54 + 4 * k + 2}" for k in range(50)]
    found = parse(np.frombuffer("\n".join(words).encode(), np.uint8))
    np.testing.assert_array_equal(found.y, [float(word) for word in words])


def test_more_hard_numbers_than_python_takes_at_a_time(monkeypatch):
    monkeypatch.setattr(_parse, "HARD", 2)
    words = ["inf", "nan", "-Infinity", "1e400", "123456789012345678901234567890", "5e-324"]
    text = "".join(f"{word} 1:{word} 7:{word}\n" for word in words).encode()
    found = parse(np.frombuffer(text, np.uint8))
    np.testing.assert_array_equal(found.y, [float(word) for word in words])
    np.testing.assert_array_equal(found.values, np.repeat([float(word) for word in words], 2))
    np.testing.assert_array_equal(found.starts, 2 * np.arange(7))


def test_the_corners_of_the_format():
    text = b"\n# a comment\n+1 1:.5 3:2.\t4:-1e+2 # more\n  -1\r\n\n2 5:00012.500 5:1E1   \r\n0 2:0"
    found = parse(np.frombuffer(text, np.uint8))
    assert found.y.tolist() == [1, -1, 2, 0]
    assert found.starts.tolist() == [0, 3, 3, 5, 6]
    assert found.columns.tolist() == [1, 3, 4, 5, 5, 2]
    assert found.values.tolist() == [0.5, 2, -100, 12.5, 10, 0]


@pytest.mark.parametrize(("line", "text"), [
    ("1 2", "'2' in row 1 is not index:value"), ("1 2:", "'2:' in row 1"), ("1 :3", "':3' in row 1"),
    ("1 2:x", "'x' in row 1 is no number"), ("one 2:3", "'one' in row 1 is no number"), ("1 qid:3", "'qid:3' in row 1"),
    ("1 2: 3", "in row 1"), ("1,2 3:4", "'1,2' in row 1 is no number"), ("1 3000000000:1", "'3000000000:1' in row 1"),
    ("1 2:1_0", "'1_0' in row 1 is no number"), ("1 2:3:4", "'3:4' in row 1"), ("1 -2:3", "'-2:3' in row 1"),
    ("1 2:1e", "'1e' in row 1"), ("1 2:-", "'-' in row 1"), ("1 2:1.2.3", "'1.2.3' in row 1"),
])  # fmt: skip
@pytest.mark.parametrize("after", ["", "\n", "\n3 4:5\n"])
def test_what_is_not_libsvm_is_quoted(tmp_path, line, text, after):
    path = tmp_path / "bad.svm"
    path.write_text(f"5 1:1\n{line}{after}")
    with pytest.raises(ValueError, match=rf"chunk 0 of .*bad\.svm: .*{text}"):
        no.stream.open(path)


@pytest.mark.parametrize("packed", OPENERS)
@pytest.mark.parametrize("chunk_bytes", [1, 40, 1000, 10**6])
def test_libsvm_chunks_make_up_the_file(tmp_path, packed, chunk_bytes):
    X, y = table()
    X[X < 0.3] = 0
    X[:, 3] = 1.0  # the last column occurs
    path = tmp_path / f"table.svm{packed}"
    with OPENERS[packed](path, "wb") as file:
        file.write(libsvm_text(X, y)[:-1])  # no newline at the end
    source = no.stream.open(path, chunk_bytes=chunk_bytes)
    found = whole(source)
    np.testing.assert_array_equal(found[0], X)
    np.testing.assert_array_equal(found[1], y)
    np.testing.assert_array_equal(source.classes(), [0, 1, 2])
    assert sum(source.sizes) == 50
    assert source.ordered == bool(packed)
    blind = no.stream.open(path, n_features=4, zero_based=False, chunk_bytes=chunk_bytes)
    np.testing.assert_array_equal(whole(blind)[0], X)
    np.testing.assert_array_equal(blind.classes(), [0, 1, 2])
    if source.n_chunks > 2:
        np.testing.assert_array_equal(source.read(2)[1], source.read(2)[1])
        np.testing.assert_array_equal(source.read(1)[1], source.labels(1))


def test_libsvm_agrees_with_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_digits(return_X_y=True)
    file = io.BytesIO()
    datasets.dump_svmlight_file(X / 16.1, y, file, zero_based=False)
    expected, target = datasets.load_svmlight_file(io.BytesIO(file.getvalue()))
    found = parse(np.frombuffer(file.getvalue(), np.uint8))
    np.testing.assert_array_equal(found.values, expected.data)
    np.testing.assert_array_equal(found.columns - 1, expected.indices)
    np.testing.assert_array_equal(found.starts, expected.indptr)
    np.testing.assert_array_equal(found.y, target)


def test_the_base_of_indices_is_found_or_given(tmp_path):
    X, y = table()
    for base in (0, 1):
        path = tmp_path / f"{base}.svm"
        path.write_bytes(libsvm_text(X, y, base))
        np.testing.assert_array_equal(whole(no.stream.open(path))[0], X)
    source = no.stream.open(tmp_path / "0.svm", n_features=4, zero_based=False)
    with pytest.raises(ValueError, match=r"chunk 0 of .*0\.svm: the index 0 is not one of the 4 columns from 1 on"):
        source.read(0)
    with pytest.raises(ValueError, match=r"n_features=2: .* has the index 4"):
        no.stream.open(tmp_path / "1.svm", n_features=2)
    with pytest.raises(ValueError, match="the index 4 is not one of the 3 columns"):
        no.stream.open(tmp_path / "1.svm", n_features=3, zero_based=False).read(0)
    with pytest.raises(ValueError, match="zero_based='no'"):
        no.stream.open(tmp_path / "1.svm", zero_based="no")


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz"])
def test_truncated_archives_name_the_file_and_the_chunk(tmp_path, packed):
    X, y = table(3000)
    path = tmp_path / f"table.svm{packed}"
    with OPENERS[packed](path, "wb") as file:
        file.write(libsvm_text(X, y))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"chunk \d+ of .*table\.svm.*: "):
        no.stream.open(path, chunk_bytes=1000)
    path.write_bytes(b"no archive at all")
    with pytest.raises(ValueError, match=r"chunk 0 of .*table\.svm.*: "):
        no.stream.open(path)


@pytest.mark.parametrize(("text", "expected"), [("", "is empty"), ("# nothing\n", "n_features must be given")])
def test_libsvm_without_rows(tmp_path, text, expected):
    (tmp_path / "a.svm").write_text(text)
    with pytest.raises(ValueError, match=expected):
        no.stream.open(tmp_path / "a.svm")


# ---- Parquet ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def parquet(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    X, y = table()
    folder = tmp_path / "table"
    folder.mkdir()
    for k, rows in enumerate((slice(0, 30), slice(30, 50))):
        columns = {f"c{j}": X[rows, j] for j in range(4)}
        columns["label"] = np.array(["no", "yes", "maybe"])[y[rows].astype(int)]
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{k}.parquet", row_group_size=8)
    return folder, X, np.array(["no", "yes", "maybe"])[y.astype(int)]


def test_parquet_row_groups_make_up_the_table(parquet):
    folder, X, y = parquet
    source = no.stream.open(folder, target="label")
    assert source.sizes == [30, 20]  # small groups are put together, files are not
    assert no.stream.open(folder, target="label", chunk_bytes=1).sizes == [8, 8, 8, 6, 8, 8, 4]
    for chunk_bytes in (1, 600, 10**6):
        source = no.stream.open(folder, target="label", chunk_bytes=chunk_bytes)
        found = whole(source)
        np.testing.assert_array_equal(found[0], X)
        np.testing.assert_array_equal(found[1], y)
    assert source.classes().tolist() == ["maybe", "no", "yes"]
    assert source.dtype == np.float64
    some = no.stream.open([folder / "1.parquet"], target="c0", columns=["c3", "c1"])
    np.testing.assert_array_equal(whole(some)[0], X[30:][:, [3, 1]])
    np.testing.assert_array_equal(whole(some)[1], X[30:, 0])


def test_parquet_files_that_do_not_fit(parquet, tmp_path):
    folder, *_ = parquet
    with pytest.raises(ValueError, match="has no column 'price'; it has c0"):
        no.stream.open(folder, target="price")
    with pytest.raises(ValueError, match=r"column 'label' is of type .*string"):
        no.stream.open(folder, target="c0")
    with pytest.raises(ValueError, match="no Parquet file"):
        no.stream.open(tmp_path, target="c0")
    os.truncate(folder / "1.parquet", 500)
    with pytest.raises(ValueError, match=r"1\.parquet is not a usable Parquet file"):
        no.stream.open(folder, target="label")


def test_missing_values_are_nan(parquet):
    folder, *_ = parquet
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"a": [1, None, 3], "y": [1.0, 2.0, 3.0]}), folder / "2.parquet")
    source = no.stream.open(folder / "2.parquet", target="y")
    with pytest.raises(ValueError, match=r"chunk 0 \(row group 0 of .*2\.parquet\): Input X contains NaN\."):
        no.stream.minimize(source)


def test_a_damaged_row_group(parquet):
    folder, *_ = parquet
    source = no.stream.open(folder, target="label", chunk_bytes=1)
    path = folder / "0.parquet"
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ValueError, match=r"0\.parquet is not a usable Parquet file: "):
        source.read(0)


def test_memory_of_a_chunk_is_used_again_once_nobody_holds_it(tmp_path):
    X = np.arange(60.0).reshape(30, 2)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", np.arange(30.0))
    source = no.stream.open(tmp_path / "X.npy", tmp_path / "y.npy", chunk_rows=10)
    first = source.read(0)[0]
    part, where = first[2:4], first.ctypes.data
    del first
    others = [source.read(k)[0] for k in (1, 2, 1, 2)]
    assert where not in [other.ctypes.data for other in others]  # the part is still somebody's
    np.testing.assert_array_equal(part, X[2:4])
    for k, other in zip((1, 2, 1, 2), others, strict=True):
        np.testing.assert_array_equal(other, X[10 * k : 10 * k + 10])
    del others, other
    again = {source.read(k)[0].ctypes.data for k in (0, 1, 2, 0)}
    assert len(again) == 1
