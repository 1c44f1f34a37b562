"""The name of compiled code on disk: it changes with everything that decides what the code computes."""

import math
from typing import NamedTuple

import numba
import numpy as np
import pytest
from process import finish, start

import numbaopt as no
from numbaopt._cache import UnknownError, fingerprint
from numbaopt._jit import jit
from numbaopt.optimizers import OPTIMIZERS


def define(source, **names):
    """The function f of a module with this source."""
    space = {"math": math, "np": np, "no": no, "jit": numba.njit, "NamedTuple": NamedTuple}
    space |= {"OPTIMIZERS": OPTIMIZERS, "__name__": __name__, **names}
    exec(source, space)
    return space["f"]


RULE = """
@no.rule()
class Fingerprinted(NamedTuple):
    lr: float = 0.1
    slots = ()
    @staticmethod
    def prepare(opt, lr, t): return (lr,)
    @staticmethod
    def update(c, x, g, s, i): return x {} c[0] * g
del OPTIMIZERS["fingerprinted"]
opt = Fingerprinted()
def f(x): no.step({}, x, x, np.zeros((0, 2)), 1)
"""
ALIAS = "@jit\ndef a(x): return x\n@jit\ndef b(x): return -x\nc = {}\ndef f(x): return a(x) + b(x) + c(x)"
NESTED = "@jit\ndef h(x): return x {} 1\n@jit\ndef g(x): return h(x)\ndef f(x): return g(x)"
HELPER = "@jit\ndef g(x): return x {} 1\ndef f(x): return g(x)"
INNER = "def f(x):\n  def g(y): return y {} 1\n  return g(x)"
CLOSURE = "def make(c): return lambda x: c * x\nf = make({})"
DTYPE = "c = np.zeros(2, '{}')\ndef f(x): return c[1] * x"
CHANGES = {
    "constant": ("def f(x): return x + 1", "def f(x): return x + 2"),
    "kind of constant": ("def f(x): return x + 1", "def f(x): return x + 1.0"),
    "operator": ("def f(x): return x + 1", "def f(x): return x - 1"),
    "function of a module": ("def f(x): return math.sin(x)", "def f(x): return math.cos(x)"),
    "helper": (HELPER.format("+"), HELPER.format("-")),
    "helper of a helper": (NESTED.format("+"), NESTED.format("-")),
    "options of a helper": ("@jit\ndef g(x): return x\ndef f(x): return g(x)",
                            "@jit(fastmath=True)\ndef g(x): return x\ndef f(x): return g(x)"),
    "which helper a name means": (ALIAS.format("a"), ALIAS.format("b")),
    "global": ("c = 1.0\ndef f(x): return c * x", "c = 2.0\ndef f(x): return c * x"),
    "sign of zero": ("c = 0.0\ndef f(x): return c * x", "c = -0.0\ndef f(x): return c * x"),
    "global of a helper": ("c = 1\n@jit\ndef g(x): return c * x\ndef f(x): return g(x)",
                           "c = 2\n@jit\ndef g(x): return c * x\ndef f(x): return g(x)"),
    "tuple": ("c = (1, (2, 3))\ndef f(x): return c[1][0] * x", "c = (1, (4, 3))\ndef f(x): return c[1][0] * x"),
    "array": ("c = np.arange(3)\ndef f(x): return c[1] * x", "c = np.arange(3)[::-1]\ndef f(x): return c[1] * x"),
    "dtype of an array": (DTYPE.format("i8"), DTYPE.format("f8")),
    "closure": (CLOSURE.format(1.0), CLOSURE.format(2.0)),
    "array in a closure": ("def make(c): return lambda x: c[0] * x\nf = make(np.ones(1))",
                           "def make(c): return lambda x: c[0] * x\nf = make(np.zeros(1))"),
    "default": ("def f(x, k=1): return k * x", "def f(x, k=2): return k * x"),
    "name that hides a builtin": ("def f(x): return abs(x)", "@jit\ndef abs(x): return x\ndef f(x): return abs(x)"),
    "inner function": (INNER.format("+"), INNER.format("-")),
    "set": ("def f(x): return x in {1, 2}", "def f(x): return x in {1, 3}"),
    "fields": ("class P(NamedTuple):\n  a: float\n  b: float\ndef f(x): return P(x, 1.0).a",
               "class P(NamedTuple):\n  b: float\n  a: float\ndef f(x): return P(x, 1.0).a"),
    "rule": (RULE.format("-", "Fingerprinted(0.1)"), RULE.format("+", "Fingerprinted(0.1)")),
    "rule of an optimizer": (RULE.format("-", "opt"), RULE.format("+", "opt")),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), CHANGES.values(), ids=CHANGES)
def test_a_change_of_anything_used_is_another_function(before, after):
    assert fingerprint(define(before)) == fingerprint(define(before))
    assert fingerprint(define(before)) != fingerprint(define(after))


@pytest.mark.parametrize("after", [
    "# a comment\n\n\ndef f(x): return c * x",
    "def f(x):\n    # a comment\n    return c * x",
    "unused = 3\ndef other(x): return 1\ndef f(x): return c * x",
])  # fmt: skip
def test_what_is_not_used_does_not_matter(after):
    assert fingerprint(define("c = 1.5\ndef f(x): return c * x")) == fingerprint(define("c = 1.5\n" + after))


@pytest.mark.parametrize("source", [
    "c = [1.0]\ndef f(x): return c[0] * x",
    "c = {1: 1.0}\ndef f(x): return c[1] * x",
    "c = object()\ndef f(x): return c",
    "c = np.array([None])\ndef f(x): return c",
    "import enum\nclass C(enum.IntEnum):\n  A = 1\ndef f(x): return C.A * x",
    "import textwrap as c\ndef f(x): return c.dedent(x)",
    "def g(x): return x\ndef f(x): return g(x)",
    "import ctypes\nc = ctypes.CFUNCTYPE(None)(lambda: None)\ndef f(x): c()",
    "c = [1.0]\n@jit\ndef g(x): return c[0]\ndef f(x): return g(x)",
    "def make(c): return lambda x: c[0] * x\nf = make([1.0])",
])  # fmt: skip
def test_what_cannot_be_told_is_said_so_and_never_stored(source, store):
    function = define(source)
    with pytest.raises(UnknownError):
        fingerprint(function)
    assert jit(function)._cache._file((numba.float64,), numba.core.registry.cpu_target.target_context.codegen()) is None


def test_a_function_that_calls_itself_or_has_no_module_has_a_name():
    source = "@jit\ndef f(x): return x if x < 1 else f(x - {})"
    assert fingerprint(define(source.format(1))) != fingerprint(define(source.format(2)))
    assert fingerprint(define("def f(x): return x", __name__=None))


def test_the_type_of_a_jitted_function_is_told_by_what_it_computes():
    """Its repr is an address, which another process may give to another function."""
    jitted = [define(f"@jit\ndef f(x): return x - {k}") for k in (3, 3, 5)]  # a type does not keep its function alive
    one, same, other = map(numba.typeof, jitted)
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)


@pytest.mark.process
def test_a_name_is_the_same_in_every_process():
    code = """
        import math, numba, numpy as np, numbaopt as no
        from numbaopt._cache import fingerprint
        from numbaopt.optimizers._program import join_prepare, join_update
        helper = numba.njit(fastmath={"nnan", "nsz", "arcp", "contract", "afn"})(lambda x: math.sin(x))
        table, words = np.arange(5.0), ("a", frozenset({"b", "c", "d", "e"}))
        def f(x): return helper(x) * table[1] if x in {1, 2, 3} else len(words)
        print(fingerprint(f), fingerprint(lambda x: x in {"one", "two", "three", "four"}))
        parts = (no.transforms.ClipByNorm, no.Adam)
        print(fingerprint(join_prepare(parts).py_func), fingerprint(join_update(parts, (2, 9)).py_func))
    """
    running = [start(code, PYTHONHASHSEED=seed) for seed in (1, 2)]
    first, second = (finish(process)[0].split() for process in running)
    assert first == second
    assert len(set(first)) == 4
