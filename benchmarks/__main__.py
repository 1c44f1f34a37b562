"""``python -m benchmarks [names] [--markdown] [--quick]``: time numbaopt against its peers, all in one run.

Of ``gpu`` also one part alone: gpu.steps, gpu.sums, gpu.epochs, gpu.gradients, gpu.fits, gpu.crossover.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from pathlib import Path

from .report import as_markdown, as_text, machine

NAMES = ("step", "rosenbrock", "gradients", "first_call", "epoch", "sparse", "network", "stream", "suboptimality",
         "more_garbow_hillstrom", "least_squares", "many", "compiled_callers", "without_tuning", "gpu")
GPU = ("steps", "sums", "epochs", "gradients", "fits", "crossover")
ABOUT = """Each time is the median of rounds in which the contestants take turns, ± half the distance of the quartiles.
"3x" is a contestant's time over ours, in brackets its quartiles over rounds and the ratio of the fastest rounds."""


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmarks named on the command line, by default all."""
    lines = "\n".join(f"  {name:23}{_about(name)}" for name in NAMES)
    parser = argparse.ArgumentParser("python -m benchmarks", description=f"{__doc__}\n{lines}",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("names", nargs="*", type=_known, metavar="name", help="which ones; all by default")
    parser.add_argument("--markdown", action="store_true", help="tables for a README")
    parser.add_argument("--quick", action="store_true", help="few and small rounds: does it run at all?")
    given = parser.parse_args(arguments)
    show = as_markdown if given.markdown else as_text
    for wanted in given.names or NAMES:
        name, _, part = wanted.partition(".")
        run = importlib.import_module(f"{__package__}.{name}").run  # what others need may not be installed
        for table in run(given.quick, part) if part else run(given.quick):
            print(show(table), flush=True)
    print(f"\n{ABOUT}\n\n{machine()}\nReproduce with: python -m benchmarks {' '.join(given.names)}".rstrip())


def _about(name: str) -> str:
    """The first line of what a benchmark says of itself."""
    source = Path(__file__).with_name(f"{name}.py").read_text("utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _known(name: str) -> str:
    """A benchmark, or a part of that for a GPU."""
    if name not in NAMES and name not in [f"gpu.{part}" for part in GPU]:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(NAMES)}")
    return name


if __name__ == "__main__":
    sys.exit(main())
