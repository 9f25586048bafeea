import itertools
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptb_doctor.bisection import Verdict, alike, bisect
from ptb_doctor.processes import Ended


def failure(status, error):
    return Ended(status, errors=f"error: {error}\n")


DONE = Ended(0)
FAILED = failure(7, "model 'tiny' (ptb-a 1.0): importing a:Tiny failed")
LOST = failure(2, "unknown model 'tiny'; available: lenet")


def command(at_fault, needed=()):
    """A command that gets to the point where it fails only with what it needs."""

    def run(plugins):
        if not set(needed) <= set(plugins):
            return LOST
        return FAILED if set(at_fault) <= set(plugins) else DONE

    return run


@st.composite
def parties(draw):
    """A number of plugins, those at fault, and those that the command needs."""
    size = draw(st.integers(1, 40))
    chosen = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=4, unique=True))
    cut = draw(st.integers(1, len(chosen)))
    return size, sorted(chosen[:cut]), sorted(chosen[cut:])


@given(parties())
def test_those_at_fault_are_found_apart_from_those_that_the_command_needs(party):
    size, at_fault, needed = party
    verdict = bisect(range(size), command(at_fault, needed))
    assert list(verdict.plugins) == at_fault
    assert list(verdict.context) == needed
    assert verdict.result == ("culprit" if len(at_fault) == 1 else "needs")
    assert verdict.failure == FAILED


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 100, 1000])
def test_one_culprit_takes_at_most_log2_n_and_two_runs_and_three_that_confirm_it(size):
    for culprit in range(0, size, 1 + size // 100):
        assert bisect(range(size), command([culprit])).runs <= ceil(log2(size)) + 5


@given(parties())
def test_all_come_first_and_only_what_confirms_the_verdict_is_run_again(party):
    size, at_fault, needed = party
    ran = []
    run = command(at_fault, needed)
    verdict = bisect(range(size), lambda plugins: ran.append(tuple(plugins)) or run(plugins))
    everything = tuple(range(size))
    rest = tuple(i for i in everything if i not in verdict.plugins)
    found = tuple(sorted((*verdict.plugins, *verdict.context)))
    assert ran[0] == everything
    assert len(ran) == verdict.runs
    assert {plugins for plugins in ran if ran.count(plugins) > 1} <= {everything, rest, found}
    assert ran[-3:] == [rest, rest, found]


@pytest.mark.parametrize("culprits", [[[0], [1]], [[1], [6], [7]], [[1, 2], [5]], [[5], [1, 2]]], ids=str)
def test_where_the_command_fails_without_those_found_there_are_several(culprits):
    verdict = bisect(range(8), lambda p: FAILED if any(set(group) <= set(p) for group in culprits) else DONE)
    assert (verdict.result, verdict.instead) == ("several", None)
    assert list(verdict.plugins) in culprits


@pytest.mark.parametrize("size", [1, 2, 5, 8, 9])
@pytest.mark.parametrize("fails", ["yn", "yynn", "yyn", "y" + 99 * "n"])
def test_a_failure_that_comes_and_goes_is_blamed_on_no_plugin(size, fails):
    turns = itertools.cycle(fails)
    verdict = bisect(range(size), lambda _: FAILED if next(turns) == "y" else DONE)
    assert (verdict.result, verdict.plugins) in [
        ("unsteady", ()),
        ("not-a-plugin", ()),
    ]  # it may fail in all of few runs
    assert verdict.failure == FAILED


@pytest.mark.parametrize("size", [0, 1, 8])
def test_a_command_that_fails_without_plugins_is_not_blamed_on_one(size):
    verdict = bisect(range(size), command([]))
    assert (verdict.result, verdict.plugins, verdict.failure) == ("not-a-plugin", (), FAILED)
    assert verdict.runs <= log2(size or 1) + 2


@pytest.mark.parametrize("size", [0, 8])
def test_a_command_that_succeeds_with_all_leaves_nothing_to_find(size):
    assert bisect(range(size), lambda _: DONE) == Verdict("nothing", DONE, 1)


def test_a_culprit_without_which_nothing_succeeded_comes_with_how_it_ended_instead():
    needs_it_only = bisect(range(4), command([2], needed=[2]))
    assert (needs_it_only.result, needs_it_only.plugins, needs_it_only.instead) == ("culprit", (2,), LOST)
    assert bisect(range(4), command([2])).instead is None


def test_a_failure_that_was_seen_once_only_does_not_make_a_long_search():
    outcomes = itertools.chain([FAILED], itertools.repeat(DONE))
    verdict = bisect(range(1000), lambda _: next(outcomes))
    assert verdict.result == "unsteady"
    assert verdict.runs <= ceil(log2(1000)) + 3


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((7, "plugins fail (strict): a"), (7, "plugins fail (strict): b"), True),
        ((4, "loss is nan at step 12"), (4, "loss is nan at step 7"), True),
        ((2, "unknown model 'x' (did you mean 'y'?); there are y"), (2, "unknown model 'x'; there are z"), True),
        ((2, "unknown model 'x'; there are y"), (2, "model 'x' is provided by 2 plugins: a, b"), False),
        ((2, "model 'x' is provided by 3 plugins: a"), (2, "model 'x' is provided by 2 plugins: a, b"), True),
        ((1, "unexpected KeyError: 'a'"), (1, "unexpected ValueError: 'a'"), False),
        ((7, "required plugins are not there: a"), (7, "model 'x' (a 1.0): importing failed"), False),
        ((1, "loss"), (4, "loss"), False),
        ((-11, ""), (-6, ""), False),
        ((None, ""), (None, ""), True),
        ((None, ""), (1, ""), False),
    ],
)
def test_failures_are_alike_if_status_and_first_words_are(one, other, expected):
    assert alike(failure(*one), failure(*other)) is expected


def test_the_key_of_a_setting_is_no_name_of_an_error():
    torn = failure(2, "model.name: model 'tiny' is provided by 2 plugins: a, b")
    assert not alike(torn, failure(2, "model.name: unknown model 'tiny'; available: lenet"))
    assert alike(torn, failure(2, "model.name: model 'tiny' is provided by 3 plugins: a, b, c"))


def test_two_that_succeed_are_alike_whatever_they_print():
    assert alike(Ended(0, "a", "error: a\n"), Ended(0, "b"))
