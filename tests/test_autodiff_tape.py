"""The tape of reverse mode and what lies around it: memory that is freed, written to, shared, or not enough."""

from __future__ import annotations

import resource
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

import numbaopt as no

SQUARE = np.random.default_rng(3).standard_normal((4, 4))
MODES = ("forward", "reverse")
pytestmark = pytest.mark.filterwarnings("ignore::numba.NumbaPerformanceWarning")  # of the functions themselves


@numba.njit
def freed_temporary(x, a):
    z = (a * 2.0) @ x
    filler = np.full((4, 4), np.nan)  # likely where the temporary was
    return (z**2).sum() + filler.shape[0]


@numba.njit
def overwritten_temporary(x, a):
    b = a * 1.0
    z = b @ x
    b[:] = 0.0
    return (z**2).sum()


@numba.njit
def overwritten_behind_another_name(x, a, flag):
    b = a * 1.0
    c = a if flag else b
    z = c @ x
    b[:] = 0.0
    return (z**2).sum()


@numba.njit
def buffer_used_again(x, a):
    buffer, total = np.empty((4, 4)), 0.0
    for k in range(3):
        buffer[:] = a * (k + 1)
        total += ((buffer @ x) ** 2).sum()
    return total


@numba.njit
def unknowns_overwritten_after_use(x, a):
    y = x.copy()
    z = a @ y
    y[:] = 0.0
    return (z**2).sum() + y.sum()


@numba.njit
def in_place_after_use(x, a):
    y = x * 1.0
    z = a @ y
    y *= z
    w = a @ y
    return w.sum()


@numba.njit
def views_of_one_memory(x, a):
    y = np.zeros((2, 4))
    first, second = y[0], y[1]
    first[:] = x
    second[:] = first * 2
    first += second
    return (y @ a).sum() * y[0, 0]


@numba.njit
def transposes_and_slices(x, a):
    y = x[::-1]
    return ((a.T @ y) ** 2).sum() + (a[::2] @ x).sum() ** 2 + ((x @ a[:, 1:]) ** 2).sum() + (a[1:, 1:] @ x[1:])[0]


@numba.njit
def solved_with_a_temporary(x, a):
    b = a + 4 * np.eye(4)
    z = np.linalg.solve(b, x)
    b[:] = np.nan
    return (z**2).sum()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fun", [freed_temporary, overwritten_temporary, buffer_used_again, in_place_after_use,
                                 unknowns_overwritten_after_use, views_of_one_memory, transposes_and_slices,
                                 solved_with_a_temporary], ids=lambda f: f.__name__)  # fmt: skip
def test_products_remember_values_not_addresses(fun, mode):
    x = np.array([0.5, -1.0, 2.0, 0.25])
    for a in (SQUARE, np.asfortranarray(SQUARE), np.repeat(SQUARE, 2, axis=1)[:, ::2]):
        checked = no.check_grad(fun, x, (a,), jac=no.grad(fun, mode))
        assert checked.error < 1e-9, str(checked)


@pytest.mark.parametrize("flag", [True, False])
def test_an_argument_or_a_temporary_under_one_name(flag):
    x = np.array([0.5, -1.0, 2.0, 0.25])
    checked = no.check_grad(overwritten_behind_another_name, x, (SQUARE, flag),
                            jac=no.grad(overwritten_behind_another_name, "reverse"))  # fmt: skip
    assert checked.error < 1e-9, str(checked)


@numba.njit
def raises_at_last(x):
    y = np.outer(x, x) @ x
    if y[0] == y[0]:
        raise ValueError("enough")
    return y.sum()


@pytest.mark.parametrize("mode", MODES)
def test_exceptions_come_out_and_the_next_call_works(mode):
    df = no.grad(raises_at_last, mode)
    with pytest.raises(ValueError, match="enough"):
        df(np.ones(20))
    np.testing.assert_array_equal(df(np.full(20, np.nan)), np.full(20, np.nan))


def memory():
    """Resident bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_over_many_gradients():
    @numba.njit
    def network(x, a):
        return np.tanh(a @ (x * np.tanh(a @ x))).sum()

    reverse, forward = no.grad(network, "reverse"), no.grad(network, "forward")

    @numba.njit
    def many(x, a, count):
        s = 0.0
        for _ in range(count):
            s += reverse(x, a)[0] + forward(x, a)[0]
        return s

    x = np.ones(4)
    many(x, SQUARE, 1000)
    before = memory()
    many(x, SQUARE, 100_000)
    assert memory() - before < 4 << 20


def test_large_runs_leave_their_memory_to_the_next_also_in_threads():
    @numba.njit
    def squares(x):
        s = 0.0
        for i in range(x.size):
            s += (x[i] - 1.0) ** 2
        return s

    df = no.grad(squares, "reverse")
    sizes = [50_000, 100_000, 30, 70_000]  # megabytes of tape, but for one
    points = [np.linspace(-1, 1, n) for n in sizes]
    for x in points * 2:
        np.testing.assert_array_equal(df(x), 2 * (x - 1))

    def work(k):
        x = points[k % 4]
        return all(np.array_equal(df(x), 2 * (x - 1)) for _ in range(25))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(16)))
    before = memory()
    for _ in range(100):
        df(points[1])
    assert memory() - before < 4 << 20


@numba.njit
def down(x, k):
    return x[0] if k == 0 else sideways(x, k - 1) * x[1]


@numba.njit
def sideways(x, k):
    return x[1] if k == 0 else down(x, k - 1) * x[0]


@numba.njit
def alone(x, k):
    return x[0] * x[1] if k == 0 else alone(x, k - 1) * x[0]


@pytest.mark.parametrize("mode", MODES)
def test_functions_that_call_themselves_at_any_depth(mode):
    both = numba.njit(lambda x: alone(x, 2) + down(x, 2))  # of a literal, then of any integer
    within = numba.njit(lambda x: both(x) * 2.0)
    x = np.array([2.0, 3.0])
    expected = np.array([3 * x[0] ** 2 * x[1] + 2 * x[0] * x[1], x[0] ** 3 + x[0] ** 2])
    for fun, factor in ((both, 1.0), (within, 2.0)):
        df = no.grad(fun, mode)
        np.testing.assert_allclose(df(x), factor * expected, rtol=1e-14)
        np.testing.assert_array_equal(numba.njit(lambda x, df=df: df(x))(x), df(x))


@numba.njit
def long_loop(x, count):
    s = 0.0
    for i in range(count):
        s += np.sin(x[i % x.size]) * s + 1e-3
    return s


def test_a_tape_that_is_too_long_is_an_error_and_forward_mode_is_not():
    x = np.linspace(-1, 0, 20)
    with pytest.raises(MemoryError, match="mode='forward'"):
        no.grad(long_loop, "reverse", tape_bytes=1 << 16)(x, 100_000)
    short = no.grad(long_loop, "reverse", tape_bytes=1 << 16)(x, 100)
    np.testing.assert_allclose(short, no.grad(long_loop, "forward")(x, 100), rtol=1e-12)
    grown = no.grad(long_loop, "reverse")(x, 100_000)  # through many sizes of the buffer
    np.testing.assert_allclose(grown, no.grad(long_loop, "forward")(x, 100_000), rtol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_infinite_slopes_that_nobody_asks_for_are_no_nan(mode):
    for fun in (numba.njit(lambda x: np.sqrt(x[0] * 0.0) + x[1]), numba.njit(lambda x: (0.0 * x[1]) ** 0.5 + x[0]),
                numba.njit(lambda x: np.sqrt(x[2:] * x[2:]).sum() + x[0]),
                numba.njit(lambda x: np.where(x > 0, np.sqrt(np.abs(x)), 0.0).sum())):  # fmt: skip
        g = no.grad(fun, mode)(np.array([1.0, 2.0]))
        assert np.all(np.isfinite(g)), g


@pytest.mark.parametrize("mode", MODES)
def test_kinks_take_the_subgradient_that_is_documented(mode):
    x = np.array([0.0, 2.0, 2.0])
    cases = [(numba.njit(lambda x: abs(x[0])), [0, 0, 0]),
             (numba.njit(lambda x: np.maximum(x[1], x[2])), [0, 0.5, 0.5]),
             (numba.njit(lambda x: np.minimum(x[1], 2.0)), [0, 0.5, 0]),
             (numba.njit(lambda x: max(x[1], x[2])), [0, 1, 0]),
             (numba.njit(lambda x: x[0] ** 0), [0, 0, 0]), (numba.njit(lambda x: x[0] ** 1), [1, 0, 0]),
             (numba.njit(lambda x: np.fmax(np.nan, x[1])), [0, 1, 0])]  # fmt: skip
    for fun, expected in cases:
        np.testing.assert_array_equal(no.grad(fun, mode)(x), expected)
    assert np.isnan(no.value_and_grad(numba.njit(lambda x: np.maximum(np.nan, x[1])), mode)(x)[0])


ISOLATED = """
import sys, numba, numpy as np
import numbaopt
assert "numbaopt.autodiff" not in sys.modules
names = set(sys.modules)
import numbaopt.autodiff
mine = {name for name in set(sys.modules) - names if name.startswith("numbaopt")}
assert all(name.startswith("numbaopt.autodiff") for name in mine), mine
import ast, pathlib
for file in pathlib.Path(numbaopt.autodiff.__file__).parent.glob("*.py"):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level < 2 and not (node.module or "").startswith("numbaopt"), (file, node.lineno)
"""

AS_BEFORE = """
import sys, numba, numpy as np
if sys.argv[1] == "with": import numbaopt.autodiff

@numba.njit
def f(x, a, n):
    y = x[1:] * 2 - a ** 2 + np.maximum(x[:-1], 0.5)
    y += np.float64(n) / np.sqrt(np.abs(x[1:]) + 1)
    s = 0.0
    for i in range(n):
        s += max(y[i % y.size], a, i) ** 2 - min(y[0], 1.0) + abs(y[1]) + np.dot(y, y) % 3
    return s + np.where(y > 0, y, 1.0).sum() + y.max() + np.linalg.norm(y) + (x < y[0]).sum() + np.float32(a)

x = np.linspace(-1, 2, 9)
print(repr(f(x, 1.5, 4)), len(f.inspect_llvm(f.signatures[0]).splitlines()), f.nopython_signatures[0])
"""


@pytest.mark.process
def test_the_package_stands_alone_and_is_imported_late():
    from process import python

    python(ISOLATED)


@pytest.mark.process
def test_numba_compiles_all_else_as_before():
    from process import python

    assert python(AS_BEFORE, "with") == python(AS_BEFORE, "without")


