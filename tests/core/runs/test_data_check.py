import pytest
import torch
from torch.utils.data import IterableDataset, StackDataset, TensorDataset

from ptb import DataError, DataSpec, InputSpec, RunConfig
from ptb.config.resolve import resolve
from ptb.data.loader import BatchLoader
from ptb.data.sources import InMemorySamples, make_sources
from ptb.runs.compose import compose
from ptb.runs.data_check import CHUNK, check_data


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


# Every form of samples, checked without a run around it.

SIZE = 6
VECTORS = torch.zeros(SIZE, 3)
VECTOR = {"input_shape": (3,), "inputs": "vector"}
LABELS = DataSpec(**VECTOR, target="multilabel", output_size=2)
PIXELS = DataSpec(**VECTOR, target="class", output_size=2, positions=(3,))
CURVES = DataSpec(**VECTOR, target="real", output_size=2, positions=(3,))
NONE = DataSpec(**VECTOR, target="none", output_size=2)
CLASSES = DataSpec(**VECTOR, target="class", output_size=2)
FIELDS = DataSpec(
    **VECTOR,
    target="class",
    output_size=2,
    fields={"words": InputSpec((4,), "tokens", vocabulary=9), "length": InputSpec(())},
)


def tensors(*more):
    return TensorDataset(VECTORS, *more)


def check(spec, split, *, collate=None, augment=None, ignored=lambda targets: None):
    source = make_sources({"train": split}, torch.device("cpu"), collate=collate)["train"]
    fit = BatchLoader(source, batch_size=4, augment=augment, reconstructs=spec.target == "none")
    evaluated = BatchLoader(source, batch_size=4, reconstructs=spec.target == "none")
    check_data({"train": evaluated, "fit": fit}, spec, ignored, "data set 'made'")


def hidden(targets):
    return targets == -100


def targets(*shape, dtype=torch.float32, at_4=None):
    """Zeros, but ``at_4`` in sample 4."""
    values = torch.zeros(SIZE, *shape, dtype=dtype)
    if at_4 is not None:
        values[4].view(-1)[0] = at_4
    return values


def fields(words=0, length=1.0, **more):
    tokens = torch.zeros(SIZE, 4, dtype=torch.int64)
    tokens[4, 2] = words
    lengths = torch.ones(SIZE)
    lengths[4] = length
    return {"inputs": VECTORS, "words": tokens, "length": lengths, **more}


def of_fields(**inputs):
    return StackDataset(StackDataset(**inputs), targets(dtype=torch.int64))


def without(name):
    return {key: value for key, value in fields().items() if key != name}


INT = {"dtype": torch.int64}
GOOD = {
    "labels": (LABELS, tensors(targets(2, at_4=1.0))),
    "pixels": (PIXELS, tensors(targets(3, **INT, at_4=-100))),
    "curves": (CURVES, tensors(targets(2, 3, at_4=-7.5))),
    "none": (NONE, TensorDataset(VECTORS)),
    "fields": (FIELDS, of_fields(**fields(words=8))),
    "weights": (CLASSES, tensors(targets(**INT), torch.arange(SIZE))),
}


@pytest.mark.parametrize("form", GOOD)
def test_samples_that_are_what_the_spec_says_pass(form):
    spec, split = GOOD[form]
    check(spec, split, ignored=hidden if spec is PIXELS else lambda targets: None)


@pytest.mark.parametrize(
    ("spec", "split", "told"),
    [
        (LABELS, tensors(targets(2, at_4=0.5)), r"of sample 4 is \[0\.5, 0\.0\]; valid are 0 and 1"),
        (LABELS, tensors(targets(2, at_4=torch.nan)), r"of sample 4 is \[nan, 0\.0\]; valid are 0 and"),
        (LABELS, tensors(targets(3)), r"'multilabel' are float32 \[2, 2\]; .* give float32 \[2, 3\]"),
        (LABELS, tensors(targets(2, **INT)), r"are float32 \[2, 2\]; .* give int64 \[2, 2\]"),
        (
            PIXELS,
            tensors(targets(3, **INT, at_4=2)),
            r"of sample 4 is \[2\]; valid are 0 to 1, and -100",
        ),
        (
            PIXELS,
            tensors(targets(3, **INT, at_4=-1)),
            r"of sample 4 is \[-1\]; valid are 0 to 1, and",
        ),
        (PIXELS, tensors(targets(4, **INT)), r"'class' are int64 \[2, 3\]; .* give int64 \[2, 4\]"),
        (PIXELS, tensors(targets(**INT)), r"are int64 \[2, 3\]; .* give int64 \[2\]"),
        (PIXELS, tensors(targets(3, **INT) - 100), "train split: the loss ignores every sample"),
        (CLASSES, tensors(targets(**INT, at_4=-100)), "of sample 4 is -100; valid are 0 to 1$"),
        (CURVES, tensors(targets(2, 3, at_4=torch.inf)), r"of sample 4 is .*inf.*; valid are finite"),
        (CURVES, tensors(targets(3, 2)), r"'real' are float32 \[2, 2, 3\]; .* give float32 \[2, 3, 2\]"),
        (
            NONE,
            tensors(targets(2)),
            "target 'none', and the samples have targets; give the inputs alone",
        ),
        (NONE, TensorDataset(VECTORS[:, :2]), r"says inputs of shape \(3,\), the samples have \(2,\)"),
        (NONE, TensorDataset(targets(3, at_4=torch.nan)), "sample 4 holds inputs that are not finite$"),
        (CLASSES, TensorDataset(VECTORS), r"'class' are int64 \[2\]; the first 2 samples give none"),
        (CLASSES, of_fields(**fields()), "the inputs are one tensor; the samples give {inputs: float32"),
        (
            FIELDS,
            tensors(targets(**INT)),
            r"are a dict of inputs, words, length; .* give float32 \[2, 3\]",
        ),
        (
            FIELDS,
            of_fields(**without("words")),
            "dict of inputs, words, length; the samples give {inputs: .*, length:",
        ),
        (FIELDS, of_fields(**fields(more=VECTORS)), "a dict of inputs, words, length; .*, more: float32"),
        (FIELDS, of_fields(**fields() | {"length": VECTORS}), r"says 'length' of shape \(\), the samples have \(3,\)"),
        (FIELDS, of_fields(**fields() | {"inputs": VECTORS[:, 1:]}), r"says 'inputs' of shape \(3,\), the .* \(2,\)"),
        (FIELDS, of_fields(**fields(words=9)), "sample 4 has tokens outside 0 to 8 in 'words'"),
        (FIELDS, of_fields(**fields(words=-1)), "sample 4 has tokens outside 0 to 8 in 'words'"),
        (FIELDS, of_fields(**fields(length=torch.nan)), "sample 4 holds inputs that are not finite in 'length'"),
        (
            CLASSES,
            tensors(targets(**INT), targets(at_4=-1)),
            r"weight of sample 4 is -1\.0; .* 0 or more",
        ),
        (
            CLASSES,
            tensors(targets(**INT), targets(at_4=torch.nan)),
            "weight of sample 4 is nan; it must",
        ),
        (
            CLASSES,
            tensors(targets(**INT), targets(at_4=torch.inf)),
            "weight of sample 4 is inf; it must",
        ),
    ],
)
def test_every_form_of_samples_is_held_against_the_spec(spec, split, told):
    with pytest.raises(DataError, match=told):
        check(spec, split, ignored=hidden if spec is PIXELS else lambda targets: None)


SENTENCES = DataSpec((5,), "tokens", "class", 3, vocabulary=9, positions=(5,), padding=0)


def padded(samples):
    return tuple(torch.nn.utils.rnn.pad_sequence(part, batch_first=True) for part in zip(*samples, strict=True))


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ((1, 2, 3, 4, 5), None),
        ((2, 2), None),
        ((1, 2, 6), r"inputs of shape \(5,\), the samples have \(6,\)"),
        ((6, 2), r"inputs of shape \(5,\), the samples have \(6,\)"),
    ],
    ids=str,
)
def test_a_collate_makes_what_is_as_long_as_the_spec_says_at_most(lengths, told):
    samples = [(torch.ones(length, dtype=torch.int64),) * 2 for length in lengths]
    if told is None:
        check(SENTENCES, samples, collate=padded)
    else:
        with pytest.raises(DataError, match=told):
            check(SENTENCES, samples, collate=padded)


def test_without_a_collate_every_size_is_that_of_the_spec():
    tokens = torch.ones(SIZE, 4, dtype=torch.int64)
    with pytest.raises(DataError, match=r"inputs of shape \(5,\), the samples have \(4,\)"):
        check(SENTENCES, TensorDataset(tokens, tokens))


@pytest.mark.parametrize(
    ("augment", "told"),
    [
        (lambda x, y, rng: (x, y), None),
        (lambda x, y, rng: ({**x, "words": x["words"].flip(1)}, 1 - y), None),
        (lambda x, y, rng: (x, y.float()), r"augment makes float32 \[2\] of targets int64 \[2\]; it must keep shape"),
        (lambda x, y, rng: (x, torch.stack([y, y], 1)), r"makes int64 \[2, 2\] of targets int64 \[2\]"),
        (lambda x, y, rng: (x["inputs"], y), r"makes float32 \[2, 3\] of inputs {inputs: float32 \[2, 3\], words"),
        (
            lambda x, y, rng: ({**x, "length": x["length"][:1]}, y),
            r"length: float32 \[1\]} of inputs .*length: float32 \[2\]}",
        ),
        (lambda x, y, rng: x, "augment failed|augment makes"),
        (lambda x, rng: x, "augment failed: TypeError"),
    ],
    ids=["nothing", "both", "type", "shape", "tree", "field", "old form", "old call"],
)
def test_an_augment_keeps_the_form_of_inputs_and_targets(augment, told):
    if told is None:
        check(FIELDS, of_fields(**fields()), augment=augment)
    else:
        with pytest.raises(DataError, match=told):
            check(FIELDS, of_fields(**fields()), augment=augment)


class Stream(IterableDataset):
    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __iter__(self):
        return iter(self.samples)


def test_the_first_samples_of_a_stream_are_looked_at(monkeypatch):
    monkeypatch.setattr("ptb.runs.data_check.SCAN_SAMPLES", 5)
    samples = [(torch.zeros(3), 0) for _ in range(9)]
    check(CLASSES, Stream(samples))
    samples[5] = (torch.zeros(3), 7)
    check(CLASSES, Stream(samples))
    samples[4] = (torch.zeros(3), 7)
    with pytest.raises(DataError, match="target of sample 4 is 7; valid are 0 to 1"):
        check(CLASSES, Stream(samples))


def test_a_stream_that_ends_too_early_is_told():
    class Short(Stream):
        def __len__(self):
            return 9

    with pytest.raises(DataError, match="train split says that an epoch has 9 samples, and gives 3"):
        check(CLASSES, Short([(torch.zeros(3), 0)] * 3))


@pytest.mark.parametrize(("wrong", "told"), [(None, None), (-1, r"sample 2 is \[-1\]; valid are 0 to 2, and -100 for")])
def test_a_position_may_have_no_class_but_not_any_other_one(wrong, told):
    targets = torch.arange(12).view(4, 3) % 3
    targets[:, 1] = -100
    if wrong is not None:
        targets[2, 0] = wrong
    source = make_sources({"train": TensorDataset(torch.zeros(4, 2, 3), targets)}, torch.device("cpu"))["train"]
    spec = DataSpec((2, 3), "array", "class", 3, positions=(3,))

    def check():
        check_data({"train": BatchLoader(source, batch_size=2)}, spec, lambda targets: None, "data set 'odd'")

    if told is None:
        check()
    else:
        with pytest.raises(DataError, match=told):
            check()


FOUR_CLASSES = DataSpec((3,), "vector", "class", 4)


def mixed(inputs, targets, generator):
    return inputs, torch.nn.functional.one_hot(targets, 4).float()


def check_mixed(augment, probabilities):
    source = make_sources({"train": TensorDataset(torch.rand(8, 3), torch.arange(8) % 4)}, torch.device("cpu"))["train"]
    loaders = {"fit": BatchLoader(source, batch_size=4, augment=augment)}
    check_data(loaders, FOUR_CLASSES, lambda targets: None, "data set 'x'", probabilities)


def test_an_augment_may_make_probabilities_of_classes_for_a_loss_that_takes_them():
    check_mixed(mixed, True)
    with pytest.raises(DataError, match=r"augment makes probabilities of the classes, .* a loss with `takes_prob"):
        check_mixed(mixed, False)


@pytest.mark.parametrize("width", [1, 3, 5])
def test_probabilities_are_as_many_as_classes(width):
    with pytest.raises(DataError, match=rf"augment makes float32 \[2, {width}\] of targets int64 \[2\]"):
        check_mixed(lambda inputs, targets, generator: (inputs, torch.ones(len(targets), width)), True)
