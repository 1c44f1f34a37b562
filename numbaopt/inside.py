"""Methods inside compiled code: which numbers they have there, and which loops and settings they make of them."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import types

from ._fields import RANGES, nearest
from ._jit import bits, jit_for_address, jit_inside, linked, native, pointer, pointer_to
from ._packed import count_words, store, unpacker
from ._schedule import rate
from .arguments import MAX_STEPS, MAXITER
from .automatic import Automatic
from .inside_numbers import Source, absent, checker, keys_of, opened, picker, reader
from .loops import automatic, descent
from .loops.alone import PIECE, Work
from .loops.state import CALM_STEPS
from .optimizers._program import ADVANCE, PREPARE, program_of
from .optimizers._rule import OPTIMIZERS
from .optimizers.step import follows_objective
from .solvers import SOLVERS
from .solvers.first_order import AHEAD

LIMITS = {"maxiter": MAXITER, "gtol": 1e-5, "ftol": 0.0, "xtol": 0.0}
READY = types.void(*(types.intp,) * 4)


class Method:
    """A method as compiled code needs it, from the Numba types of the method, the options and tol.

    Attributes
    ----------
    read, check, most
        For compiled code: ``read(method, options, tol)``, all numbers; ``check(numbers)``; maxiter,
        ``most(numbers, n)``.
    count : int
        The first numbers are the method's own, the next are gtol, ftol, xtol, maxiter.
    way
        ``way(method, options, bounded)``: which of two ways the run goes, 0 or 1.
    loops, rates
        Of each way, intrinsics: the addresses of the loop and of what computes rates, or 0.
    sizes
        ``sizes(n, numbers, bounded)``: rows of the state, extra numbers.
    arrange
        ``arrange(method, options, numbers) -> Work``.
    """

    def __init__(self, method: Any, options: Any, tol: Any, bounded: bool, dtype: np.dtype):
        classes, self.chained, self.instance = _classes_of(method)
        self.cls, fields, self.tol, self.dtype = classes[-1], classes[-1]._fields, tol, dtype
        self.bounded = bounded
        self.either = getattr(self.cls, "either", None)
        translates, elsewhere = getattr(self.cls, "translates", {}), getattr(self.cls, "elsewhere", ())
        keys = keys_of(options, [*filter(self._is_number, fields), *LIMITS])
        self.open, self.typed = opened(options, keys), isinstance(options, types.DictType)
        self.given = set(keys)
        self.options = {translates.get(key, key): Source(1, (k,), kind)
                        for k, (key, kind) in enumerate(keys.items()) if not absent(kind)}  # fmt: skip
        for key, source in self.options.items():
            if key not in fields and key not in LIMITS:
                why = "is an option of SciPy's method alone" if key in elsewhere else "is not known in compiled code"
                raise ValueError(f"options: {key!r} {why}; {nearest(key, [*fields, *LIMITS])}")
            if key != "lr" and not isinstance(source.kind, (types.Integer, types.Float, types.Boolean)):
                raise TypeError(f"options: {key!r} must be a number, not {source.kind}")
        if hasattr(self.cls, "check"):
            self.cls.check(self.cls, None, None, bounded)
        sources = [*self._own(classes), *self._tolerances(), ("maxiter", self._maxiter())]
        self.count = len(sources) - len(LIMITS)
        ranges = {**RANGES, **dict.fromkeys(LIMITS, "[0, inf)"), **getattr(self.cls, "ranges", {})}
        self.read = reader(tuple(source for _, source in sources))
        self.check = checker([(name, "" if source.argument is None else ranges.get(name, ""))
                              for name, source in sources], ("maxiter", self.either),
                             getattr(self.cls, "ascending", ()))  # fmt: skip
        own, where = getattr(self.cls, "defaults", {}).get("maxiter"), len(sources) - 1
        default = jit_inside(own if callable(own) else lambda n: MAXITER)
        other = [name for name, _ in sources].index(self.either) if self.either else where

        def most(numbers, n):
            if numbers[where] == numbers[where]:
                return int(numbers[where])
            return MAX_STEPS if numbers[other] == numbers[other] else int(default(n))

        self.most = jit_inside(most, fastmath=())
        self.calm_steps = int(getattr(self.cls, "calm_steps", CALM_STEPS))

    def _own(self, classes: tuple[Any, ...]) -> list[tuple[str, Source]]:
        """Names and sources of the numbers of the method's own; sets what is said of the class above."""
        raise NotImplementedError

    def _is_number(self, name: str) -> bool:
        """Whether a field of the method is a number, in its instance."""
        kind = self._field(name, -1, self.cls, False).kind
        number = isinstance(kind, types.Number) and not isinstance(kind, types.Boolean)
        return number or name == "lr" or (name == self.either and isinstance(kind, types.NoneType))

    def _chosen(self, key: str, otherwise: Source) -> Source:
        """Where a number comes from that may stand in the options."""
        source = self.options.get(key, otherwise)
        return source._replace(otherwise=otherwise) if self.typed and source is not otherwise else source

    def _field(self, name: str, part: int, cls: Any, options: bool) -> Source:
        """Where a field of a part comes from."""
        if self.instance is None:
            value = cls._field_defaults[name]
            source = Source(None, value, types.none if value is None else types.float64)
        else:
            kind: Any = self.instance
            path = (0, part % len(kind[0]), cls._fields.index(name)) if self.chained else (cls._fields.index(name),)
            for k in path:
                kind = kind[k]
            source = Source(0, path, types.unliteral(kind))
        return self._chosen(name, source) if options else source

    def _tolerance(self, name: str, otherwise: Source) -> Source:
        """Where a number comes from that may be a tolerance of the method's."""
        told = not absent(self.tol) and name in getattr(self.cls, "tolerances", ("gtol",))
        return self._chosen(name, Source(2, (), types.unliteral(self.tol)) if told else otherwise)

    def _tolerances(self) -> list[tuple[str, Source]]:
        own = {**LIMITS, **getattr(self.cls, "defaults", {})}
        return [(key, self._tolerance(key, Source(None, own[key]))) for key in ("gtol", "ftol", "xtol")]

    def _maxiter(self) -> Source:
        own = getattr(self.cls, "defaults", {}).get("maxiter", MAXITER)
        return self._chosen("maxiter", Source(None, math.nan if callable(own) else own))


class Planned(Method):
    """A method whose loop is settled by numbers of its own (`solvers._solver.PlannedSteps`)."""

    def _own(self, classes: tuple[Any, ...]) -> list[tuple[str, Source]]:
        solver = self.cls.solver
        plan = solver.plan(self.cls, self.dtype)
        kinds = descent.signature(self.dtype)
        free, within = solver.room(False), solver.room(self.bounded)
        self.loops = tuple(linked(room.loop, types.void(*kinds)) for room in (free, within))
        few, some, count = jit_inside(free.sizes), jit_inside(within.sizes), len(plan)
        other, where = plan.index(self.either) if self.either else -1, count + len(LIMITS) - 1
        memory = plan.index(solver.memory) if solver.memory else 0

        def sizes(n, numbers, bounded):
            return some(n, int(numbers[memory])) if bounded else few(n, int(numbers[memory]))

        def arrange(method, options, numbers):
            settings = np.empty(count, np.int64)
            store(numbers[:count], settings)
            if other >= 0 and numbers[where] == numbers[where] and numbers[other] != numbers[other]:
                settings[other] = bits(math.inf)
            return Work(settings, np.empty(0, np.int64), np.empty(0, np.float64))

        self.sizes, self.arrange = jit_inside(sizes), jit_inside(arrange)
        self.way, self.rates = jit_inside(lambda method, options, bounded: int(bounded)), (none, none)
        return [(item, self._number(item)) if isinstance(item, str) else ("", Source(None, item)) for item in plan]

    def _number(self, name: str) -> Source:
        field = self._field(name, 0, self.cls, False)
        return self._tolerance(name, Source(None, math.nan) if isinstance(field.kind, types.NoneType) else field)


class Rule(Method):
    """A rule, or a chain of transforms and a rule."""

    def _own(self, classes: tuple[Any, ...]) -> list[tuple[str, Source]]:
        last, program, lr = len(classes) - 1, program_of(classes, self.dtype), self._rate(len(classes) - 1)
        if not _is_automatic(lr.kind):
            _check_rate(lr.kind)
        found = [(name, self._field(name, k, part, k == last)) for k, part in enumerate(classes)
                 for name in part._fields]  # fmt: skip
        rows, count = len(self.cls.slots), len(found)
        fill, sweep = linked(program.fill, PREPARE), linked(program.sweep, ADVANCE)
        words, coefficients, rates = count_words(lr.kind), count, count + AHEAD * program.width
        size, fields = rates + PIECE, len(descent.Settings._fields)
        pick, numbers_of = picker(lr), jit_inside(_automatic if _is_automatic(lr.kind) else _defaults)

        def arrange(method, options, numbers):
            settings, schedule, room = np.empty(fields, np.int64), np.empty(words, np.int64), np.empty(size)
            for k in range(count):
                room[k] = numbers[k]
            lr = pick(method, options)
            for k, number in enumerate(numbers_of(lr)):  # where the rate is to be found; else rates take their place
                room[rates + k] = number
            store((lr,), schedule)
            store((pointer(room), pointer_to(room, rates), 0, pointer_to(room, coefficients), AHEAD, fill(), sweep()),
                  settings)  # fmt: skip
            return Work(settings, schedule, room)

        finds = self._choose(lr, pick)
        more, extra = (1, automatic.NUMBERS) if finds else (0, 0)
        self.sizes, self.arrange = jit_inside(lambda n, numbers, bounded: (rows + more, extra)), jit_inside(arrange)
        zero = Source(None, 0.0)
        return [(name, zero if not isinstance(source.kind, (types.Number, types.Boolean)) else
                 source if name != "lr" or not finds else lr._replace(otherwise=zero) if lr.argument else zero)
                for name, source in found]  # fmt: skip

    def _rate(self, last: int) -> Source:
        """Where the rate stands, as `arguments.settle_rate` says; NaN where it is to be found."""
        named, untold = self.instance is None, Source(None, math.nan)
        if "lr" not in self.options and (named or "lr" in self.given):
            return untold
        return self._chosen("lr", untold if named else self._field("lr", last, self.cls, False))

    def _choose(self, lr: Source, pick: Any) -> bool:
        """Set the ways: with a rate that is told, or one that is found; returns whether the second is possible."""
        found = _is_automatic(lr.kind) or (lr.argument is None and math.isnan(lr.path))
        open_to_both = not found and lr.otherwise is not None and lr.otherwise.argument is None
        told = (descent.descend, _ready(lr.kind)) if not found else (automatic.descend, None)
        ways = told, (automatic.descend, None) if open_to_both else told
        kinds = types.void(*descent.signature(self.dtype))
        self.loops = tuple(linked(loop, kinds) for loop, _ in ways)
        self.rates = tuple(none if ready is None else linked(ready, READY) for _, ready in ways)

        def way(method, options, bounded):
            return int(np.isnan(pick(method, options)))

        self.way = jit_inside(way if open_to_both else lambda method, options, bounded: 0, fastmath=())
        return found or open_to_both


@native(lambda: 0)
def none(typing_context):
    """An address that is none."""
    return types.intp(), lambda context, builder, signature, values: context.get_constant(types.intp, 0)


def _automatic(lr):
    return lr.steps, lr.block, lr.shrink


UNTOLD = tuple(Automatic._field_defaults.values())


def _defaults(lr):
    return UNTOLD


def _is_automatic(kind: Any) -> bool:
    return getattr(kind, "instance_class", None) is Automatic


def _check_rate(kind: Any) -> None:
    schedule = isinstance(kind, types.BaseNamedTuple) and hasattr(kind.instance_class, "rate")
    if follows_objective(kind):
        raise ValueError("lr=ReduceOnPlateau follows one run from Python; in compiled code use another schedule")
    if not (isinstance(kind, types.Number) or schedule):
        raise TypeError(f"lr must be a number or a schedule of numbaopt.schedules in compiled code, not {kind}")


@functools.cache
def _ready(kind: types.Type) -> Any:
    """``ready(schedule, rates, first, count)``, see `loops.alone.solve`, for a rate of a Numba type."""
    unpack = unpacker(types.Tuple((kind,)))

    def ready(schedule, rates, first, count):
        (lr,), out = unpack(schedule), descent.floats(rates, count)
        for k in range(count):
            out[k] = rate(lr, float(first + k), 1.0)
            if not (0.0 <= out[k] < math.inf):
                raise ValueError("lr: the schedule gives a rate that is not in [0, inf)")

    return jit_for_address(ready, fastmath=())


def _classes_of(method: Any) -> tuple[tuple[Any, ...], bool, Any]:
    """The classes of a method's parts, whether it is a chain, and its Numba type, None where only its name is known."""
    if isinstance(method, types.UnicodeType):
        raise TypeError("method must be a literal name in compiled code, as in method='lbfgs', not a variable")
    if absent(method) or isinstance(method, types.StringLiteral):
        name = "lbfgs" if absent(method) or method.literal_value.lower() == "auto" else method.literal_value.lower()
        known = {**OPTIMIZERS, **{key: cls for key, cls in SOLVERS.items() if hasattr(cls.solver, "plan")}}
        if name not in known:
            told = f"method {method.literal_value!r} is none of those in compiled code"
            raise ValueError(f"{told}; {nearest(name, known)}")
        return (known[name],), False, None
    if isinstance(method, types.BaseNamedTuple) and "parts" in method.fields:
        return tuple(part.instance_class for part in method.types[0]), True, method
    cls: Any = getattr(method, "instance_class", None)
    if not (hasattr(cls, "update") or hasattr(cls, "solver")):
        raise TypeError(f"method must be an optimizer such as numbaopt.Adam() or a literal name, not {method}")
    if hasattr(cls, "solver") and not hasattr(cls.solver, "plan"):
        raise ValueError(f"method {cls.__name__} is not possible in compiled code; use LBFGS, BFGS or a rule, for "
                         "residuals numbaopt.least_squares")  # fmt: skip
    return (cls,), False, method


def needs_gradient(method: Any) -> bool:
    """Whether a method of Numba types needs gradients."""
    return getattr(_classes_of(method)[0][-1], "gradient", True)


def method_of(method: Any, options: Any, tol: Any, bounded: bool, dtype: np.dtype) -> Method:
    """The method of Numba types, for unknowns of ``dtype``."""
    kind = Planned if hasattr(_classes_of(method)[0][-1], "solver") else Rule
    return kind(method, options, tol, bounded, dtype)
