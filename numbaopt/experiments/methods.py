"""Methods as tables: from what a file says of one to the optimizer that `numbaopt.minimize` takes."""

from __future__ import annotations

import inspect
import math
from typing import Any

from .._fields import nearest
from .._schedule import SCHEDULES
from ..optimizers._rule import OPTIMIZERS
from ..optimizers.combined import MAKERS
from ..solvers import SAG, SAGA, SDCA, SOLVERS, SSNAL, SVRG, Newton
from ..transforms import ClipByNorm, ClipByValue, GradientNoise, chain
from .schema import ExperimentError

CLIPS: dict[str, Any] = {"clip_norm": ClipByNorm, "clip_value": ClipByValue, "gradient_noise": GradientNoise}
COMBINED = {name.lower(): maker for name, maker in MAKERS.items()}
AUTO = "auto"
OF_MODELS = (SAG, SAGA, SDCA, SSNAL, SVRG, Newton)
RESIDUALS = ("lm", "levenberg-marquardt")  # minimize sums of squares, and are given vectors
# Options that mean something to first-order rules, or to minibatches, only.
OF_RULES = ("batch_size", "accumulate", "average", "average_from", "ema_decay", "max_norm", "lazy_update",
            "weight_norm")  # fmt: skip


def known() -> list[str]:
    """Every name that ``method = `` may have."""
    return [AUTO, *OPTIMIZERS, *(name for name in SOLVERS if name not in RESIDUALS), *COMBINED]


def kind_of(table: dict[str, Any], where: str) -> str:
    """The name of a table's method, in lower case."""
    kind = table.get("method")
    if not isinstance(kind, str) or kind.lower() not in (names := known()):
        raise named(f"{where}.method", kind, names if kind is not None else OPTIMIZERS, "method")
    return kind.lower()


def fields_of(kind: str) -> tuple[str, ...]:
    """The fields of a method."""
    if kind in COMBINED:
        return tuple(inspect.signature(COMBINED[kind]).parameters)
    cls: Any = OPTIMIZERS.get(kind) or SOLVERS.get(kind)
    return () if kind == AUTO else cls._fields


def is_rule(kind: str) -> bool:
    """Whether it is a first-order rule, which takes steps over batches."""
    return kind in OPTIMIZERS or kind in COMBINED


def is_incremental(kind: str) -> bool:
    """Whether its steps are of one term each."""
    return getattr(SOLVERS.get(kind), "incremental", False)


def ignores(kind: str) -> tuple[str, ...]:
    """What a problem may say for all its methods and this one has no use for."""
    if is_rule(kind):
        return ()
    return (*OF_RULES, *getattr(SOLVERS.get(kind), "unknown_to", ()))


def draws(kind: str, table: dict[str, Any], batches: bool) -> bool:
    """Whether a method's run depends on its seed: it takes terms in random order, or adds noise."""
    if table.get("gradient_noise"):
        return True
    if not batches:
        return False
    if is_rule(kind):
        return table.get("batch_size", "all") not in (None, "all") and table.get("shuffle", True) is not False
    return is_incremental(kind) or "seed" in fields_of(kind)


def suits(kind: str, problem: Any, where: str) -> None:
    """Refuse a method of linear models on other problems."""
    if SOLVERS.get(kind) in OF_MODELS and not problem.linear:
        raise ExperimentError(f"{where}: method {kind!r} solves linear models only, such as 'logistic_regression'")


def takes_list(table: dict[str, Any], keys: tuple[str, ...]) -> bool:
    """Whether the field at ``keys`` of a method's table is a list itself."""
    for key in keys[:-1]:
        table = table[key]
    kind = table.get("schedule", table.get("method"))
    name = kind.lower() if isinstance(kind, str) else ""
    if "schedule" in table:
        name = name.replace("_", "")
    cls = (SCHEDULES if "schedule" in table else {**OPTIMIZERS, **SOLVERS}).get(name)
    return "tuple" in str(getattr(cls, "__annotations__", {}).get(keys[-1]))


def make(table: dict[str, Any], where: str, seed: int = 0) -> Any:
    """The optimizer of a table without lists: its fields, and clips, or noise of that seed, before it."""
    kind = kind_of(table, where)
    clips = [_call(cls, {cls._fields[0]: table[key], **({"seed": seed} if "seed" in cls._fields else {})},
                   f"{where}.{key}") for key, cls in CLIPS.items() if key in table]  # fmt: skip
    fields = {key: _part(value, f"{where}.{key}") for key, value in table.items() if key in fields_of(kind)}
    if kind == AUTO:
        if clips:
            raise ExperimentError(f"{where}: method = 'auto' takes no {' or '.join(CLIPS)}")
        return AUTO
    if kind in SOLVERS and clips:
        raise ExperimentError(f"{where}: only rules such as 'adam' take {' or '.join(CLIPS)}, not {kind!r}")
    opt = _call(COMBINED.get(kind) or OPTIMIZERS.get(kind) or SOLVERS[kind], fields, where)
    return chain(*clips, opt) if clips else opt


def _part(value: Any, where: str) -> Any:
    """A field's value: a number, a schedule's table, or that of a rule within a combined one."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ExperimentError(f"{where} = {value}: numbers must be finite")
    if not isinstance(value, dict):
        return tuple(value) if isinstance(value, list) else value
    if "method" not in value:
        return _rate(value, where)
    kind = kind_of(value, where)
    if not is_rule(kind):
        raise named(f"{where}.method", kind, [*OPTIMIZERS, *COMBINED], "rule")
    for key in value:
        if key not in ("method", *fields_of(kind)):
            raise ExperimentError(f"unknown key '{where}.{key}'; {nearest(key, fields_of(kind))}")
    return make(value, where)


def _rate(value: dict[str, Any], where: str) -> Any:
    """A learning rate from a table that names a schedule."""
    kind = value.get("schedule")
    if not isinstance(kind, str) or kind.replace("_", "").lower() not in SCHEDULES:
        raise named(f"{where}.schedule", kind, SCHEDULES, "schedule")
    fields = {key: _part(entry, f"{where}.{key}") for key, entry in value.items() if key != "schedule"}
    return _call(SCHEDULES[kind.replace("_", "").lower()], fields, where)


def _call(maker: Any, fields: dict[str, Any], where: str) -> Any:
    try:
        return maker(**fields)
    except (TypeError, ValueError) as error:
        raise ExperimentError(f"{where}: {error}") from None


def named(key: str, value: Any, valid: Any, what: str) -> ExperimentError:
    """The error for a name that must be one of ``valid``."""
    if value is None:
        return ExperimentError(f"{key!r} is missing; valid: {', '.join(sorted(valid))}")
    yours = "; one of yours: --plugin FILE.py" if what in ("problem", "method") else ""
    return ExperimentError(f"{key} = {value!r} is not a known {what}; {nearest(str(value), valid)}{yours}")
