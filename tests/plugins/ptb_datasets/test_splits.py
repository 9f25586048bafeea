import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptb_datasets.splits import class_counts, quantile_split, stratified_split

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
