"""Expressions of random programs: numbers, truth values and arrays of known shapes, of what a program has so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MATH = {"np.arcsin": "math.asin", "np.arctan": "math.atan", "np.arccos": "math.acos", "np.arcsinh": "math.asinh",
        "np.arccosh": "math.acosh", "np.arctanh": "math.atanh", "np.arctan2": "math.atan2", "np.power": "math.pow",
        "np.fabs": "math.fabs", "np.hypot": "math.hypot", "np.copysign": "math.copysign", "np.expm1": "math.expm1",
        "np.log1p": "math.log1p", "np.log2": "math.log2", "np.log10": "math.log10", "np.sqrt": "math.sqrt",
        "np.radians": "math.radians", "np.degrees": "math.degrees", "np.sin": "math.sin", "np.cos": "math.cos",
        "np.tan": "math.tan", "np.sinh": "math.sinh", "np.cosh": "math.cosh", "np.tanh": "math.tanh",
        "np.exp": "math.exp", "np.log": "math.log"}  # fmt: skip
REAL = ("np.sin", "np.cos", "np.tanh", "np.arctan", "np.arcsinh", "np.square", "np.negative", "np.abs", "np.fabs",
        "np.sinc", "np.positive", "np.radians", "np.deg2rad", "np.sign", "np.floor", "np.ceil", "np.trunc",
        "np.rint", "-", "+")  # fmt: skip
BOUNDED = ("np.exp", "np.exp2", "np.expm1", "np.sinh", "np.cosh", "np.tan", "np.arcsin", "np.arccos", "np.arctanh",
           "np.degrees", "np.rad2deg")  # fmt: skip
POSITIVE = ("np.sqrt", "np.cbrt", "np.log", "np.log2", "np.log10", "np.log1p", "np.reciprocal", "np.arccosh")
PAIRS = ("np.add", "np.subtract", "np.multiply", "np.maximum", "np.minimum", "np.fmax", "np.fmin", "np.copysign",
         "np.logaddexp", "np.logaddexp2")  # fmt: skip
PAIRS_POSITIVE = ("np.true_divide", "np.arctan2", "np.hypot", "np.remainder", "np.fmod", "np.floor_divide")


class Expressions:
    """Writes expressions, one random choice after the other; ``choose(n)`` draws from 0 to n - 1, 0 being simplest.

    Methods that end in an array take its shape.  ``numbers`` and ``arrays`` are names of what has derivatives;
    all else is data: the matrix M, the vectors c (float64), b (float32) and k (integers), the named tuple ``table``,
    numbers n and q, and an array among the globals.
    """

    def __init__(self, choose: Callable[[int], int]):
        self.choose = choose
        self.size = (3, 4, 5, 9, 17)[choose(5)]  # one chunk of directions, several; on the stack, elsewhere
        self.numbers: list[str] = []
        self.arrays: dict[str, tuple[int, ...]] = {}
        self.indices: dict[str, int] = {}  # loop variables and their bounds
        self.count = 0

    def one_of(self, *options: Any) -> Any:
        """One of the options; functions are called."""
        found = options[self.choose(len(options))]
        return found() if callable(found) else found

    def name(self, letter: str) -> str:
        """A fresh name."""
        self.count += 1
        return f"{letter}{self.count}"

    # ------------------------------------------------------------------------------------------ scalars
    def index(self, m: int) -> str:
        """An index into ``m`` items."""
        return self.one_of(
            str(self.choose(m)), "-1", f"-{1 + self.choose(m)}", f"k[{self.choose(3)}] % {m}", f"n % {m}",
            *(name for name, bound in self.indices.items() if bound <= m),
            *(f"{name} - 1" for name, bound in self.indices.items() if bound <= m),
            lambda: f"int(abs({self.number(2)}) * 3.0) % {m}", lambda: f"np.argmax({self.array((m,), 2)})",
        )  # fmt: skip

    def constant(self) -> str:
        """A number without derivative, float or integer."""
        return self.one_of("0.7", "2", "q", "n", "c[1]", "k[1]", "table.offset", "table.weights[2]", "GLOBAL[1]",
                           "M[0, 1]", "c.sum()", "np.pi", "np.float64(b[1])", *self.indices)  # fmt: skip

    def any_number(self, depth: int) -> str:
        """A number with or without derivative."""
        return self.constant() if self.choose(4) == 1 else self.number(depth)

    def number(self, depth: int = 0) -> str:
        """A scalar expression with derivatives."""
        if depth >= 2 or self.choose(3) == 0:
            return self.one_of("x[0]", *self.numbers, f"x[{self.choose(self.size)}]", self.item)
        a = self.number(depth + 1)
        b = self.any_number(depth + 1)
        return self.one_of(
            lambda: f"{a} * {b}", lambda: f"({a} + {b})", lambda: f"({b} - {a})", lambda: f"{b} / (1.2 + np.sin({a}))",
            lambda: f"{a} / {self.positive(b)}", lambda: f"({a}) ** {self.one_of('2', '3', '2.0', '0', '1')}",
            lambda: f"{self.positive(a)} ** {self.one_of('-1', '-2', '0.5', '-1.5', b)}",
            lambda: f"{self.positive(b)} ** {a}",
            lambda: self.unary(a, True), lambda: self.unary(a, True), lambda: self.binary(a, b, True),
            lambda: f"{self.one_of('max', 'min')}({a}, {b})", lambda: f"max({a}, {b}, x[1])", lambda: f"abs({a})",
            lambda: f"({a} if {self.condition(1)} else {b})", lambda: f"inner({a}, {b})", lambda: f"outer({a})",
            lambda: f"inlined({a}, {b})", lambda: f"apply(doubled, {a})", lambda: f"outer({b}, b={a})",
            lambda: f"summed({a}, {b}, x[0])", lambda: f"pow({self.positive(a)}, {b})", lambda: f"np.float64({a})",
            lambda: f"float({a})", lambda: f"({a} > {b}) * {a}", lambda: f"({a}) % 0.7", lambda: f"({a}) // 0.7 * {a}",
            lambda: f"int({a} * 2.0) * {b}" if "x" in b else a, lambda: f"round({a}) * x[0]",
            lambda: f"math.floor({a}) * x[0]",
            lambda: f"(lambda z: z * {b})({a})",
            self.reduction, self.reduction, self.item,
        )  # fmt: skip

    def sine(self, a: str) -> str:
        """Of data in single precision, of which compiled code and NumPy find other last bits, others stand in."""
        return f"np.sin({a.replace('b[:', 'c[:')})"

    def positive(self, a: str) -> str:
        """The expression between 0.2 and 2.2."""
        return f"(1.2 + {self.sine(a)})"

    def unary(self, a: str, scalar: bool = False) -> str:
        """A function of one argument."""
        function, a = self.one_of(lambda: (self.one_of(*REAL), a), lambda: (self.one_of(*BOUNDED),
        f"0.9 * np.sin({a})"),
                                  lambda: (self.one_of(*POSITIVE),
                                  f"{'1.0 + ' * scalar}{self.positive(a)}"))  # fmt: skip
        if function == "np.arccosh":
            a = f"1.1 + {a}"
        return f"{self.spelled(function, scalar)}({a})"

    def binary(self, a: str, b: str, scalar: bool = False) -> str:
        """A function of two arguments."""
        if self.choose(2):
            return f"{self.spelled(self.one_of(*PAIRS), scalar)}({a}, {b})"
        if self.choose(4) == 3:
            return f"{self.spelled('np.power', scalar)}({self.positive(a)}, {b})"
        return f"{self.spelled(self.one_of(*PAIRS_POSITIVE), scalar)}({a}, {self.positive(b)})"

    def spelled(self, function: str, scalar: bool) -> str:
        """A function by NumPy's name or, of scalars, that of ``math``."""
        return MATH[function] if scalar and function in MATH and self.choose(2) else function

    def item(self) -> str:
        """One item of an array."""
        name = self.one_of("x", *self.arrays)
        shape = self.arrays.get(name, (self.size,))
        return f"{name}[{', '.join(map(self.index, shape))}]"

    def condition(self, depth: int = 0) -> str:
        """What is true or not."""
        a, b = self.number(depth + 1), self.any_number(2)
        plain = f"{a} {self.one_of('>', '<', '>=', '<=', '!=')} {b}"
        if depth:
            return plain
        return self.one_of(plain, "n > 2", lambda: f"0.1 < {a} < 0.9", lambda: f"not {plain}",
                           lambda: f"{plain} and {a} > 0.3",
                           lambda: f"{plain} or q > {b}", lambda: f"np.any({self.array((self.size,), 2)} > {b})",
                           lambda: f"np.isfinite({a})")  # fmt: skip

    def vector(self, depth: int = 1) -> str:
        """A vector of whatever length is there."""
        return self.array((self.one_of(self.size, 2, self.size - 1),), depth)

    def reduction(self) -> str:
        """A number from arrays."""
        m = self.one_of(self.size, 2, 3)
        u, v = self.array((m,), 1), self.array((m,), 2)
        shape = self.one_of((2, 2), (2, self.size), (self.size, self.size))
        square = f"({self.array((2, 2), 1)} + 3.0 * np.eye(2))"
        return self.one_of(
            lambda: f"np.sum({u})", lambda: f"({u}).sum()", lambda: f"np.dot({u}, {v})",
            lambda: f"({u}) @ {self.any_array((m,), 2)}",
            lambda: f"({v}).dot({u})", lambda: f"np.vdot({u}, {v})", lambda: f"np.mean({u})", lambda: f"np.max({u})",
            lambda: f"({u}).min()", lambda: f"np.prod(np.tanh({u}))", lambda: f"({u}).var()",
            lambda: f"np.std({u} + x[0] * np.arange({m}))",
            lambda: f"sum({u})", lambda: f"np.linalg.norm({u})", lambda: f"two({u}, {self.number(2)})[0]",
            lambda: f"fold({u}, {m - 1})",
            lambda: f"early({u}, {self.number(2)})", lambda: f"fast({u})", lambda: f"({u})[{v} > 0.1].sum()",
            lambda: f"np.sum({self.array(shape, 1)})", lambda: f"np.mean({self.array(shape, 1)})",
            lambda: f"np.max({self.array(shape, 1)})",
            lambda: f"np.trace({self.array(shape, 1)})", lambda: f"np.linalg.det({square})",
            lambda: f"np.linalg.slogdet({square})[1]",
            lambda: f"np.linalg.norm({self.array(shape, 1)})", lambda: f"len({u}) * {self.number(2)}",
            lambda: f"({u}).size * {self.number(2)}",
            lambda: f"np.cumprod(np.tanh({u}))[-1]", lambda: f"sum([z * z for z in {u}])", lambda: f"sum(squares({u}))",
            lambda: f"({self.array(shape, 1)}).T[1, 0]", lambda: f"Pair({self.number(2)}, {u}).vector[0]",
            lambda: f"({u})[np.argsort({v})][0]",
            lambda: f"np.interp({self.number(2)}, np.linspace(-3.0, 3.0, 20), GLOBAL)",
            lambda: f"max(({self.number(2)}, {self.number(2)}))",
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------- arrays
    def any_array(self, shape: tuple[int, ...], depth: int) -> str:
        """An array with or without derivatives."""
        if self.choose(3) != 1:
            return self.array(shape, depth)
        if len(shape) == 2:
            r, c = shape
            return self.one_of(f"M[:{r}, :{c}]", f"M.T[:{r}, :{c}]", f"M[::-1][:{r}, :{c}]",
                               f"np.ones(({r}, {c}))", f"np.eye({r}, {c})")
        m = shape[0]
        return self.one_of(f"c[:{m}]", f"k[:{m}]", f"b[:{m}]", f"np.ones({m})", f"np.arange({m})", f"M[0, :{m}]",
                           f"M[:{m}, 1]",
                           f"GLOBAL[:{m}]", f"c[::-1][:{m}]", f"np.linspace(0.0, 1.0, {m})", f"(c[:{m}] > 0.0)",
                           *([f"table.weights[:{m}]"] if m <= 3 else []))  # fmt: skip

    def mask(self, shape: tuple[int, ...]) -> str:
        """An array of truth values."""
        a = f"{self.array(shape, 2)} > {self.one_of('0.1', 'x[0]')}"
        return self.one_of(a, f"~({a})", lambda: f"({a}) & ({self.array(shape, 2)} < 1.0)",
                           lambda: f"{self.any_array(shape, 2)} < 0.4")

    def array(self, shape: tuple[int, ...], depth: int = 0) -> str:
        """An expression with derivatives of an array."""
        if depth >= 2 or self.choose(3) == 0:
            return self.leaf(shape)
        a = self.array(shape, depth + 1)
        b = self.one_of(lambda: self.any_array(shape, depth + 1), lambda: self.any_number(2))
        same = [
            lambda: f"{a} * {b}", lambda: f"({a} + {b})", lambda: f"({b} - {a})", lambda: f"({a}) / {self.positive(b)}",
            lambda: f"({a}) ** {self.one_of('2', '3', '2.0')}", lambda: self.unary(a), lambda: self.unary(a),
            lambda: self.binary(a, b),
            lambda: f"np.where({self.mask(shape)}, {a}, {b})", lambda: f"np.clip({a}, -0.5, 0.7)",
            lambda: f"({a}).copy()",
            lambda: f"either({self.condition(1)}, {a}, {self.array(shape, 2)})", lambda: f"({a}).astype(np.float64)",
        ]  # fmt: skip
        return self.one_of(*same, *(self.of_vectors(shape[0], a) if len(shape) == 1 else self.of_matrices(*shape, a)))

    def leaf(self, shape: tuple[int, ...]) -> str:
        """An array that is there, part of one, or one made of a number."""
        found = [name for name, other in self.arrays.items() if other == shape]
        if len(shape) == 1:
            m = shape[0]
            for name, other in (("x", (self.size,)), *self.arrays.items()):
                if len(other) == 1 and other[0] == m:
                    found += [name, f"{name}[::-1]"]
                elif len(other) == 1 and other[0] > m:
                    found += [f"{name}[:{m}]", f"{name}[-{m}:]", f"{name}[{other[0] - m}:]"]
                    if other[0] >= 2 * m:
                        found += [f"{name}[::2][:{m}]"]
                elif len(other) == 2 and other[1] == m:
                    found += [f"{name}[{self.choose(other[0])}]", f"{name}[-1, ::-1]"]
                elif len(other) == 2 and other[0] == m:
                    found += [f"{name}[:, {self.choose(other[1])}]"]
        else:
            r, c = shape
            found += [f"{name}.T" for name, other in self.arrays.items() if other == (c, r)]
            found += [f"{name}[:{r}, -{c}:]" for name, other in self.arrays.items() if len(other) == 2]
            found = [f for f in found if self.fits(f, shape)]
            if r * c <= self.size:
                found.append(f"x[:{r * c}].reshape(({r}, {c}))")
        return self.one_of(*found, lambda: self.made(shape))

    def fits(self, code: str, shape: tuple[int, ...]) -> bool:
        """Whether the array that a slice is of has enough columns."""
        other = self.arrays.get(code.partition("[")[0])
        return other is None or (len(other) == 2 and other[0] >= shape[0] and other[1] >= shape[1])

    def made(self, shape: tuple[int, ...]) -> str:
        """An array from numbers."""
        s = self.number(2)
        more = [lambda: f"np.array([{', '.join(self.number(2) for _ in range(shape[0]))}])",
                lambda: f"np.array([z * {s} for z in range({shape[0]})])"] if len(shape) == 1 else [
                    lambda: f"np.outer({self.array((shape[0],), 2)}, {self.any_array((shape[1],), 2)})",
                    lambda: f"M[:{shape[0]}, :{shape[1]}] * {self.array((shape[1],), 2)}"]  # fmt: skip
        of = shape[0] if len(shape) == 1 else shape
        return self.one_of(*more, f"np.full({of}, {s})", f"np.ones({of}) * {s}", f"(np.zeros({of}) + {s})")

    def of_vectors(self, m: int, a: str) -> list[Any]:
        """Vectors of ``m`` items from others and from matrices."""
        n = self.size
        v = lambda k: self.array((k,), 2)  # noqa: E731
        return [
            lambda: f"M[:{m}, :] @ {v(n)}", lambda: f"{v(n)} @ M[:, :{m}]", lambda: f"M.T[:{m}, :] @ ({v(n)})",
            lambda: f"np.dot({self.array((m, 2), 2)}, {self.any_array((2,), 2)})",
            lambda: f"({v(2)}) @ {self.array((2, m), 2)}",
            lambda: f"M[:{m}, :{m}] @ ({a})", lambda: f"over({a}, {self.number(2)})", lambda: f"({a})[::-1]",
            lambda: f"np.roll({a}, 1)",
            lambda: f"np.cumsum({a})", lambda: f"np.cumprod(np.tanh({a}))", lambda: f"np.sort({a})",
            lambda: f"({a})[np.argsort({v(m)})]",
            lambda: f"np.concatenate(({v(m - 1)}, {v(1)}))", lambda: f"np.hstack(({v(1)}, {v(m - 1)}))",
            lambda: f"np.append({v(m - 1)}, {self.number(2)})",
            lambda: f"np.diff({v(m + 1)})", lambda: f"np.sum({self.array((m, 2), 1)}, axis=1)",
            lambda: f"({self.array((2, m), 1)}).sum(axis=0)",
            lambda: f"({self.array((2, m), 1)}).mean(0)", lambda: f"np.diag({self.array((m, m), 2)})",
            lambda: f"({a})[k[:{m}] % {m}]",
            lambda: f"np.linalg.solve({self.array((m, m), 2)} * 0.1 + 5.0 * np.eye({m}), {v(m)})",
            lambda: f"tail({v(m + 1)})",
            lambda: f"changed(({a}).copy(), {self.number(2)})", lambda: f"two({a}, {self.number(2)})[1]",
            lambda: f"np.flip({a})",
            lambda: f"np.repeat({v(1)}, {m})", lambda: f"np.take({v(n)}, k[:{m}] % {n})",
            lambda: f"({self.array((1, m), 2)}).ravel()",
            lambda: f"({self.array((m, 1), 2)}).flatten()", lambda: f"np.array([z * 0.5 for z in {a}])",
            lambda: f"np.asarray({a})",
            lambda: f"np.ascontiguousarray(({a})[::-1])",
            lambda: f"np.convolve({v(m + 1)}, np.array([0.5, -1.0]))[1:-1]",
            lambda: f"np.dot(np.outer({a}, {a}), c[:{m}])", lambda: f"np.delete({v(m + 1)}, {self.choose(m)})",
            lambda: f"np.array((x[0], 1.0, {self.number(2)}))" if m == 3 else a,
            lambda: f"np.zeros_like({a}) + {self.number(2)}",
            lambda: f"np.triu({self.array((m, m), 2)})[0]", lambda: f"np.kron({v(1)} * 1.0, {v(m)} * 1.0)",
            lambda: f"np.full_like({a}, {self.number(2)})",
        ]  # fmt: skip

    def of_matrices(self, r: int, c: int, a: str) -> list[Any]:
        """Matrices from others and from vectors."""
        v = lambda k: self.array((k,), 2)  # noqa: E731
        w = lambda *shape: self.any_array(shape, 2)  # noqa: E731
        square = [lambda: f"np.linalg.inv({a} * 0.1 + 4.0 * np.eye({r}))", lambda: f"np.diag({v(r)})",
                  lambda: f"np.linalg.cholesky({a} @ ({a}).T + 2.0 * np.eye({r}))"] if r == c else []  # fmt: skip
        stacked = [lambda: f"np.vstack(({v(c)}, {v(c)}))", lambda: f"np.stack(({v(c)}, {v(c)}))"] if r == 2 else []
        beside = [lambda: f"np.column_stack(({v(r)}, {v(r)}))"] if c == 2 else []
        return [
            lambda: f"({a}) * {v(c)}", lambda: f"({a}) + ({v(r)})[:, None]",
            lambda: f"({a}) - np.expand_dims({v(r)}, 1)",
            lambda: f"{self.array((r, 2), 2)} @ {w(2, c)}", lambda: f"M[:{r}, :] @ {self.array((self.size, c), 2)}",
            lambda: f"{w(r, 3)} @ {self.array((3, c), 2)}", lambda: f"({self.array((c, r), 2)}).T",
            lambda: f"np.outer({v(r)}, {v(c)})",
            lambda: f"np.dot({self.array((r, c), 2)}, M[:{c}, :{c}])", lambda: f"({a})[::-1]",
            lambda: f"({a})[:, ::-1]",
            lambda: f"np.transpose({self.array((c, r), 2)})", lambda: f"np.tril({a})", lambda: f"np.triu({a}, 1)",
            lambda: f"np.concatenate(({self.array((1, c), 2)}, {self.array((r - 1, c), 2)}))" if r > 1 else a,
            lambda: f"np.linalg.solve(M[:{r}, :{r}] * 0.1 + 3.0 * np.eye({r}), {self.array((r, c), 2)})",
            lambda: f"np.ascontiguousarray(({self.array((c, r), 2)}).T)",
            lambda: f"np.array([[{self.number(2)} * i + j for j in range({c})] for i in range({r})])",
            lambda: f"({v(r * c)}).reshape(({r}, {c}))" if r * c <= self.size else a, *square, *stacked, *beside,
        ]  # fmt: skip
