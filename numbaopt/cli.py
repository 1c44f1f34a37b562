"""The command line: ``numbaopt run FILE`` and ``numbaopt methods``."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any, NoReturn

EXTRAS = ("typer", "pydantic", "matplotlib", "sklearn")
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


def run_experiment(file: Path, data: Path | None, out: Path | None) -> None:
    """What ``numbaopt run`` does."""
    out = out or Path("runs") / file.stem
    try:
        from .experiments import ExperimentError, load, run

        try:
            run(load(file, data), out)
        except ExperimentError as error:
            fail(str(error))
    except ModuleNotFoundError as error:
        missing(error)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        fail(f"{error.filename or out}: {(error.strerror or str(error)).lower()}")
    print(f"Everything is in {out}:")
    for path in sorted(out.iterdir()):
        if path.suffix in (".json", ".csv", ".png") and not path.name.startswith("."):
            print(f"  {path}")


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
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Optimization for NumPy, SciPy and Numba: every step and every loop compiled.",
    )

    @app.command("run")
    def _run(
        file: Annotated[Path, typer.Argument(help="An experiment file (TOML).", show_default=False)],
        data: Annotated[Path | None, typer.Option(help="LIBSVM or CSV file in the place of the file's tables.")] = None,
        out: Annotated[Path | None, typer.Option(help="Where to write; runs/<name of FILE> if not given.")] = None,
    ) -> None:
        """Run every method on every problem of FILE; print tables, write results, curves and pictures."""
        run_experiment(file, data, out)

    @app.command("methods")
    def _methods() -> None:
        """List the methods with their state, abilities and defaults."""
        list_methods()
