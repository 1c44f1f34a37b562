"""``python -m benchmarks [names] [--markdown] [--quick]``: time numbaopt against its peers, all in one run."""

from __future__ import annotations

import argparse
import importlib
import sys

from .report import as_markdown, as_text, machine

NAMES = ("step", "rosenbrock", "gradients", "first_call", "epoch", "sparse", "network", "stream", "suboptimality",
         "more_garbow_hillstrom", "least_squares", "many", "compiled_callers", "without_tuning", "gpu")
ABOUT = """Each time is the median of rounds in which the contestants take turns, ± half the distance of the quartiles.
"3x" is a contestant's time over ours, in brackets its quartiles over rounds and the ratio of the fastest rounds."""


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmarks named on the command line, by default all."""
    about = {name: importlib.import_module(f"{__package__}.{name}") for name in NAMES}
    lines = "\n".join(f"  {name:23}{(module.__doc__ or '').splitlines()[0]}" for name, module in about.items())
    parser = argparse.ArgumentParser("python -m benchmarks", description=f"{__doc__}\n\n{lines}",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="name", help="which ones; all by default")
    parser.add_argument("--markdown", action="store_true", help="tables for a README")
    parser.add_argument("--quick", action="store_true", help="few and small rounds: does it run at all?")
    given = parser.parse_args(arguments)
    show = as_markdown if given.markdown else as_text
    for name in given.names or NAMES:
        for table in about[name].run(given.quick):
            print(show(table), flush=True)
    print(f"\n{ABOUT}\n\n{machine()}\nReproduce with: python -m benchmarks {' '.join(given.names)}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
