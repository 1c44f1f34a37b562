"""Programs that Hypothesis writes: both modes and differences agree."""

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from random_programs import compare, program


@settings(max_examples=12, phases=[Phase.explicit, Phase.generate])  # a smaller program takes too long to find
@given(st.data())
def test_random_programs(data):
    drawn = data.draw(st.lists(st.integers(0, 10**6), min_size=40, max_size=160))
    numbers = iter(drawn)
    rest = np.random.default_rng(len(drawn))

    def choose(n):
        return next(numbers, int(rest.integers(10**6))) % n

    source, fun = program(choose)
    compare(source, fun, drawn[0])
