"""Random differentiable programs: scalars, arrays, loops, branches, slices, temporaries, helpers, products.

``python -m tests.random_programs COUNT [FIRST_SEED]`` compares that many with differences, in both modes.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

SIZE = 4  # of x and of every vector
HEAD = """
@numba.njit
def inner(a, b):
    return a * np.cos(b) - b / (2.0 + a * a)

@numba.njit
def over(u, s):
    made = np.empty(u.size)
    for i in range(u.size):
        made[i] = np.tanh(u[i] * s) + 0.1 * u[i - 1]
    return made

@numba.njit
def fun(x, M, c):
    s, t = x[0], 0.0 * x[1] + c[1]
    u, v = x.copy(), x * c
"""


class Writer:
    """Writes a program, one random choice after the other; ``choose(n)`` draws from 0 to n - 1."""

    def __init__(self, choose: Callable[[int], int]):
        self.choose = choose

    def one_of(self, *options: Any) -> Any:
        """One of the options; functions are called."""
        found = options[self.choose(len(options))]
        return found() if callable(found) else found

    def number(self, depth: int = 0, item: str = "") -> str:
        """A scalar expression; inside loops also with items of arrays."""
        leaves = ["s", "t", "x[1]", "x[-1]", "c[2]", "0.7", *([f"{a}[{item}]" for a in "xuvc"] if item else ())]
        if depth >= 3 or self.choose(4) == 0:
            return self.one_of(*leaves)
        a, b = self.number(depth + 1, item), self.number(depth + 1, item)
        return self.one_of(
            f"({a} + {b})", f"({a} - {b})", f"{a} * {b}", f"{a} / (1.5 + {b} * {b})", f"np.sin({a})", f"np.tanh({a})",
            f"np.sqrt(1.0 + {a} * {a})", f"np.exp(np.tanh({a}))", f"np.log(2.0 + np.cos({a}))", f"inner({a}, {b})",
            f"({a}) ** 2", f"(1.5 + np.sin({a})) ** np.tanh({b})", f"np.arctan2({a}, 2.0 + {b} * {b})", f"-{a}",
            f"abs({a})", f"max({a}, {b})", f"np.minimum({a}, {b})", f"({a} if {b} > 0.1 else {b})",
        )  # fmt: skip

    def vector(self, depth: int = 0) -> str:
        """An expression of vectors."""
        if depth >= 2 or self.choose(4) == 0:
            return self.one_of("x", "u", "v", "c", "u[::-1]", "np.roll(v, 1)", "np.ones(4)")
        a, b, s = self.vector(depth + 1), self.vector(depth + 1), self.number(2)
        return self.one_of(
            f"({a} + {b})", f"{a} * {b}", f"({a} - {s})", f"np.sin({a})", f"np.tanh({a}) * {s}", f"M @ ({a})",
            f"({a}) @ M.T", f"over({a}, {s})", f"np.where({a} > 0.2, {b}, {a})", f"np.maximum({a}, {b})",
            f"({a}) / (1.0 + ({b}) ** 2)", f"np.outer({a}, {b})[1]", f"np.cumsum({a})", f"(np.outer({a}, {b}) @ {a})",
        )  # fmt: skip

    def reduction(self) -> str:
        """A number from vectors."""
        a, b = self.vector(1), self.vector(1)
        return self.one_of(f"np.sum({a})", f"np.dot({a}, {b})", f"np.mean({a})", f"np.max({a})", f"({a}).var()",
                           f"np.sqrt(1.0 + np.sum(({a}) ** 2))", f"np.prod(np.tanh({a}))")  # fmt: skip

    def statements(self, indent: str, depth: int = 0) -> list[str]:
        """Some lines."""
        lines = []
        for _ in range(2 + self.choose(3)):
            kind = self.choose(9 if depth < 2 else 6)
            if kind == 0:
                lines.append(f"{self.one_of('s', 't')} = {self.number()}")
            elif kind == 1:
                lines.append(f"{self.one_of('u', 'v')} = {self.vector()} + 0.0 * x")  # never of data alone: see below
            elif kind == 2:
                lines.append(f"{self.one_of('s', 't')} = np.tanh({self.reduction()})")
            elif kind == 3:
                lines.append(f"{self.one_of('u', 'v')}[{self.one_of('0', '1:', ':-1', '::2')}] = {self.number(1)}")
            elif kind == 4:
                lines.append(f"{self.one_of('s', 't')} {self.one_of('+=', '-=', '*=')} np.sin({self.number(1)})")
            elif kind == 5:
                target = self.one_of("u", "v")
                # an array that is made of data alone cannot take derivatives in place, and is refused
                lines += [f"{target} = {target} * 1.0", f"{target} {self.one_of('+=', '*=', '-=')} {self.vector(1)}"]
            elif kind == 6:
                lines += ["w = np.zeros(4)", "for i in range(4):",
                          f"    w[i] = {self.number(0, 'i')}",
                          f"    {self.one_of('s', 't')} += 0.3 * np.tanh({self.number(1, 'i')})",
                          f"{self.one_of('u', 'v')} = {self.one_of('w', 'w * x', 'w - u')}"]  # fmt: skip
            elif kind == 7:
                lines.append(f"if {self.number(1)} > {self.one_of('0.3', 't', 'x[2]')}:")
                lines += self.statements("    ", depth + 1)
                lines.append("else:")
                lines += self.statements("    ", depth + 1)
            else:
                lines += [f"r = 1.0 + np.tanh({self.number(1)}) ** 2", "k = 0", "while k < 4:",
                          "    r = 0.5 * (r + (1.5 + s * s) / r)", "    k += 1", "t = np.tanh(r)"]  # fmt: skip
        return [indent + line for line in lines]


def program(choose: Callable[[int], int]) -> tuple[str, Any]:
    """The source of a random program, and the jitted function."""
    writer = Writer(choose)
    lines = writer.statements("    ")
    source = HEAD + "\n".join([*lines, f"    return s + np.sin(t) + {writer.reduction()} + {writer.reduction()}"])
    space: dict[str, Any] = {"np": np, "numba": numba, "__name__": __name__}
    exec(source, space)
    return source, space["fun"]


def compare(source: str, fun: Any, seed: int) -> float | None:
    """The largest relative error of both modes against differences; None where differences say nothing."""
    from numbaopt import autodiff

    rng = np.random.default_rng(seed)
    x, args = rng.standard_normal(SIZE), (rng.standard_normal((SIZE, SIZE)), rng.standard_normal(SIZE))
    value = fun(x.copy(), *args)
    differences = [np.array([_slope(fun, x, i, h, args) for i in range(SIZE)]) for h in (1e-4, 3e-5)]
    scale = 1.0 + np.abs(differences[0]).max()
    worst = 0.0
    gradients = []
    for mode in ("forward", "reverse"):
        found, g = autodiff.value_and_grad(fun, mode)(x, *args)
        assert abs(found - value) <= 1e-12 * (1 + abs(value)), f"{mode} finds {found} for {value}\n{source}"
        gradients.append(g)
    apart = np.abs(gradients[0] - gradients[1]).max() / scale
    assert apart < 1e-10, f"modes differ by {apart}: {gradients}\n{source}"
    if not (np.isfinite(scale) and np.abs(differences[0] - differences[1]).max() < 1e-6 * scale):
        return None  # a kink nearby
    worst = max(worst, np.abs(gradients[0] - differences[1]).max() / scale)
    assert worst < 1e-5, f"off by {worst}: {gradients[0]}, differences {differences[1]}\n{source}"
    return worst


def _slope(fun: Any, x: np.ndarray, i: int, h: float, args: Any) -> float:
    def central(h: float) -> float:
        ahead, behind = x.copy(), x.copy()
        ahead[i] += h
        behind[i] -= h
        return (fun(ahead, *args) - fun(behind, *args)) / (2 * h)

    return (4 * central(h / 2) - central(h)) / 3


def main(count: int, first: int = 0) -> None:
    """Compare ``count`` programs; an assertion shows the program that fails."""
    told = 0
    for seed in range(first, first + count):
        found = compare(*program(random.Random(seed).randrange), seed)
        told += found is not None
    print(f"{count} programs from seed {first}: both modes agree in all, with differences in all {told} without a kink")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
