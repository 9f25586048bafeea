import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptb_datasets.splits import class_counts, fold_split, keep_classes, quantile_split, stratified_split

seeds = st.integers(0, 2**32 - 1)


@st.composite
def labels(draw):
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    order = np.random.RandomState(draw(seeds)).permutation(sum(sizes))
    return np.repeat(np.arange(len(sizes)), sizes)[order]


@given(labels(), st.data(), seeds)
def test_a_number_of_samples_is_drawn_exactly(labels, data, seed):
    number = data.draw(st.integers(0, len(labels)))
    rest, drawn = stratified_split(labels, (number,), seed)
    assert (len(rest), len(drawn)) == (len(labels) - number, number)


@given(labels(), st.floats(0, 1), st.floats(0, 1), seeds)
def test_fractions_are_drawn_exactly(labels, first, second, seed):
    parts = stratified_split(labels, (first, second), seed)
    wanted = round(first * len(labels))
    assert [len(part) for part in parts[1:]] == [wanted, min(round(second * len(labels)), len(labels) - wanted)]


@given(labels(), st.floats(0, 0.5), st.floats(0, 0.5), seeds)
def test_parts_are_disjoint_and_together_complete(labels, first, second, seed):
    parts = stratified_split(labels, (first, second), seed)
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))


@given(labels(), st.floats(0, 1), seeds)
def test_each_class_is_drawn_in_proportion(labels, fraction, seed):
    _, drawn = stratified_split(labels, (fraction,), seed)
    taken = np.bincount(labels[drawn], minlength=labels.max() + 1)
    assert np.all(np.abs(taken - np.bincount(labels) * len(drawn) / len(labels)) < 1)


@given(labels(), st.floats(0, 0.5), seeds, seeds)
def test_a_split_depends_on_its_seed_alone(labels, fraction, seed, other):
    np.random.seed(other)
    state = np.random.get_state()[1].tolist()
    first = stratified_split(labels, (fraction,), seed)
    assert np.random.get_state()[1].tolist() == state
    np.random.random()
    assert all(map(np.array_equal, first, stratified_split(labels, (fraction,), seed)))


def test_a_split_never_moves():
    rest, drawn = stratified_split(np.array([0, 1] * 6), (4,), 7)
    assert (rest.tolist(), drawn.tolist()) == ([0, 1, 2, 3, 4, 5, 7, 8], [6, 9, 10, 11])


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=60), st.floats(0, 0.5), st.floats(0, 0.5), seeds)
def test_a_split_by_values_is_disjoint_and_complete_and_of_the_sizes_asked_for(values, first, second, seed):
    values = np.array(values)
    parts = quantile_split(values, (first, second), seed)
    assert sorted(np.concatenate(parts)) == list(range(len(values)))
    assert len(parts[1]) == round(first * len(values))
    assert all(map(np.array_equal, parts, quantile_split(values, (first, second), seed)))


def test_a_split_by_values_has_small_and_large_ones_in_proportion():
    values = np.random.RandomState(0).permutation(200)
    for part in quantile_split(values, (0.1, 0.2), 0):
        assert np.ptp(np.bincount(values[part] // 20)) == 0


def test_counts_have_a_place_for_every_class():
    assert class_counts(np.array([2, 0, 2]), 4) == (1, 0, 2, 0)


def test_without_parts_to_draw_everything_is_the_rest():
    (rest,) = stratified_split(np.array([0, 1, 0]), (), 0)
    assert rest.tolist() == [0, 1, 2]


@given(labels(), seeds)
def test_training_keeps_every_class(labels, seed):
    names = [f"c{number}" for number in range(labels.max() + 1)]
    parts = stratified_split(labels, (0.3, 0.3), seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = keep_classes(labels, parts, names, (0.3, 0.3))
    assert sorted(np.concatenate(kept)) == list(range(len(labels)))
    assert set(labels[kept[0]]) == set(labels)
    if set(labels[parts[0]]) == set(labels):
        assert all(map(np.array_equal, kept, parts))


def test_a_class_that_a_split_lacks_is_warned_of_if_it_has_too_few_samples():
    labels = np.array([0] * 20 + [1] * 2 + [2])
    parts = [np.arange(18), np.array([18, 20, 22]), np.array([19, 21])]
    with pytest.warns(UserWarning, match=r"classes have too few samples .*: 'one' \(2\), 'two' \(1\)"):
        kept = keep_classes(labels, parts, ("zero", "one", "two"))
    assert [part.tolist() for part in kept] == [[*range(18), 20, 21, 22], [18], [19]]


def test_a_split_that_is_not_asked_for_lacks_nothing():
    labels = np.array([0, 1, 0, 1])
    keep_classes(labels, [np.arange(4), np.zeros(0, int)], ("a", "b"), (0.0,))


@given(labels(), st.integers(2, 6), seeds)
def test_folds_are_disjoint_complete_and_in_proportion(labels, folds, seed):
    parts = [fold_split(labels, folds, fold, seed) for fold in range(folds)]
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    counts = np.array([np.bincount(labels[part], minlength=labels.max() + 1) for part in parts])
    assert (np.ptp(counts, axis=0) <= 1).all()
