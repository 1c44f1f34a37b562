"""What may stand in an experiment file, and how a fault in one becomes a sentence."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

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


class Limits(Strict):
    """Options of `numbaopt.minimize` for every objective."""

    maxiter: Count | None = None
    gtol: Tolerance | None = None
    ftol: Tolerance = 0.0
    xtol: Tolerance = 0.0


class Batches(Limits):
    """Options of `numbaopt.minimize` for models of data; ``batch_size = "all"`` takes back what a problem says."""

    epochs: Count | None = None
    batch_size: Positive | None = None
    shuffle: bool = True
    seed: Count = 0

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
    gtol, maxiter, xtol
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        fault = min(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
        key = ".".join([where, *map(str, fault["loc"])] if where else map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            raise unknown("key", key, str(fault["loc"][-1]), [*model.model_fields, *also]) from None
        if fault["type"] == "missing":
            raise ExperimentError(f"{key!r} is missing") from None
        raise ExperimentError(f"{key} = {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}") from None


def unknown(what: str, key: str, word: str, valid: Any) -> ExperimentError:
    """The error for a name that is not known, with the closest one that is."""
    return ExperimentError(f"unknown {what} {key!r}; {nearest(word, valid)}")
