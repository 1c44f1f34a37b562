"""The benchmarks' own machinery: fair turns, honest ratios and verdicts."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import more_garbow_hillstrom as mgh
from benchmarks.__main__ import NAMES, main
from benchmarks.report import OURS, Below, Case, Faster, Table, as_markdown, as_text, duration, figure
from benchmarks.timing import Times, race, ratio


def test_race_takes_turns_and_divides_by_the_work():
    calls = []
    slow = {name: lambda name=name: (calls.append(name), time.sleep(0.002)) for name in "ab"}
    times = race(slow, rounds=3, least=0.001, units={"a": 1, "b": 1000})
    assert "".join(calls).endswith("abbaab")  # every round begins with another
    assert times["a"].median >= 0.002 > 0.0002 > times["b"].median


def test_short_calls_are_repeated():
    count = 0

    def call():
        nonlocal count
        count += 1

    times = race({"count": call}, rounds=2, least=0.002)
    assert count > 1000
    assert 0 < times["count"].median < 1e-5


def test_a_race_ends_in_time_but_not_before_two_rounds():
    times = race({"slow": lambda: time.sleep(0.002)}, rounds=1000, least=0.0, units=0.5, most=0.001)
    assert len(times["slow"].seconds) == 2
    assert times["slow"].median >= 0.004


def test_ratio_is_of_medians_with_quartiles_of_rounds():
    found = ratio(Times((2.0, 4.0, 9.0)), Times((1.0, 2.0, 3.0)))
    assert found == (2.0, 2.0, 2.5, 2.0)
    assert Times((1.0, 2.0, 3.0)).spread == 0.25


@pytest.mark.parametrize(("times", "met"), [(2.0, True), (3.5, False)])
def test_verdict_takes_the_fastest_peer(times, met):
    races = {OURS: Times((1.0,)), "slow": Times((9.0,)), "fast": Times((3.0,))}
    verdict = Faster(times, ("slow", "fast", "absent")).verdict(races)
    assert verdict.startswith("3.00x fast")
    assert verdict.endswith(": met" if met else ": NOT met")
    assert Faster(1.0, ("absent",)).verdict(races) is None
    assert Below(1.5).verdict(races).endswith(": met")
    assert Below(0.5).verdict(races).endswith("NOT met")


def test_tables_leave_absent_peers_empty():
    cases = [Case("one", {OURS: Times((1e-6,)), "peer": Times((2.5e-6,))}, (Faster(2.0, ("peer",)),)),
             Case("two", {OURS: Times((0.5,))})]  # fmt: skip
    text, markdown = (show(Table("title", cases, ["a note"])) for show in (as_text, as_markdown))
    assert "2.50 µs ±0%, 2.50x" in text
    assert "asked 2.00x: met" in text
    assert text.endswith("- a note")
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5}
    assert rows[-1] == "| two | 500 ms ±0% |  |  |"


def test_numbers_are_legible():
    assert [figure(x) for x in (0.4567, 9.99, 23.45, 1234.5)] == ["0.46", "9.99", "23.4", "1234"]
    assert [duration(s) for s in (2.0, 0.0123, 4.5e-6, 3e-8)] == ["2.00 s", "12.3 ms", "4.50 µs", "30.0 ns"]


def test_help_names_every_benchmark(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in NAMES)


@pytest.mark.parametrize(("fun", "g", "flat", "least"), [
    (124.362182, 1e-7, True, True), (124.3622, 1e-7, True, False), (124.362182, -2e-6, False, True)])  # fmt: skip
def test_answers_are_judged_at_the_point_returned(fun, g, flat, least):
    result = SimpleNamespace(x=np.zeros(2), fun=0.0, jac=np.zeros(2), success=True, status=0, nfev=7)
    answer = mgh.judge(mgh.PROBLEMS[5], lambda x: (fun, np.array([0.0, g])), result)
    assert (answer.flat, answer.least, answer.told, answer.evaluations) == (flat, least, True, 7)
    assert ("said to have converged without: jennrich_sampson" in mgh.told("SciPy", [answer])) == (not flat)


def test_evaluations_are_compared_in_the_median():
    trials = [SimpleNamespace(ours=SimpleNamespace(evaluations=mine), scipys=SimpleNamespace(evaluations=10))
              for mine in (10, 12, 90)]  # fmt: skip
    assert "on the 3 problems that both solve: median 1.20" in mgh.compared(trials)
    assert mgh.compared(trials).endswith(": met.")
    assert mgh.compared(trials[1:]).endswith(": NOT met.")
