"""The tables of a study's file taken apart: which methods run on a problem, with which grids, settings and seeds."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from .build import is_random
from .grids import Axis, count_points, expand, find_axes
from .jobs import Job
from .methods import CLIPS, draws, fields_of, ignores, kind_of, make, named, suits, takes_list
from .registry import PROBLEMS
from .schema import Batches, ExperimentError, Limits, check, unknown

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
MAX_SEEDS = 10_000
LONGEST_NAME = 100
OWN_KEYS = ("problem", "methods", "seeds", "metrics")  # of a problem's table, besides its fields


class Plan(NamedTuple):
    """A method on a problem, before its grid is made."""

    where: str
    label: str
    table: dict[str, Any]
    axes: list[Axis]
    samples: int | None
    search_seed: int
    seeds: list[int]
    settings: type[Limits]

    @property
    def points(self) -> int:
        return count_points(self.axes, self.samples, self.where)


class ProblemTable:
    """A problem's table, taken apart; no grid is made yet."""

    def __init__(self, name: str, table: dict[str, Any], declared: Any):
        self.name, self.where = name, f"problems.{name}"
        if not FILE_NAME.fullmatch(name):
            raise ExperimentError(f"{self.where}: a problem's name becomes file names: letters, digits, ., - and _")
        self.kind = table.get("problem")
        if not isinstance(self.kind, str) or self.kind not in PROBLEMS:
            raise named(f"{self.where}.problem", self.kind, PROBLEMS, "problem")
        self.cls = PROBLEMS[self.kind]
        self.settings = Batches if issubclass(self.cls, Batches) else Limits
        rest = {key: value for key, value in table.items() if key not in OWN_KEYS}
        for key in rest:
            if key not in self.cls.model_fields:
                raise unknown("key", f"{self.where}.{key}", key, [*self.cls.model_fields, *OWN_KEYS])
        self.common = {key: value for key, value in rest.items() if key in self.settings.model_fields}
        self.fields = {key: value for key, value in rest.items() if key not in self.settings.model_fields}
        self.axes = find_axes(self.fields, self.where, self._takes_list)
        if drawn := next((axis for axis in self.axes if not axis.size), None):
            raise ExperimentError(f"{self.where}.{drawn.keys[0]}: problems take lists and ranges, nothing random")
        self.metrics = self._metrics(table)
        where = f"{self.where}.seeds" if "seeds" in table else "seeds"
        self.seeds = seeds_of(table.get("seeds", declared.seeds), where)
        self.entries = dict(self._entries(table, declared))
        self.plans = [self._plan(label, entry, table, declared) for label, entry in self.entries.items()]

    @property
    def count(self) -> int:
        """How many runs there are, at most."""
        variants = math.prod(axis.size for axis in self.axes)
        return variants * sum(plan.points * len(plan.seeds) for plan in self.plans)

    def variants(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The problems of the grid of its own fields, each with a name."""
        plain = {key: value for key, value in self.common.items() if not find_axes({key: value}, self.where)}
        for fields, chosen in expand(self.fields, self.axes, None, self.name, 0):
            check(self.cls, {**fields, **plain}, self.where, OWN_KEYS)
            name = "-".join([self.name, *(f"{key}_{_word(value)}" for key, value in chosen.items())])
            seed = {"seed": plain["seed"]} if "seed" in plain else {}
            yield _short(name), {"problem": self.kind, **fields, **seed}

    def _takes_list(self, keys: tuple[str, ...]) -> bool:
        return "list[" in str(self.cls.model_fields[keys[0]].annotation)

    def _metrics(self, table: dict[str, Any]) -> tuple[str, ...] | None:
        told, known = table.get("metrics"), self.cls.metrics
        if told is None:
            return None
        if not isinstance(told, list) or not all(isinstance(name, str) for name in told):
            raise ExperimentError(f"{self.where}.metrics = {told!r} must be a list of names")
        for name in told:
            if name not in known:
                raise unknown("metric", f"{self.where}.metrics: {name}", name, known)
        return tuple(told)

    def _entries(self, table: dict[str, Any], declared: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        own = table.get("methods", {label: {} for label in declared.methods})
        if not isinstance(own, dict) or not all(isinstance(entry, dict) for entry in own.values()):
            raise ExperimentError(f"{self.where}.methods must be a table of tables, as {{ Adam = {{ lr = 0.1 }} }}")
        for label, entry in own.items():
            if label not in declared.methods:
                raise unknown("method", f"{self.where}.methods.{label}", label, declared.methods)
            if "method" in entry:
                raise ExperimentError(f"{self.where}.methods.{label}.method: what a label means is said once, under "
                                      f"'methods.{label}'")  # fmt: skip
            yield label, entry

    def _plan(self, label: str, entry: dict[str, Any], table: dict[str, Any], declared: Any) -> Plan:
        where = f"methods.{label}" if "methods" not in table else f"{self.where}.methods.{label}"
        if not label.strip() or not label.isprintable():
            raise ExperimentError(f"{where!r}: a label must be printable")
        kind = kind_of(declared.methods[label], f"methods.{label}")
        suits(kind, self.cls, where)
        idle = set(Batches.model_fields) - set(self.settings.model_fields)  # what is said of batches where none are
        general = {key: value for key, value in declared.methods[label].items() if key not in idle}
        said = {**general, **entry}
        for key in said:
            if key not in (*fields_of(kind), *CLIPS) and key in ignores(kind):
                raise ExperimentError(f"{where}.{key}: method {kind!r} has no use for it")
        merged = {key: value for key, value in self.common.items() if key not in ignores(kind)} | said
        samples = merged.pop("samples", None)
        if samples is not None and (type(samples) is not int or samples < 1):
            raise ExperimentError(f"{where}.samples = {samples!r} must be a whole number, at least 1")
        for key in merged:
            if key not in (valid := ("method", *fields_of(kind), *CLIPS, *self.settings.model_fields)):
                raise unknown("key", f"{where}.{key}", key, [*valid, "samples"])
        axes = find_axes(merged, where, lambda keys: takes_list(merged, keys))
        if any(axis.keys == ("seed",) for axis in axes):
            raise ExperimentError(f"{where}.seed: the seeds of runs are a list under the key 'seeds'")
        if self.seeds is not None and "seed" in said:
            raise ExperimentError(f"{where}.seed = {said['seed']!r}: with 'seeds', all methods have the same; leave it "
                                  "out")  # fmt: skip
        seeds = [merged.get("seed", 0)] if self.seeds is None else self.seeds
        if not self._is_random(kind, merged):
            seeds = seeds[:1]
        return Plan(where, label, merged, axes, samples, declared.search_seed, seeds, self.settings)

    def _is_random(self, kind: str, table: dict[str, Any]) -> bool:
        """Whether a run's seed decides anything, or may do so for some problem of the grid."""
        return bool(self.axes) or self.cls.starts_at_random(self.fields) or draws(kind, table, self.settings is Batches)

    def jobs(self, name: str, common: dict[str, Any], plan: Plan) -> Iterator[Job]:
        """The runs of a method on one of the `variants`; ``common`` is what their specs share."""
        for table, settings in expand(plan.table, plan.axes, plan.samples, plan.label, plan.search_seed):
            yield from self.runs(name, common, plan, table, settings)

    def runs(self, name: str, common: dict[str, Any], plan: Plan, table: dict[str, Any],
             settings: dict[str, Any]) -> Iterator[Job]:  # fmt: skip
        """The runs of one point of the plan's grid, whose plain table this is: one a seed."""
        kind = plan.table["method"].lower()
        own = {key: value for key, value in table.items() if key in ("method", *fields_of(kind), *CLIPS)}
        make(own, plan.where)
        rest = {key: value for key, value in table.items() if key not in own}
        checked = check(self.settings, rest, plan.where, (*fields_of(kind), *CLIPS))
        options = checked.model_dump(exclude_none=True, exclude_unset=True)
        options.pop("seed", None)
        spec = {**common, "method": own, "options": options}
        for seed in plan.seeds if is_random(spec) else plan.seeds[:1]:
            yield Job(name, plan.label, settings, seed, {**spec, "seed": seed})


def _word(value: Any) -> str:
    """A value as a part of a file's name."""
    text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9.]+", "_", text.replace("+", "")).strip("_")


def _short(name: str) -> str:
    """A name that fits into that of a file, the end of a long one made a hash."""
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{zlib.crc32(name.encode()):08x}"


def seeds_of(told: Any, where: str) -> list[int] | None:
    """The seeds of ``seeds = 10`` or a list of them; None where nothing is said."""
    if told is None:
        return None
    if type(told) is int and 1 <= told <= MAX_SEEDS:
        return list(range(told))
    if isinstance(told, list) and told and all(type(seed) is int and seed >= 0 for seed in told):
        if len(told) > MAX_SEEDS or len(set(told)) < len(told):
            raise ExperimentError(f"{where} names a seed twice, or more than {MAX_SEEDS}")
        return told
    raise ExperimentError(f"{where} = {told!r} must be how many there are, from 1 to {MAX_SEEDS}, or a list of them")
