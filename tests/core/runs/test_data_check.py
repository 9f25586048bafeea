import pytest

from ptb import DataError, RunConfig
from ptb.config.resolve import resolve
from ptb.data.sources import InMemorySamples
from ptb.runs.compose import compose
from ptb.runs.data_check import CHUNK


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"case": "low"}, "target of sample 20 is -1; valid are 0 to 2"),
        ({"case": "high"}, "target of sample 20 is 3; valid are 0 to 2"),
        ({"kind": "binary", "case": "half"}, r"target of sample 20 is \[0.5\]; valid are 0 and 1"),
        ({"kind": "binary", "case": "two"}, r"target of sample 20 is \[2.0\]; valid are 0 and 1"),
        (
            {"kind": "similarity", "case": "zero", "loss": {"name": "detached"}},
            r"sample 20 is 0.0; valid are \+1 and -1",
        ),
        ({"kind": "distribution", "case": "half", "loss": {"name": "detached"}}, "rows of probabilities that sum to 1"),
        (
            {"kind": "distribution", "case": "negative", "loss": {"name": "detached"}},
            "rows of probabilities that sum to 1",
        ),
        ({"kind": "real", "case": "nan", "loss": {"name": "detached"}}, "valid are finite numbers"),
        ({"kind": "real", "case": "inf", "loss": {"name": "detached"}}, "valid are finite numbers"),
        ({"case": "input-nan"}, "sample 20 holds inputs that are not finite"),
        ({"kind": "tokens", "case": "token", "model": "sparse"}, "sample 20 has tokens outside 0 to 6"),
        ({"case": "column"}, r"targets of kind 'class' are int64 \[2\]; the first 2 samples give int64 \[2, 1\]"),
        ({"case": "float"}, "give float64"),
        ({"kind": "binary", "case": "float"}, r"are float32 \[2, 1\]; .* give float64"),
        ({"case": "empty-val"}, "the val split is empty"),
        (
            {"case": "shapes", "listed": True},
            r"sample 0 is \(float32 \[4\], int64 \[\]\), sample 20 is \(float32 \[5\]",
        ),
        ({"case": "raises", "listed": True}, "reading sample 20 of the train split failed: OSError: disk"),
        ({"case": "none", "listed": True}, "must be alike: .*, sample 20 is NoneType"),
    ],
)
def test_samples_that_are_not_what_the_spec_says_are_refused(odd, changes, told):
    with pytest.raises(DataError, match=told) as error:
        odd(**changes)
    assert error.value.exit_code == 3


def test_a_loss_that_leaves_out_every_sample_of_a_split_is_refused(odd):
    with pytest.raises(DataError, match=r"train split: the loss ignores every sample"):
        odd(case="same", loss={"ignore_index": 1})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"case": "high"}, "target of sample 20 is 3; valid are 0 to 2"),
        ({"case": "input-nan"}, "sample 20 holds inputs that are not finite"),
    ],
    ids=["target", "input"],
)
def test_values_are_looked_at_some_at_a_time_and_told_by_their_number(odd, monkeypatch, changes, told):
    monkeypatch.setattr("ptb.runs.data_check.CHUNK", 7)
    with pytest.raises(DataError, match=told):
        odd(**changes)


def test_of_large_data_some_values_are_looked_at(built_in, monkeypatch):
    taken = []
    original = InMemorySamples.take

    def take(held, samples):
        taken.append(len(samples))
        return original(held, samples)

    monkeypatch.setattr(InMemorySamples, "take", take)
    compose(resolve(RunConfig(model={"name": "linear"}, dataset={"name": "random", "samples": 9000}), built_in))
    assert max(taken) <= CHUNK
    assert sum(taken) > 9000
    taken.clear()
    monkeypatch.setattr("ptb.runs.data_check.SCAN_BYTES", 0)
    compose(resolve(RunConfig(model={"name": "linear"}, dataset={"name": "random", "samples": 9000}), built_in))
    assert 4000 < sum(taken) < 10000
