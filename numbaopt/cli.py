"""The command line: ``numbaopt run``, ``resume``, ``tune``, ``list``, ``show``, ``export``, ``report``, ``methods``."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

EXTRAS = ("typer", "pydantic", "matplotlib", "sklearn", "joblib", "jinja2")
INSTALL = "pip install 'numbaopt[all]'"


def fail(message: str) -> NoReturn:
    """One sentence on stderr, exit code 2."""
    print(f"numbaopt: {message}", file=sys.stderr)
    raise SystemExit(2)


def missing(error: ModuleNotFoundError) -> NoReturn:
    """Say what to install; errors about other modules are not ours to explain."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        raise error
    fail(f"this needs {package}, which is not installed; {INSTALL}")


@contextmanager
def told(out: Path | None = None, plugins: Sequence[Path] = (), again: str = "") -> Iterator[None]:
    """Faults of files and arguments as one sentence and exit code 2, Ctrl-C and SIGTERM as 130 and 143.

    ``again`` is the command that goes on with what was begun in ``out``, ``numbaopt resume`` if not given.
    """
    try:
        from .experiments import ExperimentError
    except ModuleNotFoundError as error:
        missing(error)
    signals: list[int] = []

    def ended(number: int, frame: Any) -> NoReturn:
        signals.append(number)
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, ended) if main else None
    try:
        yield
    except ExperimentError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        missing(error)
    except KeyboardInterrupt:
        words = ["numbaopt", "resume", str(out), *(word for plugin in plugins for word in ("--plugin", str(plugin)))]
        kept = f"; what is done is kept, go on with: {again or shlex.join(words)}" if out else ""
        print(f"numbaopt: interrupted{kept}", file=sys.stderr)
        raise SystemExit(128 + (signals or [signal.SIGINT])[0]) from None
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        fail(f"{error.filename or out}: {(error.strerror or str(error)).lower()}")
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def make_runs(out: Path, how: dict[str, Any], quiet: bool, lines: bool, plugins: list[Path],
              study: Callable[[], Any] | None = None) -> None:  # fmt: skip
    """What ``numbaopt run`` and ``numbaopt resume`` do; exit code 1 if a run failed."""
    with told(out, plugins):
        if not (quiet or lines):  # what draws the report should be known to be there before the work is done
            import jinja2  # noqa: F401
            import matplotlib.figure  # noqa: F401

        from .experiments import How, progress, resume, run

        show = progress.Quiet if quiet else progress.Lines if lines else progress.Tables
        counts = run(study(), out, How(**how), show) if study else resume(out, How(**how), show, plugins)
        if not (quiet or lines):
            print(f"Everything is in {draw(out, plugins)}; numbaopt list, show and export tell more.")
            if counts["failed"]:
                print(f"{counts['failed']} runs failed: numbaopt list {shlex.quote(str(out))} --status failed")
        raise SystemExit(1 if counts["failed"] else 0)


def tune_methods(file: Path, out: Path, effort: dict[str, Any], quiet: bool, lines: bool, **more: Any) -> None:
    """What ``numbaopt tune`` does; exit code 1 if a trial failed."""
    with told(out, again="the same command"):
        from .experiments import progress
        from .experiments.trials import Effort
        from .experiments.tuning import as_object, tune

        show = progress.Quiet if quiet else progress.Lines if lines else progress.Trials
        found = tune(file, out, effort=Effort(**effort), show=show, **more)
        for tuned in found:
            if lines:
                print(as_object(tuned))
            elif not quiet:
                _tell(tuned)
        failed = sum(tuned.trials["failed"] for tuned in found)
        if not (quiet or lines):
            print(f"\nEverything is in {draw(out, more['plugins'])}; numbaopt list, show and export tell more.")
            if failed:
                print(f"{failed} trials failed: numbaopt list {shlex.quote(str(out))} --status failed")
        raise SystemExit(1 if failed else 0)


def _tell(tuned: Any) -> None:
    """The best settings of a method on a problem, to be pasted into a file."""
    counts = ", ".join(f"{count} {what}" for what, count in tuned.trials.items() if count)
    print(f"\n# {tuned.method} on {tuned.problem}: {sum(tuned.trials.values())} trials ({counts or 'none'})")
    if not tuned.table:
        print("# none has come to an end without diverging or failing")
        return
    before = f", {tuned.before:.6g} before" if tuned.before == tuned.before else ""
    print(f"# {tuned.measure} {tuned.value:.6g}{before}\n[methods]\n{tuned.toml}")


def draw(out: Path, plugins: Sequence[Path]) -> Path:
    """The report of a study, with figures as its file asks for."""
    from .experiments.reports import report

    return report(out, plugins=plugins)


def list_runs(out: Path, lines: bool, **filters: Any) -> None:
    """What ``numbaopt list`` does."""
    with told():
        from .experiments import progress
        from .experiments.store import Store

        with Store.open(out) as store:
            rows = store.runs(**{name: value for name, value in filters.items() if value is not None})
        if lines:
            for row in rows:
                print(json.dumps(progress.as_object(row), allow_nan=False))
            return
        print(f"{'id':<10}{'status':<9}{'fun':>13}{'seconds':>10}  problem, method, settings, seed")
        for row in rows:
            settings = "".join(f", {name}={value}" for name, value in row.settings.items())
            what = f"{row.problem}, {row.method}{settings}, {row.seed}"
            print(f"{row.id[:8]:<10}{row.status:<9}{row.fun:>13.6g}{row.seconds:>10.3g}  {what}")


def show_run(out: Path, run: str, lines: bool) -> None:
    """What ``numbaopt show`` does."""
    with told():
        from .experiments import progress
        from .experiments.store import Store

        with Store.open(out) as store:
            row = store.run(run)
            curve = store.curve(row.id)
        told_of = {**progress.as_object(row), "x": None if row.x is None else row.x.tolist(), "spec": row.spec,
                   "about": row.about}  # fmt: skip
        if lines:
            print(json.dumps(progress.finite({**told_of, "curve": {k: v.tolist() for k, v in curve.items()}})))
            return
        for key, value in told_of.items():
            if key == "error" and value:
                print(f"error\n{textwrap.indent(value.rstrip(), '    ')}")
            elif value not in (None, "", {}):
                print(f"{key:<10}{value if isinstance(value, str) else json.dumps(progress.finite(value))}")
        print(f"{'curve':<10}{len(curve.get('step', ()))} points of {' '.join(curve)}")


def export_runs(out: Path, kinds: list[str], to: Path | None) -> None:
    """What ``numbaopt export`` does."""
    with told():
        from .experiments.export import export
        from .experiments.store import Store

        if not kinds:
            fail("export needs --csv or --parquet")
        with Store.open(out) as store:
            for kind in kinds:
                for path in export(store, to or out, kind):
                    print(path)


def warm_up(parts: list[str] | None) -> None:
    """What ``numbaopt warmup`` does."""
    from .warmup import PARTS, warmup

    began = time.perf_counter()
    try:
        count = warmup(parts or PARTS, lambda what: print(f"  {what}", flush=True))
    except ValueError as error:
        fail(str(error))
    print(f"{count} pieces in {time.perf_counter() - began:.0f} s; they are kept in the disk cache.")


def report_study(out: Path, formats: list[str], plugins: list[Path]) -> None:
    """What ``numbaopt report`` does."""
    with told():
        from .experiments.reports import report

        print(report(out, formats or None, plugins))


def list_methods() -> None:
    """What ``numbaopt methods`` prints."""
    from .methods import methods

    rows = [(" or ".join((m.name, *m.aliases)), m.optimizer.__name__, " ".join(m.slots) or "-",
             *("yes" if able else "no" for able in (m.bounds, m.sparse, m.stochastic, m.lazy_update)),
             _shown(m.defaults)) for m in methods()]  # fmt: skip
    head = ("method", "class", "state", "bounds", "sparse", "batches", "lazy", "defaults")
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)][:-1]
    indent = sum(widths) + 2 * len(widths)
    width = max(shutil.get_terminal_size((120, 24)).columns, indent + 30)
    for row in (head, *rows):
        begin = "".join(f"{cell:<{size}}  " for cell, size in zip(row, widths, strict=False))
        print(textwrap.fill(row[-1], width, initial_indent=begin, subsequent_indent=" " * indent).rstrip())


def _shown(defaults: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in defaults.items())


try:
    import pydantic  # noqa: F401  typer uses it, too
    import typer
except ModuleNotFoundError as _error:
    _missing = _error

    def app() -> None:
        """Stands in for the command line where a package that it needs is not installed."""
        missing(_missing)

else:
    app = typer.Typer(
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Optimization for NumPy, SciPy and Numba: every step and every loop compiled.",
    )

    Out = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a study.", show_default=False)]
    Json = Annotated[bool, typer.Option("--json", help="JSON, one object a line, for other programs.")]
    Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but faults.")]
    Jobs = Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Processes; all cores if not given.")]
    Scheduler = Annotated[str | None, typer.Option(metavar="ADDRESS|local", help="Run on a Dask cluster.")]
    Timing = Annotated[bool, typer.Option("--timing", help="One run at a time, in rounds, for the sake of the times.")]

    Plugin = Annotated[list[Path] | None, typer.Option(help="Python file with problems and rules of yours.")]

    @app.command("run")
    def _run(
        file: Annotated[Path, typer.Argument(help="A study's file (TOML).", show_default=False)],
        out: Annotated[Path | None, typer.Option(help="Where to write; runs/<name of FILE> if not given.")] = None,
        data: Annotated[Path | None, typer.Option(help="Folder of data sets, or a file in the place of all.")] = None,
        plugin: Plugin = None,
        jobs: Jobs = None,
        scheduler: Scheduler = None,
        timing: Timing = False,
        quiet: Quiet = False,
        lines: Json = False,
    ) -> None:
        """Run every method on every problem of FILE; where DIR holds a beginning of it, go on.

        Exit code 0: all runs are done; 1: some failed; 2: something cannot be used; 130, 143: interrupted.
        """

        def study() -> Any:
            from .experiments import load

            return load(file, data, plugin or ())

        how = {"jobs": jobs, "scheduler": scheduler, "timing": timing}
        make_runs(out or Path("runs") / file.stem, how, quiet, lines, plugin or [], study)

    @app.command("resume")
    def _resume(
        out: Out,
        plugin: Plugin = None,
        jobs: Jobs = None,
        scheduler: Scheduler = None,
        timing: Timing = False,
        retry: Annotated[bool, typer.Option("--retry", help="Make runs that failed once more.")] = False,
        quiet: Quiet = False,
        lines: Json = False,
    ) -> None:
        """Go on with a study that was interrupted; exit codes are those of run."""
        how = {"jobs": jobs, "scheduler": scheduler, "timing": timing, "retry": retry}
        make_runs(out, how, quiet, lines, plugin or [])

    @app.command("tune")
    def _tune(
        file: Annotated[Path, typer.Argument(help="A study's file (TOML).", show_default=False)],
        method: Annotated[
            list[str] | None, typer.Option(help="A label of FILE, or any method; all of FILE if none; again for more.")
        ] = None,
        problem: Annotated[list[str] | None, typer.Option(help="Of FILE; all if none; may be given again.")] = None,
        trials: Annotated[int | None, typer.Option(min=1, help="In all; 50 if nothing else is limited.")] = None,
        seconds: Annotated[float | None, typer.Option(min=0, help="After which no trial begins.")] = None,
        evaluations: Annotated[int | None, typer.Option(min=1, help="Of the objective, in all.")] = None,
        out: Annotated[Path | None, typer.Option(help="Where to; runs/<name of FILE>-tuned if not given.")] = None,
        data: Annotated[Path | None, typer.Option(help="Folder of data sets, or a file in the place of all.")] = None,
        plugin: Annotated[list[Path] | None, typer.Option(help="Python file with problems and rules of yours.")] = None,
        jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes.")] = 1,
        scheduler: Scheduler = None,
        pruner: Annotated[str, typer.Option(help="Ends bad trials early: median, hyperband or none.")] = "median",
        seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
        quiet: Quiet = False,
        lines: Json = False,
    ) -> None:
        """Search for the best settings of methods on each problem of FILE; where DIR holds a beginning of it, go on.

        What a method's table has of lists and ranges is searched, or a range around each of its numbers. Exit code 0:
        done; 1: some trials failed; 2: something cannot be used; 130, 143: interrupted.
        """
        effort = {"trials": trials, "seconds": seconds, "evaluations": evaluations, "jobs": jobs, "pruner": pruner,
                  "seed": seed, "scheduler": scheduler}  # fmt: skip
        tune_methods(file, out or Path("runs") / f"{file.stem}-tuned", effort, quiet, lines, methods=method or (),
                     problems=problem or (), data=data, plugins=plugin or ())  # fmt: skip

    @app.command("list")
    def _list(
        out: Out,
        status: Annotated[str | None, typer.Option(help="Only those: waiting, running, done or failed.")] = None,
        problem: Annotated[str | None, typer.Option(help="Only those of a problem.")] = None,
        method: Annotated[str | None, typer.Option(help="Only those of a method.")] = None,
        lines: Json = False,
    ) -> None:
        """List the runs of a study, also while it runs."""
        list_runs(out, lines, status=status, problem=problem, method=method)

    @app.command("show")
    def _show(
        out: Out,
        run: Annotated[str, typer.Argument(help="The beginning of a run's id.", show_default=False)],
        lines: Json = False,
    ) -> None:
        """Tell all of a run: what was asked, what came of it, on which machine."""
        show_run(out, run, lines)

    @app.command("export")
    def _export(
        out: Out,
        csv: Annotated[bool, typer.Option("--csv", help="Write runs.csv and curves.csv.")] = False,
        parquet: Annotated[bool, typer.Option("--parquet", help="Write runs.parquet and curves.parquet.")] = False,
        to: Annotated[Path | None, typer.Option(help="Where to; DIR if not given.")] = None,
    ) -> None:
        """Write the runs and curves of a study as tables for other programs."""
        export_runs(out, [kind for kind, wanted in (("csv", csv), ("parquet", parquet)) if wanted], to)

    @app.command("report")
    def _report(
        out: Out,
        kinds: Annotated[
            list[str] | None, typer.Option("--format", help="Of the figures: svg, png, pdf; again for more.")
        ] = None,
        plugin: Plugin = None,
    ) -> None:
        """Write DIR/report.html, one page with all figures in it, and the figures as files into DIR/figures."""
        report_study(out, kinds or [], plugin or [])

    @app.command("warmup")
    def _warmup(
        part: Annotated[list[str] | None, typer.Argument(help="Of rules, methods, models; all if none.")] = None,
    ) -> None:
        """Compile the common loops now and keep them on disk: minutes once, none later."""
        warm_up(part)

    @app.command("methods")
    def _methods() -> None:
        """List the methods with their state, abilities and defaults."""
        list_methods()
