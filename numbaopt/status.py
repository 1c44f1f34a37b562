"""Why a run ended: a small int in compiled code, a sentence outside."""

from __future__ import annotations

RUNNING = -1
CONVERGED = 0
STEP_LIMIT = 1
NOT_FINITE = 2
NO_PROGRESS = 3
RAISED = 4
STOPPED = 99

MESSAGES = {
    RUNNING: "Still running.",
    CONVERGED: "Converged.",
    STEP_LIMIT: "The limit on steps was reached before the tolerance.",
    NOT_FINITE: "Diverged: the objective or its gradient is not finite.",
    NO_PROGRESS: "No further progress could be made.",
    RAISED: "The objective raised an exception.",
    STOPPED: "Stopped by the callback.",
}

INTERRUPTED = "Interrupted by the user."  # where no callback can have stopped it

OUT_OF_EVALUATIONS, AT_TARGET, OUT_OF_TIME = 6, 8, 9  # among the reasons

# What a converged run satisfied, or which limit ended one (the field ``reason`` of a run).
REASONS = {
    1: "Converged: no component of the (projected) gradient exceeds gtol.",
    2: "Converged: the objective changed by less than ftol.",
    3: "Converged: the unknowns changed by less than xtol.",
    5: "Converged: the duality gap is at most gtol times the objective, no component of the subgradient exceeds gtol.",
    4: "Converged: no progress for as many epochs as patience allows.",
    7: "Converged: the simplex is no larger than xatol, its objectives differ by no more than fatol.",
    6: "The limit on evaluations was reached before the tolerance.",
    8: "The target was reached.",
    9: "The time that max_seconds allows was used up before the tolerance was met.",
    11: "Converged: the last trial and a full step change the cost by less than ftol times the cost.",
    12: "Converged: the last trial and a full step are shorter than xtol times (xtol + the length of x).",
    13: "Converged: the last trial and a full step change cost and unknowns by less than ftol and xtol ask for.",
}


def message_of(status: int, reason: int) -> str:
    """Why a run ended, in a sentence."""
    return REASONS[reason] if reason and status in (CONVERGED, STEP_LIMIT) else MESSAGES[status]
