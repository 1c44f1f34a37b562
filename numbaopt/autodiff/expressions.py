"""One statement an expression: reverse mode records ``100 * (y - x**2) ** 2`` as one node with two parents.

An expression of `Taped` scalars is compiled as a function of its leaves and evaluated in forward mode, as `Dual`; its
derivatives with respect to the leaves become the edges of one statement.  Expressions that are only compared are not
recorded at all.  Array expressions, which Numba fuses into one
loop already, record one statement an item in the same way.
"""

from __future__ import annotations

import collections
from typing import Any

from llvmlite import ir as llvm
from numba.core import compiler, ir, rewrites, targetconfig, types
from numba.np import npyimpl
from numba.np.ufunc import array_exprs

from .numbers import TAPED, Dual, Number, NumberArray, Taped, is_real
from .rules import COMPARISONS, IN_PLACE, RULES
from .scalars import Shape

MOST = 8  # leaves of one statement; larger expressions are recorded operation by operation


@rewrites.register_rewrite("after-inference")
class FuseScalars(array_exprs.RewriteArrayExprs):
    """Joins operations on `Taped` scalars whose results are used once, as Numba does with arrays."""

    def __init__(self, state, *args, **kwargs):
        rewrites.Rewrite.__init__(self, state, *args, **kwargs)
        state.targetctx.special_ops.setdefault("taped_expression", _lower_scalars)

    def match(self, func_ir, block, typemap, calltypes):
        """Whether a block has an operation whose operand is another one's result, and small enough to be joined."""
        if not calltypes:
            return False
        self.crnt_block, self.typemap = block, typemap
        operations, comparisons, constants, used = {}, {}, {}, collections.Counter()
        self.place, self.assigned = {}, {}  # of instructions, and of the last assignment to a name
        for i, instruction in enumerate(block.body):
            self.place[instruction] = i
            if not isinstance(instruction, ir.Del):
                used.update(variable.name for variable in instruction.list_vars())
        for instruction in block.find_insts(ir.Assign):
            name, value = instruction.target.name, instruction.value
            used[name] -= 1  # as the target
            self.assigned[name] = self.place[instruction]
            if isinstance(value, ir.Const):
                constants[name] = value
            elif isinstance(value, ir.Expr) and isinstance(typemap.get(name), Taped) and self._operation(value):
                operations[name] = instruction
            elif isinstance(value, ir.Expr) and value.op == "binop" and self._comparison(value):
                comparisons[name] = instruction
        self.trees = {}  # by name: expression, numbers in it, all names in it, whether anything joined
        self.joined = set()  # results that become part of another expression
        everything = {**operations, **comparisons}
        for name in sorted(everything, key=lambda name: self.place[everything[name]]):
            self.trees[name] = self._tree(everything[name].value, operations, constants, used)
        self.roots = {everything[name]: name for name in everything
                      if name not in self.joined and self.trees[name][3]}  # fmt: skip
        self.inner = {operations[name] for name in self.joined}
        return bool(self.roots)

    def _tree(self, expression: Any, operations: Any, constants: Any, used: Any) -> tuple[Any, set, set, bool]:
        """An operation, and in it those of its operands that are used nowhere else and fit."""
        parts: list[Any] = []
        operands = self._get_operands(expression)
        numbers = {o.name for o in operands if isinstance(self.typemap[o.name], Taped)}
        names = {o.name for o in operands}
        joins = False
        for operand in operands:
            name = operand.name
            parts.append(constants.get(name, operand))
            if name in operations and operand.is_temp and used[name] == 1:
                tree, inner, read, _ = self.trees[name]
                more = (numbers - {name}) | inner
                changed = any(self.assigned.get(other, -1) > self.place[operations[name]] for other in read)
                if len(more) <= MOST and not changed:
                    numbers, names, joins, parts[-1] = more, names | read, True, tree
                    self.joined.add(name)
        return (self._get_array_operator(expression), parts), numbers, names, joins

    def _operation(self, expression: Any) -> bool:
        """Whether an expression is an operation of the table, on scalars."""
        if expression.op in ("unary", "binop", "inplace_binop"):
            function = expression.fn
        elif expression.op == "call" and not expression.kws and expression.vararg is None:
            kind = self.typemap.get(expression.func.name)
            function = kind.typing_key if isinstance(kind, types.Function) else None
        else:
            return False
        try:
            rule = RULES.get(function)
        except TypeError:  # not hashable
            return False
        kinds = [self.typemap[v.name] for v in (self._get_operands(expression) if rule else ())]
        return bool(rule and rule.arguments == len(kinds) and all(isinstance(k, Number) or is_real(k) for k in kinds))

    def _comparison(self, expression: Any) -> bool:
        """Whether an expression compares numbers on a tape, of which only the values count."""
        kinds = [self.typemap[expression.lhs.name], self.typemap[expression.rhs.name]]
        return expression.fn in COMPARISONS and any(isinstance(k, Taped) for k in kinds) and all(
            isinstance(k, Taped) or is_real(k) for k in kinds)  # fmt: skip

    def _get_array_operator(self, expression):
        return self.typemap[expression.func.name].typing_key if expression.op == "call" else expression.fn

    def _get_operands(self, expression):
        if expression.op in ("binop", "inplace_binop"):
            return expression.lhs, expression.rhs
        return [expression.value] if expression.op == "unary" else expression.args

    def apply(self):
        """The block with each root in the place of the operations joined in it.

        What the joined ones read must live until the root: deletions in between are moved behind the last root.
        """
        block = self.crnt_block.copy()
        block.clear()
        last = max(self.place[instruction] for instruction in self.roots)
        read = set().union(*(self.trees[name][2] for name in self.roots.values()))
        late = {}
        for i, instruction in enumerate(self.crnt_block.body):
            if isinstance(instruction, ir.Assign) and instruction.target.name in late:
                block.append(late.pop(instruction.target.name))
            if isinstance(instruction, ir.Del) and instruction.value in read:
                if instruction.value not in self.joined:
                    late[instruction.value] = instruction
            elif instruction in self.roots:
                name = self.roots[instruction]
                made = ir.Expr(op="taped_expression", loc=instruction.value.loc, expr=self.trees[name][0],
                               ty=self.typemap[name])  # fmt: skip
                block.append(ir.Assign(made, instruction.target, instruction.loc))
            elif instruction not in self.inner:
                block.append(instruction)
            if i >= last:
                while late:
                    block.append(late.popitem()[1])
        return block


def _kernel(expression: Any) -> tuple[Any, list[Any]]:
    """A Python function of an expression's variables, and the variables."""
    names: dict[str, str] = {}
    variables: list[Any] = []
    space: dict[str, Any] = {}

    def source(part: Any) -> str:
        if isinstance(part, tuple):
            function, operands = part
            name = f"f{len(space)}"
            space[name] = IN_PLACE.get(function, function)
            return f"{name}({', '.join(map(source, operands))})"
        if isinstance(part, ir.Const):
            name = f"c{len(space)}"
            space[name] = part.value
            return name
        if part.name not in names:
            names[part.name] = f"x{len(names)}"
            variables.append(part)
        return names[part.name]

    body = source(expression)
    exec(f"def kernel({', '.join(names.values())}):\n    return {body}", space)  # noqa: S102
    return space["kernel"], variables


def _record(context: Any, builder: Any, kernel: Any, kinds: list[Any], args: list[Any]) -> Any:
    """LLVM code: evaluate in forward mode with respect to the `Taped` among the arguments, record one statement."""
    leaves = [i for i, kind in enumerate(kinds) if isinstance(kind, Taped)]
    dual = Dual(next(width for width in (1, 2, 4, 8) if width >= len(leaves)))
    inner = [dual if i in leaves else types.unliteral(kind) for i, kind in enumerate(kinds)]
    values = [dual.seeded(context, builder, builder.extract_value(a, 0), leaves.index(i)) if i in leaves else a
              for i, a in enumerate(args)]  # fmt: skip
    flags = targetconfig.ConfigStack().top_or_none()
    flags = compiler.Flags() if flags is None else flags.copy()
    made = dual(*inner)
    compiled = context.compile_subroutine(builder, kernel, made, flags=flags, caching=False)
    found = context.call_internal(builder, compiled.fndesc, made, values)
    slopes = builder.extract_value(found, 1)
    terms = [(builder.extract_element(slopes, llvm.Constant(llvm.IntType(32), k)), args[i])
             for k, i in enumerate(leaves)]  # fmt: skip
    return TAPED.combine(context, builder, builder.extract_value(found, 0), terms, False)


def _lower_scalars(lowerer: Any, expression: Any) -> Any:
    kernel, variables = _kernel(expression.expr)
    context, builder = lowerer.context, lowerer.builder
    kinds, args = [lowerer.typeof(v.name) for v in variables], [lowerer.loadvar(v.name) for v in variables]
    if expression.ty == types.boolean:  # nothing of a comparison need be recorded
        made = types.boolean(*(types.float64 if isinstance(k, Taped) else types.unliteral(k) for k in kinds))
        values = [builder.extract_value(a, 0) if isinstance(k, Taped) else a for a, k in zip(args, kinds, strict=True)]
        compiled = context.compile_subroutine(builder, kernel, made, caching=False)
        return context.call_internal(builder, compiled.fndesc, made, values)
    return _record(context, builder, kernel, kinds, args)


def _arrays_of_numbers() -> None:
    """Numba's lowering of array expressions, with one statement an item where the result is on a tape."""
    original = array_exprs._lower_array_expr

    def lower(lowerer: Any, expression: Any) -> Any:
        kind = expression.ty
        if not (isinstance(kind, NumberArray) and isinstance(kind.dtype, Taped)):
            return original(lowerer, expression)
        kernel, variables = _kernel(expression.expr)
        kinds = [lowerer.typeof(v.name) for v in variables]
        items = [k.dtype if isinstance(k, types.Array) else k for k in kinds]
        if sum(isinstance(item, Taped) for item in items) > MOST or any(isinstance(k, types.Optional) for k in kinds):
            return original(lowerer, expression)

        class Loop(npyimpl._Kernel):
            def generate(self, *values):
                return _record(self.context, self.builder, kernel, items, list(values))

        args = [lowerer.loadvar(v.name) for v in variables]
        return npyimpl.numpy_ufunc_kernel(lowerer.context, lowerer.builder, kind(*kinds), args, Shape(len(kinds)), Loop)

    fuse = array_exprs.RewriteArrayExprs.__init__

    def install(self: Any, state: Any, *args: Any, **kwargs: Any) -> None:
        fuse(self, state, *args, **kwargs)
        state.targetctx.special_ops["arrayexpr"] = lower

    array_exprs.RewriteArrayExprs.__init__ = install  # type: ignore[method-assign]


_arrays_of_numbers()
