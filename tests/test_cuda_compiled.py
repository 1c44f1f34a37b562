"""Every kernel of a step, compiled for sm_90 without a GPU: wide accesses, no spills, no float64 in float32."""

import numpy as np
import pytest
from cuda_cases import OPTIMIZERS, RULES, SUMMING, Leader
from ptx import of_a_step

import numbaopt as no
from numbaopt.optimizers import OPTIMIZERS as KNOWN
from numbaopt.optimizers._program import program

WIDE = {np.float32: "global.v4.f32", np.float64: "global.v2.f64"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_compiles_without_spills(name, dtype, tmp_path):
    opt = OPTIMIZERS[name]
    made = program(opt, dtype)
    reports = list(of_a_step(opt, dtype, True, tmp_path))
    assert [kernel for kernel, _ in reports] == ["summing", "finishing"] * len(made.sums) + ["move"]
    for _, report in reports:
        assert report.spills == 0
        assert report.parameters == ["u64"] * 7 + ["f32" if dtype is np.float32 else "f64"] * made.width
        assert report.registers <= 64  # half of the GPU's threads and more are there at once
    move = reports[-1][1]
    if dtype is np.float32:  # noise is computed in float64
        assert (move.doubles > 0) == name.startswith("GradientNoise")
    reads, writes = move.ptx.count(f"ld.{WIDE[dtype]}"), move.ptx.count(f"st.{WIDE[dtype]}")
    assert reads == writes + 1  # x, g and the state; x and the state
    if not name.startswith("Switch"):
        assert reads == 2 + made.slots


@pytest.mark.parametrize("name", ["Adam", "ClipByNorm, SWATS"])
def test_arrays_that_are_not_aligned_have_kernels_too(name, tmp_path):
    for _, report in of_a_step(OPTIMIZERS[name], np.float32, False, tmp_path):
        assert (report.spills, report.ptx.count(".v4.f32")) == (0, 0)


def test_a_rule_that_looks_at_other_coordinates_reads_them_where_they_are(tmp_path):
    ((_, report),) = of_a_step(Leader(), np.float32, True, tmp_path)
    assert report.ptx.count("global.v4.f32") == 0
    assert report.ptx.count("ld.global.f32") >= 3


def test_no_rule_is_missing():
    ours = {cls.__name__ for cls in KNOWN.values() if cls.__module__.startswith("numbaopt.")}
    assert ours == set(RULES)
    assert all(bool(program(opt, np.float64).sums) == (name in SUMMING) for name, opt in OPTIMIZERS.items())
    assert no.Adam in map(type, RULES.values())
