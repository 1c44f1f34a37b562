"""Statements with as many edges as an array has items: recorded by compiled code, not in line (`tape.push`)."""

from __future__ import annotations

from numba.core import types
from numba.extending import intrinsic, register_jitable

from .tape import EDGE, NODES, load_word, reserve_bytes, store_float, store_word


@register_jitable
def set_edge(place, k, slope, parent):
    """Write edge ``k`` of a statement that begins at ``place``."""
    store_float(place + EDGE * k, slope)
    store_word(place + EDGE * k + 8, parent)


@register_jitable
def end_statement(where, place, count):
    """Finish a statement; its node."""
    store_word(place + EDGE * count, count)
    node = load_word(where + 8 * NODES) + 1
    store_word(where + 8 * NODES, node)
    return node


@register_jitable
def begin_statement(where, count):
    """The address of a new statement's edges; 0 where nothing is to be recorded."""
    return reserve_bytes(where, EDGE * count + 8) if where != 0 else 0


@intrinsic
def add_term(typing_context, number, slope, other):
    """A `Dual` whose derivatives are those of ``number`` and slope times those of ``other``."""

    def codegen(context, builder, signature, args):
        mine = builder.insert_value(args[0], builder.extract_value(args[0], 0), 0)
        term = number.combine(context, builder, builder.extract_value(args[0], 0), [(args[1], args[2])], True)
        both = builder.fadd(builder.extract_value(mine, 1), builder.extract_value(term, 1))
        return builder.insert_value(mine, both, 1)

    return number(number, types.float64, number), codegen
