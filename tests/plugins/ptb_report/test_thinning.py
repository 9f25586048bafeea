from math import inf, isfinite, nan

from hypothesis import given
from hypothesis import strategies as st

from ptb_report.thinning import thinned

VALUES = st.lists(st.one_of(st.none(), st.floats()), max_size=400)


@given(VALUES, st.integers(4, 80))
def test_a_thinned_curve_is_short_and_keeps_its_ends_and_extremes(values, most):
    kept = thinned(values, most)
    assert kept == sorted(set(kept))
    assert len(kept) <= most or len(values) <= most
    assert set(kept) <= set(range(len(values)))
    if values:
        assert {0, len(values) - 1} <= set(kept)
    finite = [value for value in values if value is not None and isfinite(value)]
    if finite:
        shown = [values[place] for place in kept if values[place] is not None]
        assert {min(finite), max(finite)} <= set(shown)


def test_what_is_short_enough_stays_whole():
    assert thinned([1.0, nan, None, inf], 4) == [0, 1, 2, 3]
