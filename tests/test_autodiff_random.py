"""Programs drawn at random, others in each run: both modes agree with differences in long double."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from random_programs import Draws, judge, program

COUNT = 14  # the first ones compile for seconds: `python -m tests.random_programs` is for thousands


@pytest.mark.filterwarnings("ignore::numba.NumbaPerformanceWarning")
@settings(max_examples=COUNT, phases=[Phase.generate], derandomize=False)  # a seed cannot be made smaller
@given(st.integers(0, 2**40))
def test_random_programs(seed):
    source, size = program(Draws(seed))
    verdict = judge(source, size, seed)
    assert verdict.kind != "wrong", f"python -m tests.random_programs 1 {seed}: {verdict.told}\n{source}"
