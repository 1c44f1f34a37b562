"""What a study shows: one page with all figures in it, and the figures as files; ``numbaopt report DIR``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..._look import styles
from ..build import Built, build
from ..lock import Lock
from ..registry import check_named
from ..report import write
from ..schema import ExperimentError
from ..store import Store
from .figures import FORMATS
from .page import Drawings, compose
from .summary import Study

__all__ = ["report"]


def report(
    directory: str | os.PathLike, formats: Sequence[str] | None = None, plugins: Sequence[str | os.PathLike] = ()
) -> Path:
    """Write ``report.html`` into a study's folder, and its figures into ``figures`` beside it.

    The page needs nothing but itself.  A study that still runs is reported as it stands; the same runs make the same
    bytes.

    Parameters
    ----------
    directory : path
        A study's folder.
    formats : sequence of {"svg", "png", "pdf"}, optional
        Of the files in ``figures``, by default what the study's file says; they are one column of a journal wide
        (3.4 inches).
    plugins : sequence of path
        Files with problems of the study's that may be run: a folder may come from somebody else.  Problems of other
        files are reported without what only they know (their optimum and contours).

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ExperimentError
        If there is no study, a format is unknown, or something cannot be written.
    """
    for kind in formats or ():
        if kind not in FORMATS:
            raise ExperimentError(f"format {kind!r} is unknown; those known are {', '.join(FORMATS)}")
    directory = Path(directory)
    with Store.open(directory) as store:
        study = Study(store, partial(_built, tuple(plugins)))
    _keep(directory, study)
    out, folder = directory / "report.html", directory / "figures"
    for place in (out, folder):
        if place.is_symlink():
            raise ExperimentError(f"{place} is a symbolic link; name the place itself")
    try:
        folder.mkdir(exist_ok=True)
        drawings = Drawings(formats or study.output.formats, lambda name, content: write(folder / name, content))
        return write(out, compose(study, styles(study.methods), drawings))
    except OSError as error:
        raise ExperimentError(f"{error.filename or out}: {(error.strerror or str(error)).lower()}") from None


def _keep(directory: Path, study: Study) -> None:
    """Write down the optima that had to be found, where nobody runs the study now."""
    if study.solved:
        with suppress(ExperimentError), Lock(directory), Store.open(directory, write=True) as store:
            for spec, origin, value in study.solved:
                store.keep_optimum(spec, origin, value)


def _built(plugins: Sequence[str | os.PathLike], spec: dict[str, Any]) -> Built:
    """What a spec describes, if that runs no code but ours and what is named."""
    check_named(plugins, spec)
    return build(spec)
