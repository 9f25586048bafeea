import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptb_datasets.images import Normalize, stratified_split

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


def test_normalize_is_its_formula_and_leaves_its_input_alone():
    inputs = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    outputs = Normalize(0.25, 0.5)(inputs)
    assert outputs.dtype == torch.float32
    assert inputs.flatten().tolist() == list(range(256))
    torch.testing.assert_close(outputs, (inputs / 255 - 0.25) / 0.5)
