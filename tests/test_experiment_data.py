"""Data files of experiments: LIBSVM and CSV, packed or not, are read as they are or refused in a sentence."""

import bz2
import gzip
import lzma

import numpy as np
import pytest
from files import written
from scipy import sparse

from numbaopt.experiments import ExperimentError, data, readers

X = np.array([[1.0, 0.0, 2.5], [0.0, -1.0, 0.0], [3.0, 0.0, 1e-3], [0.5, 4.0, 0.0]])
Y = np.array([1.0, -1.0, 1.0, -1.0])
LIBSVM = "+1 1:1 3:2.5\n-1 2:-1 # a comment\n1 1:3 3:1e-3\n-1 1:.5 2:4\n"


class TestData:
    def csv(self, mark=",", header="a,b,c,class\n", words=("1", "-1")):
        rows = [mark.join([*map(str, x), words[int(y < 0)]]) for x, y in zip(X, Y, strict=True)]
        return header.replace(",", mark) + "\n".join(rows) + "\n"

    @pytest.mark.parametrize("mark", [",", ";", "\t", " "])
    @pytest.mark.parametrize("header", ["a,b,c,class\n", "1st,2nd,3,4\n", ""])
    def test_csv(self, tmp_path, mark, header):
        (features, target), = readers.read_tables([written(tmp_path, self.csv(mark, header))])
        np.testing.assert_array_equal(features, X)
        np.testing.assert_array_equal(target, Y)

    @pytest.mark.parametrize("header", ["a,b,c,class\n", ""])
    def test_csv_with_classes_in_words(self, tmp_path, header):
        (features, target), = readers.read_tables([written(tmp_path, self.csv(header=header, words=('"yes"', "no")))])
        np.testing.assert_array_equal(features, X)
        assert target.tolist() == ["yes", "no", "yes", "no"]

    def test_csv_with_hashes_and_quotes(self, tmp_path):
        text = '\n"a, in m",#,language\n"1.5",2,"C"\n3,"4",C#\n5,6,"F, or #"\n'
        features, target = readers.read_csv(written(tmp_path, text))
        np.testing.assert_array_equal(features, [[1.5, 2], [3, 4], [5, 6]])
        assert target.tolist() == ["C", "C#", "F, or #"]
        features, target = readers.read_csv(written(tmp_path, '"a, in m",b\n"1.5",2\n3,4\n'), "a, in m")
        assert (features.tolist(), target.tolist()) == ([[2], [4]], [1.5, 3])

    @pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".xz", lzma.compress), (".bz2", bz2.compress),
                                                  (".gz", gzip.compress)])  # fmt: skip
    @pytest.mark.parametrize("kind", ["libsvm", "csv"])
    def test_packed_files(self, tmp_path, kind, suffix, pack):
        file = tmp_path / f"table{suffix}"
        file.write_bytes(pack((LIBSVM if kind == "libsvm" else self.csv()).encode()))
        (features, target), = readers.read_tables([file])
        assert sparse.issparse(features) == (kind == "libsvm")
        np.testing.assert_array_equal(features.toarray() if kind == "libsvm" else features, X)
        np.testing.assert_array_equal(target, Y)

    def test_the_held_out_part_beside_a_file(self, tmp_path):
        file = written(tmp_path, LIBSVM, "a9a")
        (tmp_path / "a9a.t.xz").write_bytes(lzma.compress(b"-1 2:1\n"))
        table = data.load_data("a9a", tmp_path, 0.5, 0, True)
        assert readers.held_out_file(file).name == "a9a.t.xz"
        assert readers.held_out_file(tmp_path / "a9a.t.xz") is None
        assert (table.X.shape, table.X_test.shape, table.y_test.tolist()) == ((4, 3), (1, 3), [-1.0])
        np.testing.assert_array_equal(table.X_test.toarray(), [[0, 1, 0]])
        assert table.about.endswith("held out: 1 rows of a9a.t.xz")

    def test_rows_are_split_by_the_seed_and_standardized(self, tmp_path):
        one, same, other = (data.load_data("breast_cancer", tmp_path, 0.25, seed, True) for seed in (0, 0, 1))
        assert (len(one.y), len(one.y_test)) == (427, 142)
        np.testing.assert_array_equal(one.X, same.X)
        assert not np.array_equal(one.y_test, other.y_test)
        np.testing.assert_allclose(one.X.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(one.X.std(axis=0), 1)
        assert abs(one.X_test.mean(axis=0)).max() > 1e-3  # by the rows trained on, not by its own

    def test_a_constant_column_is_no_division_by_zero(self, tmp_path):
        written(tmp_path, "5,1,0\n5,2,1\n5,3,0\n5,4,1\n", "t.csv")
        table = data.load_data("t.csv", tmp_path, 0.0, 0, True)
        assert (table.X[:, 0] == 0).all()
        assert len(table.y_test) == 0

    @pytest.mark.parametrize(("text", "message"), [
        ("1\n2\n", "one column; a table needs features"), ("", "one column"), ("a,b\n", "no rows"),
        ("1,2\n3,x,4\n", "t.csv: "),
        ("# a comment\n1,2,3,0\n4,5,6,1\n", "3 words in the first line, 1 in the next one; a table begins with names"),
        ("1,2,3\n4,,6\n", "could not convert string ''"), ("+1 1:2\n-1 1:x\n", "t.csv: "),
    ])  # fmt: skip
    def test_bad_tables(self, tmp_path, text, message):
        written(tmp_path, text, "t.csv")
        with pytest.raises(ExperimentError, match=message) as error:
            data.load_data("t.csv", tmp_path, 0.25, 0, True)
        assert "\n" not in str(error.value)

    def test_files_that_are_not_what_they_say(self, tmp_path):
        (tmp_path / "cut.xz").write_bytes(lzma.compress(self.csv().encode() * 100)[:-20])
        (tmp_path / "no.gz").write_bytes(b"1,2\n")
        for name in ("cut.xz", "no.gz"):
            with pytest.raises((ExperimentError, OSError)):
                data.load_data(name, tmp_path, 0.25, 0, True)
        with pytest.raises(ExperimentError, match="did you mean 'breast_cancer'"):
            data.load_data("brest_cancer", tmp_path, 0.25, 0, True)
