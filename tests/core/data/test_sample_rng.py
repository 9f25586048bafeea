import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptb.data.sample_rng import SampleGenerator
from ptb.seeding import derive_seed


def draws(seed=0, epoch=1, samples=range(10_000)):
    return SampleGenerator(seed, epoch, torch.as_tensor(list(samples)))


def test_a_sample_has_its_numbers_whatever_batch_it_comes_in():
    whole = draws().uniform(3)
    assert torch.equal(draws(samples=[7, 3, 9]).uniform(3), whole[[7, 3, 9]])
    assert torch.equal(draws(samples=[3]).uniform(3), whole[[3]])


def test_seeds_epochs_samples_and_further_draws_have_numbers_of_their_own():
    first = draws()
    numbers = [first.uniform(), first.uniform(), draws(seed=1).uniform(), draws(epoch=2).uniform()]
    everything = torch.cat(numbers)
    assert len(everything.unique()) > 0.998 * len(everything)  # 24 bits leave some alike by chance
    for one in range(len(numbers)):
        for other in range(one):
            assert abs(float(torch.corrcoef(torch.stack([numbers[one], numbers[other]]))[0, 1])) < 0.05


def test_columns_and_neighbours_do_not_follow_each_other():
    table = draws().uniform(4)
    beside = torch.corrcoef(table.T) - torch.eye(4)
    below = torch.corrcoef(torch.stack([table[:-1, 0], table[1:, 0]]))[0, 1]
    assert float(beside.abs().max()) < 0.05
    assert abs(float(below)) < 0.05


def test_uniform_numbers_are_even_and_below_one():
    numbers = draws().uniform(20)
    assert numbers.dtype == torch.float32
    assert 0 <= float(numbers.min()) < float(numbers.max()) < 1
    counts = torch.histc(numbers, bins=100, min=0, max=1)
    expected = numbers.numel() / 100
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert 55 < chi_square < 160  # 99 degrees of freedom


def test_normal_numbers_are_normal():
    numbers = draws().normal(20).double()
    assert float(numbers.mean()) == pytest.approx(0, abs=0.01)
    assert float(numbers.std()) == pytest.approx(1, abs=0.01)
    assert float((numbers.abs() > 1.959964).float().mean()) == pytest.approx(0.05, abs=0.003)
    assert bool(torch.isfinite(numbers).all())


def test_integers_take_every_value_equally_often():
    numbers = draws().integers(-2, 3, 5)
    assert numbers.dtype == torch.int64
    assert numbers.shape == (10_000, 5)
    share = torch.bincount(numbers.flatten() + 2) / numbers.numel()
    assert share.tolist() == pytest.approx([0.2] * 5, abs=0.01)


@pytest.mark.parametrize(("low", "high"), [(0, 0), (3, 1), (0, 2**24 + 1)])
def test_impossible_ranges_are_refused(low, high):
    with pytest.raises(ValueError, match="integers"):
        draws().integers(low, high)


@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 4)], ids=str)
def test_shapes_are_those_asked_for(shape):
    samples = [5, 6]
    assert draws(samples=samples).uniform(*shape).shape == (2, *shape)
    assert draws(samples=samples).normal(*shape).shape == (2, *shape)
    assert draws(samples=samples).integers(0, 2, *shape).shape == (2, *shape)


def test_nothing_is_taken_from_the_global_generators():
    before = torch.get_rng_state()
    draws().normal(2)
    assert torch.equal(torch.get_rng_state(), before)


def mixed(number):
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ number >> 27) * 0x94D049BB133111EB % 2**64
    return number ^ number >> 31


@given(seed=st.integers(0, 2**62), epoch=st.integers(0, 10**6), sample=st.integers(0, 2**40))
def test_the_numbers_are_those_of_split_mix_on_every_device(seed, epoch, sample):
    golden = 0x9E3779B97F4A7C15
    key = mixed((mixed(sample * golden % 2**64) + derive_seed(seed, "augment", epoch)) % 2**64)
    expected = [mixed((key + place * golden) % 2**64) >> 40 for place in (1, 2)]
    numbers = draws(seed, epoch, [sample])
    assert [int(numbers.uniform() * 2**24) for _ in range(2)] == expected
