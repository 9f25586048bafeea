import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptb.seeding import GlobalGenerators, derive_seed, generator, preserve_rng_state, seed_global


def draws():
    return random.random(), float(np.random.random()), float(torch.rand(()))


def test_a_stream_is_the_same_on_every_machine():
    # The values are the contract: a changed derivation would change the weights of every recorded run.
    assert derive_seed(0, "order", 1) == 7960879424584905068
    assert torch.randperm(5, generator=generator(0, "order", 1)).tolist() == [2, 1, 0, 4, 3]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**63 - 1), st.lists(st.text() | st.integers()))
def test_a_derived_seed_fits_every_generator(seed, labels):
    derived = derive_seed(seed, *labels)
    assert 0 <= derived < 2**63
    torch.Generator().manual_seed(derived)


def test_streams_differ_by_seed_and_by_label():
    assert len({derive_seed(s, label, e) for s in range(5) for label in ("order", "model") for e in range(5)}) == 50


def test_the_global_generators_start_where_the_seed_says():
    with preserve_rng_state():
        seed_global(1, "train")
        first = draws()
        seed_global(1, "train")
        assert draws() == first
        seed_global(2, "train")
        assert draws() != first


def test_isolated_puts_the_global_generators_back():
    with preserve_rng_state():
        seed_global(3, "outer")
        expected = draws()
        seed_global(3, "outer")
        with preserve_rng_state():
            seed_global(4, "inner")
            draws()
        assert draws() == expected


def use_python():
    random.random()


def use_normal():  # the second one of a pair waits
    random.gauss(0, 1)
    np.random.randn()


def use_numpy():
    np.random.rand()


def use_torch():
    torch.rand(1)


def reseed():
    seed_global(1, "other")


def replace():
    np.random.set_bit_generator(np.random.MT19937(7))


USES = [use_python, use_normal, use_numpy, use_torch, reseed, replace, lambda: None]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(USES[:-2]), st.sampled_from(USES)), max_size=6))
def test_global_generators_are_put_back_whatever_was_used_before_and_inside(uses):
    def draw(inside):
        seed_global(0, "test")
        generators = GlobalGenerators()
        for before, use in uses:
            before()
            with generators.preserved(torch.device("cpu")):
                if inside:
                    use()
                    use()
        return draws(), random.gauss(0, 1), float(np.random.randn()), float(np.random.randn())

    with preserve_rng_state():
        assert draw(inside=True) == draw(inside=False)


def test_a_global_generator_of_another_kind_is_put_back_too():
    usual = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.PCG64(3))
        generators = GlobalGenerators()
        with generators.preserved(torch.device("cpu")):
            expected = np.random.rand()
        with generators.preserved(torch.device("cpu")):
            use_normal()
        assert np.random.rand() == expected
    finally:
        np.random.set_bit_generator(usual)


def test_an_exception_puts_them_back_as_well():
    def fails():
        with GlobalGenerators().preserved(torch.device("cpu")):
            torch.rand(1)
            raise KeyError

    with preserve_rng_state():
        before = torch.get_rng_state()
        with pytest.raises(KeyError):
            fails()
        assert torch.equal(before, torch.get_rng_state())
