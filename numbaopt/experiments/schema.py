"""What may stand in an experiment file, and how a fault in one becomes a sentence."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .._fields import nearest

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Tolerance = Annotated[float, Field(ge=0)]


class ExperimentError(ValueError):
    """An experiment file or its data cannot be used; the sentence says where and why."""


class Strict(BaseModel):
    """A table of the file: no other keys, no conversions, only finite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Relative(Strict):
    """A target as a part of the way: (fun(x) - minimum) <= relative (fun(x0) - minimum)."""

    relative: Annotated[float, Field(gt=0, lt=1)]


class Limits(Strict):
    """Options of a run on every objective: those of `numbaopt.minimize`, and a ``target``.

    A problem adds its own fields, says what it can judge (``metrics``) and whether it is a ``linear`` model.
    """

    metrics: ClassVar[tuple[str, ...]] = ()
    linear: ClassVar[bool] = False

    maxiter: Count | None = None
    gtol: Tolerance | None = None
    ftol: Tolerance = 0.0
    xtol: Tolerance = 0.0
    patience: Positive | None = None
    min_delta: Tolerance = 0.0
    seed: Count = 0
    max_evaluations: Positive | None = None
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    target: float | Relative | None = None

    @field_validator("target", mode="before")
    @classmethod
    def _relative(cls, value: Any) -> Any:
        return check(Relative, value, "target") if isinstance(value, dict) else value

    @classmethod
    def starts_at_random(cls, fields: dict[str, Any]) -> bool:
        """Whether a problem with these fields has another start for every seed."""
        return False


class Batches(Limits):
    """Options of runs on models of data; ``batch_size = "all"`` takes back what a problem says."""

    epochs: Count | None = None
    batch_size: Positive | None = None
    shuffle: bool = True
    accumulate: Positive = 1
    average: Literal["polyak", "ema"] | None = None
    average_from: Count = 0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    max_norm: Tolerance | None = None
    lazy_update: bool = False
    weight_norm: bool = False

    @field_validator("batch_size", mode="before")
    @classmethod
    def _all(cls, value: Any) -> Any:
        return None if value == "all" else value


Table = TypeVar("Table", bound=Strict)


def check(model: type[Table], table: dict[str, Any], where: str, also: tuple[str, ...] = ()) -> Table:
    """``table`` as a ``model``; ``where`` is its key in the file, ``also`` what else would have been valid there.

    Examples
    --------
    >>> from numbaopt.experiments.schema import Limits, check
    >>> check(Limits, {"maxitr": 5}, "methods.m")
    Traceback (most recent call last):
    numbaopt.experiments.schema.ExperimentError: unknown key 'methods.m.maxitr'; did you mean 'maxiter'? valid: ftol,
    gtol, max_evaluations, max_seconds, maxiter, min_delta, patience, seed, target, xtol
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise _told(error, model, table, where, also) from None


def _told(error: ValidationError, model: type[Strict], table: dict[str, Any], where: str,
          also: tuple[str, ...]) -> ExperimentError:  # fmt: skip
    """One sentence on one fault; of keys that are not known first."""
    faults = error.errors(include_url=False)
    fault = min(faults, key=lambda fault: fault["type"] != "extra_forbidden")
    path, told = fault["loc"], fault["input"]
    key = ".".join([where, *map(str, path)] if where else map(str, path))
    if fault["type"] == "extra_forbidden":
        return unknown("key", key, str(path[-1]), [*model.model_fields, *also])
    if fault["type"] == "missing":
        return ExperimentError(f"{key!r} is missing")
    if fault["type"] == "value_error":
        reason = fault["ctx"]["error"]
        return ExperimentError(f"{key} = {told!r}: {reason}" if path and not isinstance(reason, ExperimentError)
                               else f"{where}: {reason}" if where else str(reason))  # fmt: skip
    same = [one for one in faults if one["loc"][:1] == path[:1] and len(one["loc"]) > 1]
    if len(same) > 1 and all(isinstance(one["loc"][1], str) for one in same):  # none of several types
        wanted = " or ".join(one["msg"].removeprefix("Input should be ") for one in same)
        return ExperimentError(f"{where}.{path[0]} = {table[str(path[0])]!r} must be {wanted}")
    if fault["type"] == "literal_error":
        valid = re.findall("'([^']*)'", fault["ctx"]["expected"])
        return ExperimentError(f"{key} = {told!r} is not known; {nearest(str(told), valid)}")
    return ExperimentError(f"{key} = {told!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}")


def unknown(what: str, key: str, word: str, valid: Any) -> ExperimentError:
    """The error for a name that is not known, with the closest one that is."""
    return ExperimentError(f"unknown {what} {key!r}; {nearest(word, valid)}")
