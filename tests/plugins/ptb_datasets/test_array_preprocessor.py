import re

import numpy as np
import pytest
import torch

from ptb.data.sources import InMemorySamples
from sample_files import CLASSES, ONE_HOT, again, build, drawn, stacked

SETTINGS = {
    **{
        f"vector-{dtype}": (dtype, (4,), {"inputs_as": "vector"}) for dtype in ("?", "u1", "u2", "i8", "f2", "f4", "f8")
    },
    "standardized": ("f8", (4,), {"standardize": True}),
    "standardized-unsigned": ("u4", (4,), {"standardize": True, "inputs_as": "vector"}),
    "tokens-u2": ("u2", (4,), {"inputs_as": "tokens"}),
    "tokens-i8": ("i8", (4,), {"inputs_as": "tokens"}),
    "pixels": ("u1", (5, 4), {}),
    "standardized-pixels": ("u1", (3, 5, 4), {"standardize": True}),
    "array": ("f4", (3, 2, 2, 2), {"inputs_as": "array"}),
    "numbers": ("f8", (), {"inputs_as": "vector"}),
}


@pytest.mark.parametrize(("dtype", "shape", "settings"), SETTINGS.values(), ids=SETTINGS)
def test_reading_the_training_files_gives_the_training_samples(tmp_path, dtype, shape, settings):
    bundle = build(tmp_path, drawn(dtype, *shape), CLASSES, **settings)
    made = again(bundle.preprocessor)
    files = {"inputs": tmp_path / "inputs.npy", "targets": str(tmp_path / "targets.npy")}
    samples = list(made.read([files]))
    assert [sample.error for sample in samples if sample.error] == []
    for split in bundle.splits.values():
        wanted = InMemorySamples.of(split).take(torch.arange(len(split)))
        inputs, targets = (
            torch.stack([getattr(samples[row], part) for row in split.indices]) for part in ("inputs", "targets")
        )
        assert (inputs.dtype, targets.dtype) == (wanted.inputs.dtype, wanted.targets.dtype)
        assert torch.equal(inputs, wanted.inputs)
        assert torch.equal(targets, wanted.targets)
        if bundle.transform is not None:
            assert torch.equal(made.transform(inputs), bundle.transform(inputs))
        else:
            assert made.transform is None
    assert samples[7].name == f"{tmp_path}/inputs.npy[7]"
    assert [sample.targets for sample in made.read([str(tmp_path / "inputs.npy")])] == [None] * 60


def test_an_archive_holds_inputs_and_targets(tmp_path):
    given = drawn("f4", 3)
    preprocessor = build(tmp_path, given, CLASSES + 1).preprocessor
    np.savez(tmp_path / "new.npz", inputs=given[:4], targets=CLASSES[:4] + 1)
    samples = list(preprocessor.read([tmp_path / "new.npz"]))
    assert torch.equal(stacked(samples), torch.from_numpy(given[:4]))
    assert [int(sample.targets) for sample in samples] == CLASSES[:4].tolist()
    assert samples[1].name == f"{tmp_path}/new.npz[1]"


TARGETS = {
    "one-hot": (ONE_HOT, {"kind": "class"}),
    "codes": (CLASSES * 10, {}),
    "signs": (CLASSES % 2 * 2 - 1, {}),
    "labels": (ONE_HOT, {"kind": "multilabel"}),
    "probabilities": (ONE_HOT, {"kind": "distribution"}),
    "real": (drawn("f8", 3), {}),
    "standardized": (250_000 + 80_000 * drawn("f8", 3), {"standardize_target": True}),
    "one-standardized": (250_000 + 80_000 * drawn("f8"), {"standardize_target": True}),
}


@pytest.mark.parametrize(("targets", "settings"), TARGETS.values(), ids=TARGETS)
def test_targets_are_made_as_in_training_and_come_back_as_they_were(tmp_path, targets, settings):
    bundle = build(tmp_path, drawn("f4", 2), targets, **settings)
    made = again(bundle.preprocessor)
    samples = list(made.read([{"inputs": tmp_path / "inputs.npy", "targets": targets}]))
    rows = bundle.train.indices
    wanted = InMemorySamples.of(bundle.train).take(torch.arange(len(rows))).targets
    assert torch.equal(torch.stack([samples[row].targets for row in rows]), wanted)
    if bundle.spec.target == "real":
        assert np.allclose(made.decode_targets(wanted), targets[rows], rtol=1e-5)


def test_a_row_a_frame_and_other_types_of_numbers_are_taken_where_nothing_is_lost(tmp_path):
    pandas = pytest.importorskip("pandas")
    given = drawn("i4", 3).astype("f4")
    preprocessor = build(tmp_path, given, CLASSES).preprocessor
    for source in (given, given.astype(int), given.tolist(), pandas.DataFrame(given), torch.from_numpy(given)):
        assert torch.equal(stacked(preprocessor.read([source])), torch.from_numpy(given))
    assert torch.equal(stacked(preprocessor.read([given[4]])), torch.from_numpy(given[4:5]))
    assert [sample.name for sample in preprocessor.read([given[:2]])] == ["[0]", "[1]"]


WRONG = {
    "shape": ({}, np.zeros((2, 5)), r"holds float64 \[2, 5\]; samples of the training data are \[3\]"),
    "text": ({}, np.array(["a"]), "holds <U1; valid are numbers and booleans"),
    "file": ({}, "none.npy", "cannot be read: No such file"),
    "nan": ({}, np.array([[0, np.nan, 1]]), "value 1 is nan; training had finite numbers only"),
    "too-large": ({}, np.array([[0, 1e300, 1]]), r"holds 1e\+300, and the training data is float32"),
    "unknown-token": ({"inputs_as": "tokens"}, np.array([[0, 10**6, 1]]), "holds the token 1000000; valid are 0 to"),
    "half-a-token": ({"inputs_as": "tokens"}, np.array([[0, 0.5, 1]]), "holds 0.5, and the training data is int64"),
    "lengths": ({}, {"inputs": np.zeros((2, 3)), "targets": [1]}, "holds 2 inputs and 1 targets"),
    "target": ({}, {"inputs": np.zeros((1, 3)), "targets": [5]}, "the target is 5; valid are 0 to 2"),
}


@pytest.mark.parametrize(("settings", "source", "error"), WRONG.values(), ids=WRONG)
def test_a_source_that_cannot_be_used_is_said_and_ends_nothing(tmp_path, settings, source, error):
    preprocessor = build(tmp_path, drawn("i8" if settings else "f4", 3), CLASSES, **settings).preprocessor
    first, last = preprocessor.read([source, np.zeros((1, 3))])
    assert last.error is None
    assert (first.inputs is not None) == ("target is" in error)  # then it can be predicted
    assert re.search(error, first.error) or pytest.fail(first.error)


def test_what_is_filled_in_training_is_taken_with_nan(tmp_path):
    given = drawn("f4", 3)
    given[5, 1] = np.nan
    bundle = build(tmp_path, given, CLASSES, missing="mean")
    made = again(bundle.preprocessor)
    samples = list(made.read([given]))
    held = InMemorySamples.of(bundle.train).take(torch.arange(len(bundle.train)))
    assert torch.equal(torch.stack([samples[row].inputs for row in bundle.train.indices]), held.inputs)
    assert samples[5].inputs[1] == pytest.approx(np.nanmean(given[bundle.train.indices, 1]), abs=1e-6)
    (wrong,) = made.read([np.array([0, np.inf, 1], "f4")])
    assert "value 1 is inf" in wrong.error


def test_one_bad_row_leaves_the_others(tmp_path):
    given = drawn("f4", 3)
    preprocessor = build(tmp_path, given, CLASSES).preprocessor
    given[1, 2] = np.nan
    assert [sample.error is None for sample in preprocessor.read([given[:3]])] == [True, False, True]
