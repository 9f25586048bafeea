import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ptb_datasets.tables import Standardizer, splits_of, standardized

tables = arrays(np.float64, st.tuples(st.integers(2, 8), st.integers(1, 4)), elements=st.floats(-1e6, 1e6, width=32))


@given(tables)
def test_training_rows_get_mean_0_and_deviation_1_or_are_constant(values):
    result = standardized(values, np.arange(len(values))).astype(np.float64)
    assert np.isfinite(result).all()
    for before, after in zip(values.T, result.T, strict=True):
        if np.ptp(before) > 1e-3 * np.abs(before).max():
            assert after.mean() == pytest.approx(0, abs=1e-3)
            assert after.std() == pytest.approx(1, abs=1e-3)


def test_other_rows_change_nothing():
    values = np.random.RandomState(0).rand(6, 3)
    changed = values.copy()
    changed[4:] = 1e9
    training = np.arange(4)
    assert np.array_equal(standardized(values, training)[:4], standardized(changed, training)[:4])


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8, -3.7e-9])
def test_a_column_that_is_constant_in_training_becomes_0(value):
    scale = Standardizer.of(np.full((7, 1), value))
    assert np.abs(scale(np.full((3, 1), value))).max() < 1e-6
    assert np.isfinite(scale(np.full((1, 1), value + 1))).all()


def test_a_part_without_rows_is_no_split():
    train, val = splits_of(np.zeros((2, 1)), np.zeros(2), [np.array([0, 1]), np.array([], dtype=int)])
    assert (len(train), val) == (2, None)
