"""Statements of random programs, each with something that derivatives must come through: views, loops, buffers, ..."""

from __future__ import annotations

from typing import Any

try:
    from tests.random_expressions import Expressions
except ImportError:  # pytest puts this folder on the path
    from random_expressions import Expressions  # type: ignore[no-redef]

IN_PLACE = ("+=", "-=", "*=")


class Statements(Expressions):
    """Statements from expressions."""

    def block(self, indent: str, count: int, depth: int) -> list[str]:
        """Some statements of which nothing new is seen outside."""
        numbers, arrays = list(self.numbers), dict(self.arrays)
        lines = [line for _ in range(count) for line in self.statement(depth)]
        self.numbers, self.arrays = numbers, arrays
        return [indent + line for line in lines]

    def statement(self, depth: int = 0) -> list[str]:
        """Some lines that belong together."""
        simple = [self.new_number, self.new_array, self.new_matrix, self.write_items, self.write_slice,
        self.in_place, self.view,
                  self.set_number]  # fmt: skip
        if depth >= 2:
            return self.one_of(*simple)
        return self.one_of(*simple, self.view, self.view, self.overlap, self.swap, self.ufunc_out, self.helper,
                           self.containers, self.branch,
                           self.branch, lambda: self.loop(depth), lambda: self.loop(depth), self.while_loop,
                           self.filled, self.reused,
                           self.early_return, self.caught, self.closure, self.masked)  # fmt: skip

    # ---------------------------------------------------------------------------------------- one line
    def new_number(self) -> list[str]:
        code, name = self.number(), self.name("s")
        self.numbers.append(name)
        return [f"{name} = {code}"]

    def set_number(self) -> list[str]:
        if not self.numbers:
            return self.new_number()
        name = self.one_of(*self.numbers)
        return [f"{name} {self.one_of('=', *IN_PLACE)} {self.number(1)}"]

    def new_array(self, shape: Any = None) -> list[str]:
        shape = shape or (self.one_of(self.size, 2, 3),)
        code, name = self.array(shape, self.choose(2)), self.name("u")
        self.arrays[name] = shape
        if code.startswith("changed") or not code.endswith(")"):
            code = f"({code}).copy()"  # no view of what somebody looks at: see `view`
        return [f"{name} = {code}"]

    def new_matrix(self) -> list[str]:
        return self.new_array(self.one_of((2, 2), (2, self.size), (self.size, 2), (self.size, self.size)))

    def some_array(self) -> tuple[list[str], str, tuple[int, ...]]:
        """An array to write to, and lines that make it where there was none."""
        lines = [] if self.arrays and self.choose(4) else self.new_array()
        name = self.one_of(*self.arrays) if not lines else list(self.arrays)[-1]
        return lines, name, self.arrays[name]

    def view(self) -> list[str]:
        """Another name for (part of) an array."""
        lines, name, shape = self.some_array()
        if len(shape) == 1:
            m = shape[0]
            half = (m + 1) // 2
            options = [("", (m,)), ("[::-1]", (m,)), ("[1:]", (m - 1,)), ("[:-1]", (m - 1,)), ("[::2]", (half,)),
                       (f"[:{m}].reshape((1, {m}))", (1, m)), ("[None, :]", (1, m)), ("[:]", (m,)),
                       ("[-2::-1]", (m - 1,))]  # fmt: skip
        else:
            r, c = shape
            options = [("", shape), (".T", (c, r)), ("[0]", (c,)), ("[:, -1]", (r,)), ("[:, ::-1]", shape),
                       ("[:1]", (1, c)), ("[:, 1:]", (r, c - 1)), ("[-1, ::2]", ((c + 1) // 2,))]  # fmt: skip
        code, seen = self.one_of(*[o for o in options if all(o[1])])
        made = self.name("w")
        self.arrays[made] = seen
        return [*lines, f"{made} = {name}{code}", *self.one_of([], lambda: self.write_to(made),
                lambda: self.write_to(name))]

    def write_items(self) -> list[str]:
        lines, name, shape = self.some_array()
        place = ", ".join(map(self.index, shape))
        return [*lines, f"{name}[{place}] {self.one_of('=', *IN_PLACE)} {self.any_number(0)}"]

    def write_slice(self) -> list[str]:
        lines, name, _ = self.some_array()
        return [*lines, *self.write_to(name)]

    def write_to(self, name: str) -> list[str]:
        """Assign to, or change, all or part of an array."""
        shape = self.arrays[name]
        if len(shape) == 1:
            m = shape[0]
            options = [("[:]", (m,)), ("[1:]", (m - 1,)), ("[::2]", ((m + 1) // 2,)), ("[::-1]", (m,)),
                       ("[-2:]", (min(m, 2),))]  # fmt: skip
        else:
            r, c = shape
            options = [("[:]", shape), ("[0]", (c,)), ("[:, 0]", (r,)), ("[-1, ::2]", ((c + 1) // 2,)),
                       ("[:, 1:]", (r, c - 1)), (".T[:]", (c, r))]  # fmt: skip
        place, part = self.one_of(*[o for o in options if all(o[1])])
        value = self.one_of(lambda: self.any_array(part, 1), lambda: self.any_array(part, 1),
        lambda: self.any_number(1))
        if self.choose(2) or ".T" in place:
            return [f"{name}{place} = {value}"]
        return self.changed(name + place, value)

    def changed(self, target: str, value: str) -> list[str]:
        operator = self.one_of(*IN_PLACE, "/=", "**=")
        if operator == "/=":
            value = f"2.5 + {self.sine(value)}"
        return [f"{target} {operator} {2 if operator == '**=' else value}"]

    def in_place(self) -> list[str]:
        lines, name, shape = self.some_array()
        value = self.one_of(lambda: self.any_array(shape, 1), lambda: self.any_array(shape[-1:], 1),
        lambda: self.any_number(1))
        return [*lines, *self.changed(name, value)]

    def overlap(self) -> list[str]:
        lines, name, _ = self.some_array()
        code = self.one_of("{0}[1:] = {0}[:-1]", "{0}[:-1] = {0}[1:]", "{0}[:] = {0}[::-1]", "{0}[1:] = {0}[:-1] * 0.5",
                           "{0}[::-1] = {0} + {0}[0]", "{0} *= {0}", "{0}[:] = {0} - {0}[::-1]")  # fmt: skip
        return [*lines, code.format(name)]

    def swap(self) -> list[str]:
        lines, name, shape = self.some_array()
        others = [other for other, known in self.arrays.items() if known == shape]
        copied = ".copy()" * (len(shape) - 1)  # rows are views
        options = [f"{name}[0], {name}[-1] = {name}[-1]{copied}, {name}[0]{copied}"]
        if len(others) > 1:
            options.append("{0}, {1} = {1}, {0}".format(*others[-2:]))
        if len(self.numbers) > 1:
            options.append("{0}, {1} = {1}, {0} * 0.5".format(*self.numbers[-2:]))
        return [*lines, self.one_of(*options)]

    def ufunc_out(self) -> list[str]:
        lines, name, shape = self.some_array()
        a, b = self.array(shape, 1), self.any_array(shape, 1)
        options = [f"np.add({a}, {b}, {name})", f"np.multiply({name}, {a}, {name})", f"np.sin({a}, {name})",
                   f"np.logaddexp({b}, {a}, {name})"]
        if len(shape) == 1:
            options.append(f"np.dot(M[:{shape[0]}, :{shape[0]}], {a}, {name})")
        return [*lines, self.one_of(*options)]

    def helper(self) -> list[str]:
        lines, name, shape = self.some_array()
        if len(shape) != 1:
            return [*lines, f"{name}.fill({self.number(1)})"]
        made, s = self.name("s"), self.number(1)
        code = self.one_of(f"change({name}, {s})", f"change({name}[::-1], {s})", f"{name}.fill({s})",
                           f"changed({name}, {s})[0] *= 0.5",
                           f"tail({name})[:] = {s}", f"{made}, {self.name('w')} = two({name}, {s})")  # fmt: skip
        if made in code:
            self.numbers.append(made)
        return [*lines, code]

    def masked(self) -> list[str]:
        lines, name, shape = self.some_array()
        if len(shape) != 1:
            return lines + self.write_to(name)
        m = shape[0]
        return [*lines, self.one_of(lambda: f"{name}[{self.mask(shape)}] = {self.any_number(1)}",
                lambda: f"{name}[k[:2] % {m}] = {self.number(1)}",
                                    lambda: f"{name}[{name} > 0.3] *= 0.5",
                                    lambda: f"{name}[np.argmax({name})] = {self.number(1)}")]  # fmt: skip

    def containers(self) -> list[str]:
        """Lists, tuples, named tuples, dictionaries."""
        made, s = self.name("l"), self.name("s")
        a, b, u = self.number(1), self.number(1), self.array((3,), 1)
        code = self.one_of(
            [f"{made} = [{a}, {b}]", f"{made}.append({made}[0] * 0.5)", f"{made}[0] = {b}",
             f"{s} = {made}[0] * {made}[-1] + {made}.pop()"],
            [f"{made} = ({a}, {u})", f"{s} = {made}[0] * {made}[1][0]"],
            [f"{made} = Pair({a}, {u})", f"{made}.vector[1] = {b}", f"{s} = {made}.number + {made}.vector.sum()"],
            [f"{made} = [{u}, {self.array((3,), 1)} * 1.0]", f"{made}[0][1] = {b}",
             f"{s} = {made}[0].sum() * {made}[1][2]"],
            [f"{made} = {{1: {a}, 2: {b}}}", f"{made}[1] += 0.5", f"{s} = {made}[1] * {made}[2]"],
            [f"{made} = ({a}, {b}, x[0])", f"{s} = 0.0", f"for z in {made}:", f"    {s} += z * z"],
            [f"{s} = 0.0", f"for y, z in zip({u}, {self.any_array((3,), 1)}):", f"    {s} += y * z"],
            [f"{s} = 1.0", f"for j, z in enumerate({u}):", f"    {s} *= 1.0 + z * (j + 1) * 0.1"],
            [f"{s} = 0.0", f"for row in {self.array((2, 3), 1)}:", f"    {s} += row[0] * row[2]"],
            [f"{s} = 0.0", "for j in np.ndindex((3,)):", f"    {s} += ({u})[j] * (j[0] + 1)"],
            [f"{s} = 0.0", f"for z in ({self.array((2, 3), 1)}).flat:", f"    {s} += np.tanh(z) * {s} + z"],
            [f"{made} = [z * {a} for z in {u} if z > 0.1]", f"{s} = {b}", f"for z in {made}:", f"    {s} += z"],
        )  # fmt: skip
        self.numbers.append(s)
        return code

    # ------------------------------------------------------------------------------------ control flow
    def branch(self) -> list[str]:
        lines = [] if self.numbers else self.new_number()
        lines += [f"if {self.condition()}:", *self.block("    ", 1, 2)]
        if self.choose(4) == 1:
            lines += [f"elif {self.condition(1)}:", *self.block("    ", 1, 2)]
        if self.choose(3):
            lines += ["else:", *self.block("    ", 1, 2)]
        return lines

    def loop(self, depth: int) -> list[str]:
        lines = [*([] if self.numbers else self.new_number()), *([] if self.arrays else self.new_array())]
        i = self.name("i")
        m = min(3, *(extent for shape in self.arrays.values() for extent in shape[:1]))
        head = self.one_of(f"range({m})", f"range({m} - 1, -1, -1)", f"range(0, {m}, 2)", f"range(n % {m} + 1)")
        self.indices[i] = m
        body = self.block("    ", 1 + self.choose(2), depth + 1)
        if self.choose(3) == 1:
            body = [f"    if {self.condition(1)}:", f"        {self.one_of('break', 'continue')}", *body]
        s = self.one_of(*self.numbers)
        body.append(f"    {s} = {s} * 0.5 + {self.one_of(lambda: self.item(), lambda: self.number(1))}")
        del self.indices[i]
        return [*lines, f"for {i} in {head}:", *body]

    def while_loop(self) -> list[str]:
        s, j = self.name("s"), self.name("j")
        step = self.one_of(f"1.5 * {s} + 0.3", f"{s} * {s} + 0.4",
                           f"0.5 * ({s} + (1.5 + x[0] * x[0]) / (0.1 + {s} * {s}))")
        lines = [f"{s} = {self.number(1)}", f"{j} = 0", f"while {j} < 6 and abs({s}) < {self.one_of('2.0', '5.0')}:",
                 f"    {s} = {step}", f"    {j} += 1"]  # fmt: skip
        self.numbers.append(s)
        return lines

    def filled(self) -> list[str]:
        """An empty array, filled item by item."""
        m, name, i = self.one_of(self.size, 3), self.name("u"), self.name("i")
        self.indices[i] = m
        made = [f"{name} = np.{self.one_of('zeros', 'empty', 'ones')}({m})", f"for {i} in range({m}):",
                f"    {name}[{i}] = {self.number()}"]
        if self.choose(2):
            made.append(f"    {name}[{i}] {self.one_of(*IN_PLACE)} {name}[{i} - 1] if {i} > 0 else {self.number(1)}")
        self.arrays[name] = (m,)
        del self.indices[i]
        return made

    def reused(self) -> list[str]:
        """A buffer that is written to again after something was made of it."""
        m, name, s, i = self.one_of(2, self.size), self.name("u"), self.name("s"), self.name("i")
        use = self.one_of(f"np.sum(M[:{m}, :{m}] @ {name})", f"{name} @ {name}", f"({name} * c[:{m}]).sum()",
                          f"np.max({name} * {name}[::-1])",
                          f"np.linalg.solve(M[:{m}, :{m}] * 0.1 + 3.0 * np.eye({m}), {name})[0]",
                          f"(np.outer({name}, {name}) @ {name})[-1]",
                          f"over({name}, 0.5)[0]", f"np.linalg.norm({name})",
                          f"(M[:{m}, :{m}].T @ {name}[::-1])[0]")  # fmt: skip
        lines = [f"{name} = np.empty({m})", f"{s} = 0.0", f"for {i} in range(3):",
                 f"    {name}[:] = {self.array((m,), 1)} * ({i} + 1)",
                 f"    {s} += {use}"]  # fmt: skip
        self.arrays[name] = (m,)
        self.numbers.append(s)
        return lines

    def early_return(self) -> list[str]:
        return [f"if {self.condition()}:", f"    return {self.number(1)}"]

    def caught(self) -> list[str]:
        s = self.name("s")
        inside = self.one_of(lambda: [f"    {s} = checked({self.array((2,), 1)}, {self.number(1)})"],
                             lambda: [f"    if {self.condition(1)}:", '        raise ValueError("chosen")',
                             f"    {s} += {self.number(1)}"])  # fmt: skip
        lines = [f"{s} = {self.number(1)}", "try:", *inside, "except Exception:", f"    {s} = {self.number(1)}"]
        self.numbers.append(s)
        return lines

    def closure(self) -> list[str]:
        f, s = self.name("f"), self.name("s")
        lines = [f"def {f}(z):", f"    return z * z + {self.number(1)}", f"{s} = {f}({self.number(1)}) + {f}(x[1])"]
        self.numbers.append(s)
        return lines

    def program(self) -> str:
        """The source of a function."""
        lines = [line for _ in range(1 + self.choose(3)) for line in self.statement()]
        terms = ["weigh(x)", *(f"{0.3 + 0.2 * j:.1f} * {s}" for j, s in enumerate(self.numbers))]
        terms += [f"{('weigh', 'weigh_matrix')[len(shape) - 1]}({name})" for name, shape in self.arrays.items()]
        body = "\n".join("    " + line for line in [*lines, f"return {' + '.join(terms)}"])
        return f"@numba.njit\ndef fun(x, M, c, k, b, table, n, q):\n{body}\n"
