"""Random differentiable programs: short ones, each with one or two things at once that derivatives must come through.

``python -m tests.random_programs COUNT [FIRST_SEED]`` compares both modes with differences in long double
(`long_double`) for that many programs.  One that fails is told with its seed, and made as small as it fails still;
what is refused is counted by its reason.  ``NUMBA_OPT=0`` in the environment compiles a third faster, and other code.
"""

from __future__ import annotations

import collections
import math
import random
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

try:
    from tests import long_double, twins
    from tests.random_helpers import HELPERS
    from tests.random_statements import Statements
except ImportError:  # pytest puts this folder on the path
    import long_double  # type: ignore[no-redef]
    import twins  # type: ignore[no-redef]
    from random_helpers import HELPERS  # type: ignore[no-redef]
    from random_statements import Statements  # type: ignore[no-redef]

from numbaopt.autodiff import UnsupportedError

Table = collections.namedtuple("Table", "weights offset")


def namespace(**modules: Any) -> dict[str, Any]:
    """What programs refer to, the helpers defined among these modules."""
    space: dict[str, Any] = {"collections": collections, "__name__": __name__, **modules}  # recursion needs a real name
    exec(compile(HELPERS, "<helpers>", "exec"), space)
    return space


def _identity(function: Any = None, **options: Any) -> Any:
    return function or _identity


COMPILED = namespace(np=np, math=math, numba=numba)
_PLAIN = types.SimpleNamespace(njit=_identity)
INTERPRETED = namespace(np=long_double.numpy(), math=long_double.math(), float=long_double.LONG, numba=_PLAIN)
ROUNDED = namespace(np=long_double.jittered(), math=math, numba=_PLAIN)


class Verdict(NamedTuple):
    """How a program came out."""

    kind: str  # "agree", "kink" (differences say nothing), "refused", "invalid", "numba" (not as NumPy), or "wrong"
    told: str


def define(source: str, space: dict[str, Any]) -> Any:
    """The function of a program."""
    space = dict(space)
    exec(compile(source, "<program>", "exec"), space)
    return space["fun"]


def arguments(size: int, seed: int) -> tuple[Any, ...]:
    """The unknowns and the data of a program."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(size), rng.standard_normal((size, size)), rng.standard_normal(size),
            rng.integers(0, 20, size), rng.standard_normal(size).astype(np.float32),
            Table(rng.standard_normal(3), 0.35), 3, 0.25)  # fmt: skip


def judge(source: str, size: int, seed: int) -> Verdict:
    """Compare both modes with differences."""
    x, *args = arguments(size, seed)
    plain = define(source, INTERPRETED)

    def raised(a: Any) -> Any:
        if isinstance(a, Table):
            return Table(*map(raised, a))
        return a.astype(long_double.LONG) if isinstance(a, np.ndarray) and a.dtype == np.float64 else a

    try:
        with np.errstate(all="ignore"):
            known = long_double.slopes(lambda x: plain(x, *map(raised, args)), x)
    except ValueError as error:  # NumPy asks more of ``out`` than Numba
        return Verdict("invalid", str(error))
    found: dict[str, Any] = {}
    fun = define(source, COMPILED)
    try:
        for mode in twins.NUMBERS:
            found[mode] = twins.value_and_gradient(fun, mode, x.copy(), tuple(args))
    except UnsupportedError as error:
        try:
            fun(x.copy(), *args)
        except numba.core.errors.NumbaError:
            return Verdict("invalid", "not compiled by Numba")
        return Verdict("refused", str(error).splitlines()[0])
    except Exception as error:  # NumPy ran it
        return Verdict("wrong", repr(error))
    tolerance = 1e-10 * known.scale
    for mode, (value, _) in found.items():
        if not abs(value - known.value) <= tolerance and np.isfinite(known.value):
            try:
                alone = fun(x.copy(), *args)
            except numba.core.errors.NumbaError:  # which of them both differs from NumPy cannot be told
                return Verdict("invalid", "not compiled by Numba")
            if abs(alone - value) <= tolerance or alone != alone:
                return Verdict("numba", f"{known.value} by NumPy, {alone} by Numba")
            again = [define(source, ROUNDED)(x.copy(), *args) for _ in range(10)]
            if not np.ptp([*again, known.value]) <= tolerance:
                return Verdict("kink", "rounding decides, such as which of equal numbers is the largest")
            return Verdict("wrong", f"{mode} finds {value}, not {known.value}; compiled {alone}")
    if not known.error < 1e-11 or known.scale > 1e6:
        return Verdict("kink", "")
    for mode, (_, gradient) in found.items():
        off = float(np.abs(gradient - known.gradient).max())
        if not off <= tolerance + 10 * known.error * known.scale:
            return Verdict("wrong", f"{mode} finds {gradient}, not {known.gradient}: off by {off:.1e}")
    return Verdict("agree", "")


def program(choose: Callable[[int], int]) -> tuple[str, int]:
    """The source of a random program, and its number of unknowns."""
    writer = Statements(choose)
    return writer.program(), writer.size


class Draws:
    """Choices from a seed that are remembered, or given ones, then 0."""

    def __init__(self, seed: int = 0, given: list[int] | None = None):
        self.random, self.given, self.made = random.Random(seed), given, []

    def __call__(self, n: int) -> int:
        if self.given is None:
            drawn = self.random.randrange(n)
        else:
            drawn = self.given[len(self.made)] % n if len(self.made) < len(self.given) else 0
        self.made.append(drawn)
        return drawn


def smallest(draws: list[int], fails: Callable[[list[int]], bool]) -> list[int]:
    """Draws of a program that still fails when no run of them can be left out or set to 0."""
    length = len(draws)
    while length:
        start = 0
        while start < len(draws):
            before, after = draws[:start], draws[start + length :]
            zeroed = before + [0] * (len(draws) - len(before) - len(after)) + after
            draws, last = next((c for c in (before + after, zeroed) if c != draws and fails(c)), draws), draws
            start += length if draws is last or len(draws) == len(last) else 0
        length //= 2
    return draws


def tried(seed: int) -> Verdict:
    """The verdict on the program of a seed; of one that is wrong, its smallest relative and the verdict on that."""
    draws = Draws(seed)
    verdict = judge(*program(draws), seed)
    if verdict.kind != "wrong":
        return verdict
    found = smallest(draws.made, lambda given: judge(*program(Draws(given=given)), seed).kind == "wrong")
    source, size = program(Draws(given=found))
    return Verdict("wrong", f"seed {seed}: {judge(source, size, seed).told}\n{source}")


def main(count: int, first: int = 0) -> None:
    """Judge ``count`` programs, tell those that are wrong, count the others and the reasons for refusals."""
    warnings.simplefilter("ignore")
    kinds: collections.Counter[str] = collections.Counter()
    refused = collections.defaultdict(list)
    for seed in range(first, first + count):
        verdict = tried(seed)
        kinds[verdict.kind] += 1
        if verdict.kind == "refused":
            refused[verdict.told].append(seed)
        elif verdict.kind == "wrong":
            print(verdict.told, flush=True)
        if (seed - first) % 100 == 99:
            print(f"{seed - first + 1} programs so far: {dict(kinds)}", file=sys.stderr, flush=True)
    print(f"{count} programs from seed {first}: {dict(kinds)}")
    for reason, seeds in sorted(refused.items()):
        print(f"{len(seeds):5d} such as seed {seeds[0]}: {reason}")
    sys.exit(bool(kinds["wrong"]))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
