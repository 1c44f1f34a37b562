"""Options written in compiled code: ``options={...}`` and ``options=dict(...)`` reach `compiled` as one record.

Numba would make a typed dictionary of a literal whose values are all of its first one's type, which takes seconds to
compile and forgets the names, and refuses ``dict(name=value)``.  Where such a value goes into a call of
`numbaopt.minimize`, it is written as a literal of values of several types, which Numba takes for a record.
"""

from __future__ import annotations

from typing import Any

from numba.core import ir
from numba.core.consts import ConstantInferenceError
from numba.core.rewrites import Rewrite, register_rewrite

from .minimize import minimize

MARK = "as a record"  # the name of one more item, a string, among the numbers


@register_rewrite("before-inference")
class RecordOfOptions(Rewrite):
    """Options that stand where `numbaopt.minimize` is called, as a record."""

    def match(self, func_ir, block, typemap, calltypes):
        self.block, self.ir = block, func_ir
        self.found: dict[int, list[tuple[str, Any]]] = {}
        candidates = [line for line in block.find_insts(ir.Assign) if _is_literal(line)]
        if candidates:
            given = _options_of_calls(func_ir)
            for line in candidates:
                items = _items(func_ir, line.value) if any(line.value is one for one in given) else None
                if items is not None:
                    self.found[id(line)] = items
        return bool(self.found)

    def apply(self):
        made = ir.Block(self.block.scope, self.block.loc)
        for line in self.block.body:
            made.body += self._record(line, self.found[id(line)]) if id(line) in self.found else [line]
        return made

    def _record(self, line: Any, items: list[tuple[str, Any]]) -> list[Any]:
        lines: list[Any] = []

        def put(text: str) -> Any:
            lines.append(ir.Assign(ir.Const(text, line.loc), self.block.scope.redefine("$option", line.loc), line.loc))
            return lines[-1].target

        pairs = [(put(name), value) for name, value in items] + [(put(MARK), put(MARK))]
        places = {name: k for k, (name, _) in enumerate((*items, (MARK, None)))}
        record = ir.Expr.build_map(pairs, len(pairs), None, places, line.loc)
        lines.append(ir.Assign(record, line.target, line.loc))
        for one in lines:
            self.ir._definitions[one.target.name] = [one.value]
        return lines


def _is_literal(line: Any) -> bool:
    """Whether a value might be options: a literal without a name, or a call with keywords alone."""
    expr = line.value
    if not isinstance(expr, ir.Expr):
        return False
    if expr.op == "build_map":
        return line.target.name.startswith("$") and len(expr.items) > 0
    return expr.op == "call" and len(expr.kws) > 0 and not expr.args and expr.vararg is None and expr.varkwarg is None


def _options_of_calls(func_ir: Any) -> list[Any]:
    """What is given as options to `minimize`, anywhere in a function."""
    given = []
    for block in func_ir.blocks.values():
        for call in block.find_exprs("call"):
            options = dict(call.kws).get("options")
            if options is not None and _constant(func_ir, call.func) is minimize:
                given.append(_defined(func_ir, options))
    return given


def _items(func_ir: Any, expr: Any) -> list[tuple[str, Any]] | None:
    """Names and variables of a literal dictionary or a call of ``dict``; None for all else, and records."""
    if expr.op == "call":
        return list(expr.kws) if _constant(func_ir, expr.func) is dict else None
    names = [_constant(func_ir, key) for key, _ in expr.items]
    if MARK in names or not all(isinstance(name, str) for name in names):
        return None
    return [(name, value) for name, (_, value) in zip(names, expr.items, strict=True)]


def _constant(func_ir: Any, variable: Any) -> Any:
    try:
        return func_ir.infer_constant(variable)
    except ConstantInferenceError:
        return None


def _defined(func_ir: Any, variable: Any) -> Any:
    try:
        return func_ir.get_definition(variable)
    except KeyError:
        return None
