import inspect
import re

import pytest

from ptb import errors
from ptb.errors import ConfigError, InterruptedRunError, Problem, PtbError, closest, did_you_mean, listing, tidy


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = re.findall(r"(?:\|-- |`-- )(\w+)(?: +exit (\d+))?", errors.__doc__)
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, PtbError) and c is not PtbError
    ]
    assert sorted(name for name, _ in drawn) == sorted(c.__name__ for c in classes)
    for name, code in drawn:
        if code and name != "InterruptedRunError":
            assert getattr(errors, name).exit_code == int(code)


def test_one_problem_is_one_line():
    assert str(ConfigError(Problem("model.width", "must be above 0", "run.toml:3"))) == (
        "model.width: must be above 0  [run.toml:3]"
    )


def test_several_problems_are_all_told():
    error = ConfigError(Problem("a", "one"), "two")
    assert str(error).splitlines() == ["2 problems in the configuration", "  a: one", "  two"]
    assert len(error.problems) == 2


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_a_signal_decides_the_exit_code(number, code):
    assert InterruptedRunError("", number).exit_code == code


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lennet", "lenet"),
        ("LeNet", "lenet"),
        ("cross_entropy", "cross-entropy"),
        ("acuracy", "accuracy"),
        ("zzz", None),
    ],
)
def test_a_near_miss_finds_what_was_meant(word, meant):
    candidates = ["lenet", "mlp", "cross-entropy", "accuracy"]
    assert closest(word, candidates) == meant
    assert did_you_mean(word, candidates) == (f" (did you mean '{meant}'?)" if meant else "")


@pytest.mark.parametrize(
    ("word", "cutoff", "meant"),
    [
        ("batchSize", 1, None),
        ("BATCH-SIZE", 1, "batch_size"),
        ("batch.size", 1, "batch_size"),
        ("size", 0.5, "batch_size"),
    ],
)
def test_how_near_is_near_enough_can_be_said(word, cutoff, meant):
    assert closest(word, ["lr", "batch_size"], cutoff) == meant


def test_a_long_listing_is_cut_and_says_so():
    assert listing(["a", "b", "c"], limit=2) == "a, b and 1 more"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\n\tb  c", "a b c"), ("\x1b[31mred\x9b\u2028", "[31mred"), ("x" * 11, "x" * 10 + "...")],
    ids=["lines", "steering", "long"],
)
def test_a_stranger_s_text_is_one_short_line_without_signs_that_steer(text, shown):
    assert tidy(text, 10) == shown
