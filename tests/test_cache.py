"""Compiled code on disk: never stale, never wrong, never in the way."""

import errno
import hashlib
import os
import shutil
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
from process import finish, python, start
from test_fingerprint import define

from numbaopt import _cache
from numbaopt._jit import jit


def hits_and_misses(compiled):
    return sum(compiled.stats.cache_hits.values()), sum(compiled.stats.cache_misses.values())


def double(x):
    return 2.0 * x


# ---- hits and misses -------------------------------------------------------------------------------------------------


def test_the_second_dispatcher_compiles_nothing(store):
    first, second = jit(double), jit(double)
    assert (first(1.5), second(1.5)) == (3.0, 3.0)
    assert (hits_and_misses(first), hits_and_misses(second)) == ((0, 1), (1, 0))
    assert second(1) == 2.0
    assert hits_and_misses(second) == (1, 1)
    assert len(list(store.iterdir())) == 2


def test_a_function_with_other_globals_is_another_entry(store):
    for c in (1.0, 2.0, 1.0):
        assert jit(define("def f(x): return c * x", c=c))(3.0) == 3.0 * c
    assert len(list(store.iterdir())) == 2


def test_a_function_of_a_module_that_cannot_be_imported_is_not_stored(store):
    """Numba could not load it again."""
    for _ in range(2):
        assert jit(define("def f(x): return x + 1", __name__="nowhere"))(1.5) == 2.5
    assert not list(store.iterdir())


RULE_OF_NO_FILE = """
    import numpy as np
    import numbaopt as no

    code = '''
    from typing import NamedTuple
    import numbaopt as no

    @no.rule()
    class Plain(NamedTuple):
        lr: float = 0.5
        slots = ()
        def prepare(opt, lr, t):
            return (lr,)
        def update(c, x, g, s, i):
            return x - c[0] * g
    '''
    exec(code, {"__name__": "of_no_file"})
    print(no.minimize(no.LinearModel(np.eye(2), np.ones(2)), method="plain", options={"maxiter": 3}).nit)
"""


def test_what_calls_code_that_stands_in_no_module_is_not_stored(tmp_path):
    """Numba could not load that again: a rule typed into a document, or made by ``exec``."""
    for _ in range(2):
        assert finish(start(RULE_OF_NO_FILE, NUMBA_CACHE_DIR=tmp_path)) == ("3\n", "")


def test_a_global_that_changes_between_two_signatures_is_seen(store):
    """Numba freezes a global when it compiles: for the second signature that is another value than for the first."""
    function = define("c = 1\ndef f(x): return c * x")
    compiled = jit(function)
    assert compiled(1.5) == 1.5
    function.__globals__["c"] = 2
    assert compiled(3) == 6
    assert jit(define("c = 1\ndef f(x): return c * x"))(3) == 3
    assert jit(define("c = 2\ndef f(x): return c * x"))(3) == 6


def test_options_are_part_of_the_name(store):
    for options in (
        {"fastmath": set()},
        {"fastmath": {"nnan", "nsz"}},
        {"error_model": "python"},
        {"boundscheck": True},
        {},
    ):
        assert hits_and_misses_of_one_call(jit(double, **options)) == (0, 1)
        assert hits_and_misses_of_one_call(jit(double, **options)) == (1, 0)


def hits_and_misses_of_one_call(compiled):
    compiled(1.0)
    return hits_and_misses(compiled)


def test_the_order_of_the_fields_of_an_argument_is_part_of_the_name(store):
    """Numba's name of the type, P(float64 x 2), has no fields in it."""
    function = define("def f(p): return p.a - p.b")
    assert jit(function)(NamedTuple("P", [("a", float), ("b", float)])(3.0, 1.0)) == 2.0
    assert jit(function)(NamedTuple("P", [("b", float), ("a", float)])(3.0, 1.0)) == -2.0


@pytest.mark.parametrize("source", [
    "def f(x): return no.schedules.rate(x, 1.0, 1.0)",
    "from numbaopt._schedule import rate\ndef f(x): return rate(x, 1.0, 1.0)",
])  # fmt: skip
def test_a_users_function_that_calls_the_package_is_compiled_anew_with_a_new_version(source, store, monkeypatch):
    assert hits_and_misses_of_one_call(jit(define(source))) == (0, 1)
    assert hits_and_misses_of_one_call(jit(define(source))) == (1, 0)
    monkeypatch.setattr(_cache, "package_stamp", lambda: "of a later version")
    assert hits_and_misses_of_one_call(jit(define(source))) == (0, 1)


STEPS = """
    import numpy as np, numba.core.event as event, numbaopt as no
    with event.install_recorder("numba:compile") as record:
        x, opt = np.zeros(2), no.transforms.chain(no.transforms.ClipByValue(0.5), no.SGD(1.0))
        no.step(opt, x, np.ones(2), no.init_state(opt, x), 1)
    print(x[0], sum(e.is_start for _, e in record.buffer) > 0)
"""
STAMP = "from numbaopt._cache import package_stamp; print(package_stamp())"


@pytest.mark.process
def test_a_second_process_compiles_nothing_until_a_file_of_the_package_changes(tmp_path):
    copy, cache = tmp_path / "copy", tmp_path / "cache"
    shutil.copytree(_cache.PACKAGE, copy / "numbaopt", ignore=shutil.ignore_patterns("__pycache__"))
    run = lambda code: python(code, package=copy, NUMBA_CACHE_DIR=cache)  # noqa: E731
    assert run(STEPS) == ["-0.5", "True"]
    assert run(STEPS) == ["-0.5", "False"]
    edit(copy / "numbaopt" / "transforms.py", "c[0] if g > c[0]", "c[0] / 2 if g > c[0]")
    assert run(STEPS) == ["-0.25", "True"]
    before = run(STAMP)
    edit(copy / "numbaopt" / "_threads.py", "SHARE = 1 << 16", "SHARE = 1 << 15")
    assert run(STAMP) != before


def edit(file, old, new):
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


USER = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import numpy as np, numba.core.event as event, numbaopt as no
    from ones_own import Halving
    with event.install_recorder("numba:compile") as record:
        x = np.ones(2)
        no.step(Halving(lr=1.0), x, np.ones(2), no.init_state(Halving(), x), 1)
    print(x[0], sum(e.is_start for _, e in record.buffer) > 0)
"""


@pytest.mark.process
def test_an_edited_rule_of_ones_own_is_the_one_that_runs(tmp_path):
    module = tmp_path / "ones_own.py"
    module.write_text("""
from typing import NamedTuple
import numbaopt as no

@no.rule()
class Halving(NamedTuple):
    lr: float = 1.0
    slots = ()

    @staticmethod
    def prepare(opt, lr, t):
        return (lr,)

    @staticmethod
    def update(c, x, g, s, i):
        return x - c[0] * g / 2
""")
    run = lambda: python(USER, tmp_path, NUMBA_CACHE_DIR=tmp_path / "cache")  # noqa: E731
    assert run() == ["0.5", "True"]
    assert run() == ["0.5", "False"]
    edit(module, "x - c[0]", "x + c[0]")
    assert run() == ["1.5", "True"]


# ---- several processes, one cold cache -------------------------------------------------------------------------------

RACE = """
    import pathlib, sys, time, numpy as np
    from numbaopt import _cache
    from numbaopt._jit import jit
    def make(shift):
        return lambda x: x[10] * shift + shift
    root, me, everybody, rounds, x = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]), np.linspace(0, 1, 11)
    for turn in range(rounds):
        where = root / str(turn)
        where.mkdir(exist_ok=True)
        _cache.folder = lambda: where
        (where / f"ready{me}").touch()
        while len(list(where.glob("ready*"))) < everybody:
            time.sleep(0.001)
        print(*(float(jit(make(shift))(x)).hex() for shift in (0.1, 0.2)))
"""


@pytest.mark.process
def test_processes_that_fill_one_cold_cache_at_once_get_the_same_numbers(tmp_path):
    everybody, rounds = 4, 4
    running = [start(RACE, tmp_path, me, everybody, rounds) for me in range(everybody)]
    outs, errors = zip(*map(finish, running), strict=True)
    assert set(errors) == {""}
    assert len(set(outs)) == 1
    assert [float.fromhex(word) for word in outs[0].split()] == [0.2, 0.4] * rounds
    for turn in range(rounds):
        assert len(list((tmp_path / str(turn)).glob("*.nbo"))) == 2
        assert not list((tmp_path / str(turn)).glob("*.tmp"))


# ---- damage and refusal ----------------------------------------------------------------------------------------------


def flipped(blob):
    return blob[:1000] + bytes([blob[1000] ^ 1]) + blob[1001:]


def sealed(payload):
    return hashlib.sha256(payload).digest() + payload


@pytest.mark.parametrize("damage", [
    lambda blob: b"", lambda blob: blob[:20], lambda blob: blob[:-1], flipped, lambda blob: bytes(len(blob)),
    lambda blob: sealed(b"not a pickle"), lambda blob: sealed(blob[32:-10]),
], ids=["empty", "shorter than its sum", "truncated", "one bit", "zeros", "no pickle", "sealed but cut"])  # fmt: skip
def test_a_damaged_entry_is_dropped_compiled_again_and_said_once(damage, store):
    assert jit(double)(1.5) == 3.0
    (file,) = store.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    compiled = jit(double)
    with pytest.warns(RuntimeWarning, match=r"in the compile cache is damaged .* dropped and compiled again") as caught:
        assert compiled(1.5) == 3.0
    assert len(caught) == 1
    assert hits_and_misses(compiled) == (0, 1)
    assert hits_and_misses_of_one_call(jit(double)) == (1, 0)  # and warns no more: warnings are errors here


def test_a_full_disk_is_one_warning_and_leaves_nothing_behind(store, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(RuntimeWarning, match="compiled code could not be kept: .*No space left") as caught:
        assert jit(double)(1.5) == 3.0
    assert len(caught) == 1
    assert not list(store.iterdir())


def test_an_entry_that_cannot_be_read_or_replaced_is_no_obstacle(store):
    jit(double)(1.5)
    (file,) = store.iterdir()
    file.unlink()
    file.mkdir()
    with pytest.warns(RuntimeWarning, match="compiled code could not be kept"):
        assert jit(double)(1.5) == 3.0


@pytest.fixture
def choose(monkeypatch, tmp_path):
    """The folder that is chosen with the given variables, when the package's own place and the home cannot be used."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(_cache, "PACKAGE", tmp_path / "file" / "numbaopt")

    def folder(**variables):
        names = {"NUMBA_CACHE_DIR": None, "XDG_CACHE_HOME": None, "HOME": tmp_path / "file", **variables}
        for name, value in names.items():
            monkeypatch.setenv(name, str(value)) if value is not None else monkeypatch.delenv(name, raising=False)
        _cache.folder.cache_clear()
        return _cache.folder()

    yield folder
    _cache.folder.cache_clear()


def test_the_folder_is_the_first_that_can_be_used(choose, tmp_path, monkeypatch):
    chosen = choose(NUMBA_CACHE_DIR=tmp_path / "chosen")
    assert chosen == tmp_path / "chosen" / "numbaopt"
    assert chosen.stat().st_mode & 0o022 == 0
    if os.name == "posix" and os.uname().sysname == "Linux":
        assert choose(XDG_CACHE_HOME=tmp_path / "home").is_relative_to(tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    assert choose(NUMBA_CACHE_DIR="here") == tmp_path / "here" / "numbaopt"
    monkeypatch.setattr(_cache, "PACKAGE", tmp_path / "package")
    assert choose() == tmp_path / "package" / "__pycache__"


def test_without_any_folder_there_is_one_warning_and_all_works(choose):
    with pytest.warns(RuntimeWarning, match=r"numbaopt keeps no compiled code: .* set NUMBA_CACHE_DIR") as caught:
        assert choose() is None
    assert len(caught) == 1
    assert [jit(double)(1.5), jit(double)(1.5)] == [3.0, 3.0]  # and no second warning: warnings are errors here


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_a_folder_where_anybody_may_write_is_never_used(choose, tmp_path):
    (tmp_path / "open" / "numbaopt").mkdir(parents=True)
    (tmp_path / "open" / "numbaopt").chmod(0o777)
    with pytest.warns(RuntimeWarning, match="anybody may write there"):
        assert choose(NUMBA_CACHE_DIR=tmp_path / "open") is None


def test_a_folder_that_lost_its_permissions_later_is_no_obstacle(store, monkeypatch):
    """As `root` permission bits stop nobody, so the refusal is made by hand."""
    jit(double)(1.5)
    (file,) = store.iterdir()
    file.write_bytes(b"damaged")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(_cache.tempfile, "NamedTemporaryFile", refuse)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert jit(double)(1.5) == 3.0
    assert {w.category for w in caught} == {RuntimeWarning}


@pytest.mark.process
def test_import_and_steps_work_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    code = """
        import numpy as np, numbaopt as no
        for lr in (0.5, 0.25):
            x = np.ones(1)
            no.step(no.SGD(lr), x, x.copy(), no.init_state(no.SGD(), x), 1)
            print(x[0])
    """
    out, errors = finish(start(code, NUMBA_CACHE_DIR=tmp_path / "file" / "cache", HOME=None))
    assert out.split() == ["0.5", "0.75"]
    assert errors.count("RuntimeWarning") == errors.count("numbaopt keeps no compiled code") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


# ---- one process loads what several have written ---------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
SHIFTED = """
import numpy as np
from numba import types
from numbaopt._jit import address, invoke_value, jit, jit_for_address, jit_inside

call, keep = jit(lambda where, x: invoke_value(where, (x,))), []

def make(c):
    def inner(x):  # so much code that it is not inlined
        for _ in range(100):
            if x > 1e9:
                raise ValueError(x)
            x = np.sqrt(np.array([x, c, x + c]).sum()) + np.linspace(0.0, c, 5).max()
        return x
    inner = jit_inside(inner, fastmath=())
    keep.append(jit_for_address(lambda x: inner(x) + inner(x + 1.0), fastmath=()))
    return call(address(keep[-1], types.float64(types.float64)), 1.0)
"""
TOLD = """
    import os, sys
    sys.path.insert(0, sys.argv[1])
    import shifted

    def child(c):
        read, write = os.pipe()
        if os.fork() == 0:  # a worker that compiles, after its parent
            os.write(write, repr(shifted.make(c)).encode())
            os._exit(0)
        return os.read(read, 100).decode()

    print(*[(child if sys.argv[2] == "fork" else shifted.make)(float(c)) for c in sys.argv[3:]])
"""


@pytest.mark.process
@pytest.mark.parametrize("how", ["alone", pytest.param("fork", marks=needs_fork)])
def test_functions_compiled_by_several_processes_are_told_apart(tmp_path, how):
    """Numba numbers the functions of a process from 1: what entries call must not share the name that this makes."""
    (tmp_path / "shifted.py").write_text(SHIFTED)
    run = lambda *words: python(TOLD, tmp_path, *words, NUMBA_CACHE_DIR=tmp_path / "cache")  # noqa: E731
    two, three = run("fork", 2, 3) if how == "fork" else run("alone", 2) + run("alone", 3)
    assert two != three
    assert len(list((tmp_path / "cache").rglob("shifted_make*.nbo"))) == 2
    assert run("alone", 2, 3, 2) == [two, three, two]
