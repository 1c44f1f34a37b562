"""Data sets of studies: archives, Parquet, generators, OpenML, and where files are looked for."""

import urllib.error

import numpy as np
import pytest
from files import idx, mnist_like, written
from scipy import sparse

from numbaopt.experiments import ExperimentError, build, load
from numbaopt.experiments.data import Generated, as_source, load_data
from numbaopt.experiments.readers import parse_idx, read

X = np.array([[1.0, 0.0, 2.5], [0.0, -1.0, 0.0], [3.0, 0.0, 1e-3], [0.5, 4.0, 0.0]])
Y = np.array([1.0, -1.0, 1.0, -1.0])


def message_of(call, *arguments, **named):
    with pytest.raises(ExperimentError) as error:
        call(*arguments, **named)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestReaders:
    def test_archives_of_numpy(self, tmp_path):
        np.savez(tmp_path / "dense.npz", X=X, y=Y)
        np.savez(tmp_path / "keras.npz", x_train=X.reshape(4, 3, 1), y_train=Y, x_test=X[:1], y_test=Y[:1])
        csr = sparse.csr_matrix(X)
        np.savez(tmp_path / "csr.npz", data=csr.data.astype(np.float32), indices=csr.indices, indptr=csr.indptr,
                 shape=csr.shape, y=Y)  # fmt: skip
        for name, tables in (("dense", 1), ("keras", 2), ("csr", 1)):
            found = read(tmp_path / f"{name}.npz")
            assert len(found) == tables
            features = found[0][0]
            np.testing.assert_allclose(features.toarray() if name == "csr" else features, X)
            np.testing.assert_array_equal(found[0][1], Y)

    def test_parquet(self, tmp_path):
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = {"a": X[:, 0], "kind": ["u", "v", "u", "v"], "n": np.arange(4)}
        parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
        (features, target), = read(tmp_path / "t.parquet", "kind")
        np.testing.assert_array_equal(features, np.column_stack([X[:, 0], np.arange(4)]))
        assert target.tolist() == ["u", "v", "u", "v"]
        assert "column 'kind' is not of numbers" in message_of(read, tmp_path / "t.parquet")
        assert "did you mean 'kind'" in message_of(read, tmp_path / "t.parquet", "knid")

    def test_the_target_of_a_csv_by_name(self, tmp_path):
        file = written(tmp_path, "kind,a,b\nx,1,2\ny,3,4\n", "t.csv")
        (features, target), = read(file, "kind")
        assert features.tolist() == [[1, 2], [3, 4]]
        assert target.tolist() == ["x", "y"]
        assert "valid: a, b, kind" in message_of(read, file, "c")
        assert "no header" in message_of(read, written(tmp_path, "1,2\n3,4\n", "u.csv"), "a")

    @pytest.mark.parametrize("pack", [False, True])
    def test_archives_of_idx_files(self, tmp_path, pack):
        train, held_out = read(mnist_like(tmp_path / "mnist.tgz", pack=pack))
        assert (train[0].shape, held_out[1].shape, train[0].dtype) == ((20, 4), (20,), np.uint8)
        assert set(train[1]) == {0, 1, 2}
        assert len(read(mnist_like(tmp_path / "one.tar.gz", ["train"]))) == 1
        assert "no train-images-idx file" in message_of(read, mnist_like(tmp_path / "none.tgz", ["test"]))

    def test_idx(self):
        numbers = np.arange(6, dtype=">i4").reshape(2, 3)
        np.testing.assert_array_equal(parse_idx(idx(numbers, 12), "a"), numbers)
        for content in (b"", b"\0\0\x07\1", idx(numbers, 12)[:-1], idx(numbers, 12)[:6]):
            assert "idx file" in message_of(parse_idx, content, "a")

    def test_files_that_are_not_what_they_say(self, tmp_path):
        np.savez(tmp_path / "objects.npz", X=np.array([{}]), y=Y)
        np.savez(tmp_path / "other.npz", a=X)
        np.savez(tmp_path / "short.npz", X=X, y=Y[:2])
        for name in ("text.npz", "text.tgz", "text.parquet"):
            written(tmp_path, "no", name)
        for name, message in (
            ("objects.npz", "objects.npz: Object arrays cannot be loaded"), ("text.npz", "text.npz: "),
            ("other.npz", "holds a; a table is X and y"), ("short.npz", "features (4, 3) and target (2,)"),
            ("text.tgz", "text.tgz: "), ("text.parquet", "text.parquet: "),
        ):  # fmt: skip
            assert message in message_of(read, tmp_path / name)


class TestGenerators:
    def made(self, **fields):
        return Generated(**fields).tables()[0]

    def test_the_seed_decides(self):
        one, same, other = (self.made(generator="classification", seed=seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(one[0], same[0])
        np.testing.assert_array_equal(one[1], same[1])
        assert not np.array_equal(one[0], other[0])
        assert one[0].shape == (1000, 20)

    def test_what_is_made_is_what_was_asked_for(self):
        X, y = self.made(generator="regression", rows=4000, columns=5, informative=2, noise=0.1, condition=100.0)
        assert np.linalg.cond(np.cov(X.T)) == pytest.approx(100, rel=0.2)
        coef, rest, *_ = np.linalg.lstsq(X, y, rcond=None)
        assert (rest[0] / 4000) ** 0.5 == pytest.approx(0.1, rel=0.1)
        assert sorted(np.abs(coef) > 0.1) == [False] * 3 + [True] * 2
        assert np.linalg.norm(coef) == pytest.approx(3, rel=0.05)
        X, y = self.made(generator="classification", classes=4, density=0.1, rows=2000)
        assert sparse.issparse(X)
        assert X.nnz == 4000
        assert set(y) == {0, 1, 2, 3}
        clear = self.made(generator="classification", signal=1e6, rows=2000)[1]
        noisy = self.made(generator="classification", signal=1e6, rows=2000, flip=0.5)[1]
        assert 0.2 < np.mean(clear != noisy) < 0.3
        counts = self.made(generator="counts", signal=0.5)[1]
        assert (counts == np.round(counts)).all()
        assert counts.mean() == pytest.approx(np.exp(0.125), rel=0.2)

    def test_faults(self):
        assert "too large" in message_of(self.made, generator="regression", rows=10**8, columns=10**6)
        for table, message in (({"generator": "regresion"}, "did you mean 'regression'?"),
                               ({"generator": "counts", "row": 3}, "unknown key 'data.row'; did you mean 'rows'?"),
                               ({}, "one of the keys file, openml, generator"), (3, "one of the keys")):  # fmt: skip
            assert message in message_of(as_source, table)


class TestOpenML:
    def test_by_name_and_by_number(self, monkeypatch, tmp_path):
        asked = []

        def fetch(**named):
            asked.append(named)
            return X, np.array(["a", "b", "c", "a"])

        monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
        table = load_data({"openml": "wines", "version": 2, "positive": "a"}, tmp_path, 0.0, standardize=False)
        np.testing.assert_array_equal(table.X, X)
        assert table.y.tolist() == [1, -1, -1, 1]
        assert table.about.startswith("wines: 4 rows")
        load_data({"openml": 61, "target": "kind"}, tmp_path)
        assert [(told.get("name"), told.get("version"), told.get("data_id")) for told in asked] == [
            ("wines", 2, None), (None, None, 61)]  # fmt: skip
        assert asked[1]["target_column"] == "kind"

    def test_offline_and_unknown(self, monkeypatch, tmp_path):
        def fail(error):
            def fetch(**named):
                raise error
            return fetch

        monkeypatch.setattr("sklearn.datasets.fetch_openml", fail(urllib.error.URLError("no route")))
        assert "the first time it needs the network; files by path do not" in message_of(
            load_data, {"openml": "wines"}, tmp_path)  # fmt: skip
        monkeypatch.setattr("sklearn.datasets.fetch_openml", fail(ValueError("No known data set\nmore")))
        assert message_of(load_data, {"openml": "wines"}, tmp_path).endswith("'wines': No known data set")


class TestPlaces:
    TEXT = "[methods]\na = {{ method = 'gd' }}\n[problems.p]\nproblem = 'linear_regression'\ntest_fraction = 0.0\n{}"

    def study(self, folder, line, **options):
        return load(written(folder, self.TEXT.format(line)), **options)

    def test_a_folder_is_looked_into_by_name(self, tmp_path):
        place, folder = tmp_path / "data", tmp_path / "study"
        place.mkdir()
        folder.mkdir()
        np.savez(place / "table.npz", X=X, y=Y)
        written(folder, "1,2\n3,4\n", "table.csv")
        for data, columns in ((None, 1), (place, 3), (place / "table.npz", 3)):
            job = self.study(folder, "data = 'table'", data=data).jobs[0]
            assert build(job.spec).task.fun.n_features == columns
        assert build(self.study(folder, "data = 'iris'", data=place).jobs[0].spec).task.fun.n_features == 4

    def test_what_is_not_there_or_not_clear(self, tmp_path):
        assert "problems.p.data: there is no file 'irs'" in message_of(self.study, tmp_path, "data = 'irs'")
        assert "did you mean 'iris'" in message_of(self.study, tmp_path, "data = 'irs'")
        for name in ("t.csv", "t.npz", "t.t.xz"):
            written(tmp_path, "1,2\n", name)
        assert "'t' may be 't.csv' or 't.npz'" in message_of(self.study, tmp_path, "data = 't'")
        assert "unknown key 'data.fil" in message_of(self.study, tmp_path, "data = { openml = 'a', fil = 'b' }")

    def test_named_tables_and_grids_of_them(self, tmp_path):
        study = self.study(tmp_path, """
            data = ["diabetes", "wide"]
            [data.wide]
            generator = "regression"
            columns = 50
        """)  # fmt: skip
        assert [trial.name for trial in study.trials] == ["p-data_diabetes", "p-data_wide"]
        assert build(study.jobs[1].spec).task.fun.n_features == 50

    def test_a_file_that_changes_is_another_run(self, tmp_path):
        written(tmp_path, "1,2\n3,4\n", "t.csv")
        first = self.study(tmp_path, "data = 't.csv'").jobs[0]
        written(tmp_path, "1,2\n3,5\n5,5\n", "t.csv")
        second = self.study(tmp_path, "data = 't.csv'").jobs[0]
        assert first.id != second.id
        assert build(second.spec).task.fun.n_terms == 3
        assert "t.csv is not what it was when the study was declared" in message_of(build, first.spec)

    def test_some_rows_and_one_class(self, tmp_path):
        table = load_data({"file": "iris", "rows": 60, "positive": 2}, tmp_path, 0.0, standardize="largest")
        assert table.X.shape == (60, 4)
        assert set(table.y) == {-1, 1}
        assert abs(table.X).max() == 1
        assert "positive = 7 is no class; valid: 0, 1, 2" in message_of(
            load_data, {"file": "iris", "positive": 7}, tmp_path)  # fmt: skip
