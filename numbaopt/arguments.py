"""What `numbaopt.minimize` is given, checked at the door and turned into what the driver wants."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from ._fields import nearest
from ._warnings import warn_user
from .automatic import Automatic
from .optimizers._program import parts_of
from .optimizers._rule import OPTIMIZERS
from .optimizers.after import Proximal
from .run import Batches
from .solvers import SOLVERS

MAXITER, MAX_STEPS = 10_000, 2**62 - 1
EPOCHS = 10
LINEAR_EPOCHS = 1000  # of methods that converge linearly
HISTORY_ROWS = 1000
# Options that are not fields of an optimizer, with their defaults.
OPTIONS = {
    "maxiter": None, "gtol": None, "ftol": 0.0, "xtol": 0.0, "batch_size": None, "epochs": None, "shuffle": True,
    "seed": 0, "history": True, "progress": False, "disp": False, "checkpoint": None, "jit": None, "accumulate": 1,
    "average": None, "average_from": 0, "ema_decay": 0.999, "max_norm": None, "patience": None, "min_delta": 0.0,
    "validation": None, "run": None, "lazy_update": False, "weight_norm": False, "f_target": None,
    "max_evaluations": None, "max_seconds": None, "device": None,
}  # fmt: skip
DEVICES = ("cpu", "cuda")
BATCH_OPTIONS = ("batch_size", "epochs", "accumulate", "lazy_update")


def split_options(opt: Any, options: dict[str, Any], tol: float | None = None) -> tuple[Any, dict[str, Any]]:
    """The optimizer with its fields taken from the options, else from ``tol``, and what is left of them."""
    options = {getattr(opt, "translates", {}).get(key, key): value for key, value in options.items()}
    for name in getattr(opt, "tolerances", ()) if tol is not None else ():
        if name in opt._fields:
            options.setdefault(name, tol)
    fields = opt.parts[-1]._fields if hasattr(opt, "parts") else opt._fields
    mine = {key: options.pop(key) for key in list(options) if key in fields}
    if mine and hasattr(opt, "parts"):
        opt = opt._replace(parts=(*opt.parts[:-1], opt.parts[-1]._replace(**mine)))
    elif mine:
        opt = opt._replace(**mine)
    other = getattr(opt, "either", None)
    if other and getattr(opt, other) is None and options.get("maxiter") is not None:
        opt = opt._replace(**{other: float("inf")})
    elif other and getattr(opt, other) is not None:
        options.setdefault("maxiter", MAX_STEPS)
    for key in [key for key in options if key in getattr(opt, "unknown_to", ())]:
        warn(f"option {key!r} has no effect on {type(opt).__name__}")
        del options[key]
    for key in [key for key in options if key not in OPTIONS]:
        warn(f"unknown option {key!r} for {type(parts_of(opt)[-1]).__name__}; {nearest(key, [*fields, *OPTIONS])}")
        del options[key]
    return opt, options


def settle_rate(method: Any, opt: Any, options: dict[str, Any], model: bool) -> dict[str, Any]:
    """The options, with an `Automatic` rate where the user leaves it to us.

    That is where a rule is named for a function and no ``lr``, or where ``lr`` is None.  A rule's own default stands
    for it in minibatches, and where something else than the objective at the iterates judges the run.
    """
    rule = parts_of(opt)[-1]
    if hasattr(opt, "solver") or "lr" not in getattr(rule, "_fields", ()):
        return options
    asked = "lr" in options and options["lr"] is None
    if not asked and ("lr" in options or model or not isinstance(method, str)):
        return options
    batches = model and options.get("batch_size") is not None
    former = options.get("run")
    goes_on = former is not None and len(getattr(former, "state", ())) == len(opt.slots)  # with a rate that was told
    if batches or goes_on or any(options.get(key) is not None for key in ("validation", "average")):
        return {**options, "lr": type(rule)._field_defaults["lr"]}
    found: Any = Automatic
    return {**options, "lr": found()}


def settings_of(opt: Any, tol: float | None, options: dict[str, Any], n: int) -> dict[str, Any]:
    """All options of a run of ``n`` unknowns: those given, else what ``tol`` sets, the method's own, everybody's."""
    tolerances = {} if tol is None else dict.fromkeys(getattr(opt, "tolerances", ("gtol",)), tol)
    own = {key: value(n) if callable(value) else value for key, value in getattr(opt, "defaults", {}).items()}
    return {**OPTIONS, **own, **tolerances, **options}


def batches_of(problem: Any, settings: dict[str, Any], given: dict[str, Any],
               incremental: bool = False) -> tuple[Batches | None, int]:
    """How the terms are visited, if in batches; and the most steps."""
    maxiter = None if settings["maxiter"] is None else count("maxiter", settings["maxiter"])
    epochs = None if settings["epochs"] is None else count("epochs", settings["epochs"])
    terms = getattr(problem, "n_terms", None)
    if terms is None:
        for key in BATCH_OPTIONS:
            if key in given:
                warn(f"option {key!r} has no effect: fun is not a sum of terms such as LinearModel or FiniteSum")
        return None, MAXITER if maxiter is None else maxiter
    if incremental:
        for key in ("batch_size", "accumulate"):
            if settings[key] not in (None, 1):
                raise ValueError(f"{key}={settings[key]!r}: a step of this method is of one term; leave it out")
        settings = {**settings, "batch_size": 1}
    if settings["batch_size"] is None:
        return None, min((v for v in (maxiter, epochs) if v is not None), default=MAXITER)  # an epoch is one step
    batch = count("batch_size", settings["batch_size"], 1)
    size = min(batch * count("accumulate", settings["accumulate"], 1), terms)
    seed = count("seed", settings["seed"])
    batches = Batches(terms, size, bool(settings["shuffle"]), seed, settings["history"] is not False, min(batch, size),
                      bool(settings["lazy_update"]))
    limits = [maxiter] if maxiter is not None else []
    if epochs is not None or maxiter is None:
        limits.append(batches.per_epoch * ((LINEAR_EPOCHS if incremental else EPOCHS) if epochs is None else epochs))
    return batches, min(limits)


def device_of(problem: Any, opt: Any, settings: dict[str, Any]) -> str | None:
    """Where a run takes its steps: "cuda", or None for this CPU."""
    device = settings["device"]
    if device is not None and device not in DEVICES:
        raise ValueError(f"device={device!r} is not known; valid are {', '.join(map(repr, DEVICES))}")
    if device != "cuda":
        return None
    from .cuda.training.slices import refuse

    refuse(problem, opt)
    return "cuda"


def after_of(problem: Any, opt: Any) -> tuple[Any, ...]:
    """What comes after the rule: proximal steps where the problem has an l1."""
    l1, rule = getattr(problem, "l1", 0.0), type(parts_of(opt)[-1])
    if hasattr(opt, "solver") or l1 == 0:
        return ()
    if not hasattr(rule, "scale"):
        raise ValueError(f"l1={l1} needs a rule with scale(c, s, i), by how much it moves a coordinate for a unit of "
                         f"gradient; {rule.__name__} has none")  # fmt: skip
    proximal: Any = Proximal
    return (proximal(l1, problem.n - problem.n_penalised),)


def average_of(settings: dict[str, Any], batches: Batches | None, first: int) -> tuple[int, float] | None:
    """The step after which iterates are averaged, and by which decay."""
    average = settings["average"]
    if average is None:
        return None
    if average not in ("polyak", "ema"):
        raise ValueError(f"average={average!r} is not known; {nearest(str(average), ('polyak', 'ema'))}")
    decay = nonnegative("ema_decay", settings["ema_decay"])
    if decay >= 1:
        raise ValueError(f"ema_decay={decay} must be in [0, 1)")
    later = count("average_from", settings["average_from"]) * (1 if batches is None else batches.per_epoch)
    start = first + later if later else 0  # a run that is taken over goes on with its average
    return start, 1.0 if average == "polyak" else decay


def rows_of_average(batches: Batches | None) -> int:
    """The rows of state that an average takes: itself and, where every step judges it, its gradient."""
    return 2 if batches is None else 1


def refuse_for_solvers(opt: Any, settings: dict[str, Any]) -> None:
    """Options that belong to first-order rules."""
    keys = ["average", "max_norm", "lazy_update", "weight_norm"]
    keys += [] if getattr(opt, "incremental", False) else ["batch_size"]
    for key in keys:
        if settings[key]:
            raise ValueError(f"{key}={settings[key]!r} needs a first-order rule, not {type(opt).__name__}")


def refuse_for_weight_norm(settings: dict[str, Any], bounds: bool) -> None:
    """What coefficients cannot be asked for that are trained as directions and lengths."""
    reasons = {"bounds": "they hold for single coefficients", "max_norm": "the length is an unknown of its own",
               "lazy_update": "a length is moved by every row"}  # fmt: skip
    for key, reason in reasons.items():
        if bounds if key == "bounds" else settings[key]:
            raise ValueError(f"weight_norm=True is not possible with {key}: {reason}; leave one of them out")


def refuse_unjudged(settings: dict[str, Any], batches: Batches | None) -> None:
    """What goes by the objective of every epoch, where ``history=False`` spares that."""
    if batches is None or batches.whole:
        return
    if settings["patience"] is not None and settings["validation"] is None:
        raise ValueError("patience needs the objective of every epoch, which history=False spares, or a validation")
    for key in ("f_target", "max_evaluations"):
        if settings[key] is not None:
            raise ValueError(f"{key} needs the objective of every epoch, which history=False spares")


def score_of(validation: Any, n: int) -> Any:
    """``validation`` as a function of a point, the higher the better."""
    if validation is None:
        return None
    if hasattr(validation, "n_terms"):
        if getattr(validation, "n", n) != n:
            raise ValueError(f"validation has {validation.n} unknowns, the problem {n}")
        return lambda x: -validation.value(x)
    if not callable(validation):
        raise TypeError("validation must be a problem such as LinearModel(X, y) or a function of x that returns a "
                        f"score, not of type {type(validation).__name__}")  # fmt: skip
    return lambda x: validation(x.copy())


def further_args(args: Any) -> tuple:
    """Further arguments of a function as a tuple."""
    named = isinstance(args, str) and args.lower() in (*OPTIMIZERS, *SOLVERS)
    if named or (hasattr(args, "slots") and hasattr(args, "lr")):
        raise TypeError(f"args={args!r} is a method, but the third argument is what fun takes besides x: write "
                        f"method={args!r}")  # fmt: skip
    return args if isinstance(args, tuple) else (args,)


def unknowns(x0: Any, fun: Any = None, single: bool = False) -> np.ndarray:
    """``x0`` as a new float64 vector; with ``single`` a float32 one where it is such an array."""
    if x0 is None and hasattr(fun, "steps_per_epoch"):
        raise TypeError(f"fun is a source of chunks, {fun!r}: numbaopt.stream.minimize trains on such")
    if x0 is None:
        raise ValueError("x0 is not given: a function tells neither how many unknowns it has nor where to start")
    array = np.asarray(x0)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"x0 must hold real numbers, not {array.dtype}")
    if array.ndim > 1:
        raise ValueError(f"x0 must only have one dimension, not shape {array.shape}")
    if array.size == 0:
        raise ValueError("x0 is empty: there is nothing to minimize over")
    return np.array(np.atleast_1d(array), dtype_of(x0) if single else np.float64)


def dtype_of(x0: Any) -> np.dtype:
    """In which dtype to look for unknowns that start there: float32 only if they are an array of it."""
    single = isinstance(x0, np.ndarray) and x0.dtype.newbyteorder("=") == np.float32
    return np.dtype(np.float32 if single else np.float64)


def start_of(model: Any, x0: Any) -> np.ndarray:
    """Where to start on a problem that has its own data."""
    if hasattr(model, "bind"):
        if x0 is None:
            raise ValueError("x0=None is not possible: only x0 tells how many unknowns the function of a FiniteSum has")
        return unknowns(x0)
    x0 = np.zeros(model.n) if x0 is None else unknowns(x0)
    if x0.size != model.n:
        intercept = " and an intercept" if model.fit_intercept else ""
        raise ValueError(f"x0 has shape {x0.shape}, the model has {model.n_features} coefficients{intercept}")
    return x0


def limits_of(bounds: Any, x0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds as vectors, or two empty ones."""
    empty = np.zeros(0)
    if bounds is None:
        return empty, empty
    if hasattr(bounds, "lb"):
        low, high = bounds.lb, bounds.ub
    else:
        try:
            low, high = zip(*bounds, strict=True)
        except (TypeError, ValueError):
            raise ValueError("bounds must be a sequence of (low, high) pairs or a scipy.optimize.Bounds") from None
    low, high = _vector(low, -np.inf, x0), _vector(high, np.inf, x0)
    if not np.all(low <= high):
        i = int(np.argmin(low <= high))
        raise ValueError(f"bounds: {wrong_bound(low[i], high[i])} at component {i}")
    if np.all(np.isinf(low) & np.isinf(high)):
        return empty, empty
    return low, high


def wrong_bound(low: float, high: float) -> str:
    """What is wrong with a pair of bounds."""
    return "the lower one exceeds the upper one" if low > high else f"({low}, {high}) is not a pair of numbers"


def _vector(bound: Any, default: float, x0: np.ndarray) -> np.ndarray:
    """One side of the bounds as a vector like x0, None meaning no bound."""
    try:
        bound = np.broadcast_to(np.asarray(bound, object), x0.shape)
    except ValueError:
        raise ValueError(f"bounds are not of the length of x0, {x0.size}") from None
    return np.array([default if b is None else b for b in bound], float)


def count(name: str, value: Any, least: int = 0) -> int:
    try:
        number = operator.index(int(value) if isinstance(value, float) and value.is_integer() else value)
    except TypeError:
        raise TypeError(f"{name}={value!r} must be an integer") from None
    if number < least or number > MAX_STEPS:
        raise ValueError(f"{name}={value!r} must be at least {least}")
    return number


def target_of(settings: dict[str, Any]) -> float:
    """The objective that is low enough; -inf where none is."""
    given = settings["f_target"]
    try:
        target = -math.inf if given is None else float(given)
    except (TypeError, ValueError):
        raise TypeError(f"f_target={given!r} must be a number") from None
    if math.isnan(target):
        raise ValueError(f"f_target={given!r} must be a number")
    return target


def most_evaluations(settings: dict[str, Any], calls: int) -> float:
    """After how many evaluations a run ends of which each calls the objective so often; inf where nobody says."""
    given = settings["max_evaluations"]
    return math.inf if given is None else float(-(-count("max_evaluations", given, 1) // calls))


def nonnegative(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} must be a number in [0, inf)") from None
    if not number >= 0:
        raise ValueError(f"{name}={value!r} must be in [0, inf)")
    return number


def warn(text: str) -> None:
    from scipy.optimize import OptimizeWarning

    warn_user(text, OptimizeWarning)
