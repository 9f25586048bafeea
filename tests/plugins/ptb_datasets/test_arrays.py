import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ptb import ConfigError, DataError
from ptb.data.loader import BatchLoader
from ptb.data.sources import InMemorySamples, make_sources
from ptb_datasets import array_inputs
from ptb_datasets.arrays import arrays
from sample_files import CLASSES, ONE_HOT, build, drawn


def whole(bundle):
    """Prepared inputs and targets of all splits, and the numbers that the samples have in the files."""
    rows = torch.cat([split.indices for split in bundle.splits.values()])
    held = [InMemorySamples.of(split) for split in bundle.splits.values()]
    batches = [each.take(torch.arange(each.size)) for each in held]
    inputs, targets = (torch.cat(part) for part in zip(*(batch[:2] for batch in batches), strict=True))
    return (inputs if bundle.transform is None else bundle.transform(inputs)), targets, rows


FORMS = {
    "pixels": ("u1", (5, 4), "image", (1, 5, 4)),
    "pixels-with-channels": ("u1", (3, 5, 4), "image", (3, 5, 4)),
    **{f"vectors-{dtype}": (dtype, (7,), "vector", (7,)) for dtype in ("f2", "f4", "f8")},
    **{f"pictures-{dtype}": (dtype, (3, 5, 4), "image", (3, 5, 4)) for dtype in ("f2", "f4", "f8")},
    **{f"tokens-{dtype}": (dtype, (7,), "tokens", (7,)) for dtype in ("i1", "i2", "i4", "i8", "u2", "u4", "u8")},
}


@pytest.mark.parametrize(("dtype", "shape", "kind", "seen"), FORMS.values(), ids=FORMS)
def test_inputs_are_those_of_the_file_in_the_form_that_a_model_takes(tmp_path, dtype, shape, kind, seen):
    given = drawn(dtype, *shape)
    bundle = build(tmp_path, given, CLASSES, inputs_as="tokens" if kind == "tokens" else "auto")
    assert (bundle.spec.inputs, bundle.spec.input_shape) == (kind, seen)
    assert bundle.spec.vocabulary == (int(given.max()) + 1 if kind == "tokens" else None)
    inputs, targets, rows = whole(bundle)
    assert sorted(rows.tolist()) == list(range(60))
    assert inputs.dtype == (torch.int64 if kind == "tokens" else torch.float32)
    wanted = given[rows.numpy()].reshape(60, *seen)
    wanted = (wanted / 255 - 0.5) / 0.5 if dtype == "u1" else wanted
    torch.testing.assert_close(inputs, torch.from_numpy(wanted.astype(np.int64 if kind == "tokens" else np.float32)))
    assert np.array_equal(targets, CLASSES[rows])


@pytest.mark.parametrize("dtype", ["u2", "u4", "u8"])
def test_tokens_that_need_the_highest_bit_stay_what_they_are(tmp_path, dtype):
    tokens = drawn(dtype, 3)
    tokens[7, 1] = min(np.iinfo(dtype).max, 9_999_999)
    bundle = build(tmp_path, tokens, CLASSES, inputs_as="tokens")
    assert bundle.spec.vocabulary == int(tokens[7, 1]) + 1
    inputs, _, rows = whole(bundle)
    assert np.array_equal(inputs, tokens[rows].astype(np.int64))


@pytest.mark.parametrize("values", [1, 6, 7, 1000])
def test_tokens_are_looked_at_in_pieces(tmp_path, monkeypatch, values):
    monkeypatch.setattr(array_inputs, "CHUNK", values)
    given = tokens(_20=41)
    assert build(tmp_path, given, CLASSES, inputs_as="tokens").spec.vocabulary == 42
    with pytest.raises(DataError, match="token 1 of sample 33 is -1"):
        build(tmp_path, tokens(_20=41, _33=-1), CLASSES, inputs_as="tokens")


TARGETS = {
    "ints": (CLASSES, "auto", "class", 3),
    "small-ints": (CLASSES.astype("u1"), "auto", "class", 3),
    "column-of-ints": (CLASSES[:, None], "auto", "class", 3),
    "two-classes": (CLASSES % 2, "class", "class", 2),
    "booleans": (CLASSES > 0, "auto", "binary", 1),
    "ints-0-1": (CLASSES % 2, "auto", "binary", 1),
    "floats-0-1": ((CLASSES % 2).astype("f4"), "auto", "binary", 1),
    "floats": (drawn("f8"), "auto", "real", 1),
    "half-floats": (drawn("f2"), "auto", "real", 1),
    "many-floats": (drawn("f4", 5), "auto", "real", 5),
    "ints-as-real": (CLASSES, "real", "real", 1),
    "booleans-as-real": (CLASSES > 0, "real", "real", 1),
}


@pytest.mark.parametrize(("values", "kind", "target", "size"), TARGETS.values(), ids=TARGETS)
def test_targets_have_the_form_of_their_kind(tmp_path, values, kind, target, size):
    bundle = build(tmp_path, drawn("f4", 2), values, kind=kind)
    assert (bundle.spec.target, bundle.spec.output_size) == (target, size)
    _, targets, rows = whole(bundle)
    if target == "class":
        assert (targets.dtype, targets.shape) == (torch.int64, (60,))
        training = targets[: len(bundle.train)]
        assert bundle.spec.class_counts == tuple(training.bincount().tolist())
    else:
        assert (targets.dtype, targets.shape) == (torch.float32, (60, size))
    assert np.array_equal(targets.reshape(60, -1), values.reshape(60, -1)[rows].astype("f4"))
    if target == "binary":
        assert bundle.spec.class_counts == tuple(targets[: len(bundle.train), 0].long().bincount().tolist())


def test_splits_are_stratified_and_depend_on_the_seed_alone(tmp_path):
    first, again, other = (
        build(tmp_path, drawn("f4", 2), CLASSES, val_fraction=0.2, test_fraction=0.1, split_seed=seed)
        for seed in (0, 0, 1)
    )
    counts = [np.bincount(CLASSES[split.indices]).tolist() for split in first.splits.values()]
    assert counts == [[14] * 3, [4] * 3, [2] * 3]
    assert torch.equal(first.val.indices, again.val.indices)
    assert not torch.equal(first.val.indices, other.val.indices)


def test_one_real_target_is_split_by_its_tenths(tmp_path):
    values = np.sort(drawn("f8"))
    bundle = build(tmp_path, drawn("f4", 2), values, val_fraction=1 / 6, test_fraction=0)
    assert (bundle.val.indices // 6).tolist() == list(range(10))
    several = build(tmp_path, drawn("f4", 2), np.stack([values, values], 1), val_fraction=1 / 6, test_fraction=0)
    assert len(several.val) == 10


def test_a_fraction_of_0_makes_no_split(tmp_path):
    bundle = build(tmp_path, drawn("f4", 2), CLASSES, val_fraction=0, test_fraction=0)
    assert (len(bundle.train), bundle.val, bundle.test) == (60, None, None)


def test_splits_share_the_mapped_file_and_writing_does_not_reach_it(tmp_path):
    given = drawn("f4", 2)
    bundle = build(tmp_path, given, CLASSES)
    inputs = InMemorySamples.of(bundle.train).tensors.inputs
    assert all(InMemorySamples.of(split).tensors.inputs is inputs for split in bundle.splits.values())
    inputs.zero_()
    assert np.array_equal(np.load(tmp_path / "inputs.npy"), given)


def test_every_tier_gives_the_same_batches(tmp_path):
    bundle = build(tmp_path, drawn("f8", 3), CLASSES)
    one, two, three = (
        [
            *BatchLoader(
                make_sources({"train": bundle.train}, torch.device("cpu"), placement)["train"], batch_size=8
            ).epoch()
        ]
        for placement in ("device", "host", "workers")
    )
    for batches in (two, three):
        for x, y in zip(one, batches, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(x.tensors(), y.tensors(), strict=True))


def test_large_inputs_do_not_stay_in_memory_before_they_are_used(tmp_path, run_python):
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell how much memory was used")
    count, features = 3200, 1 << 14
    with (tmp_path / "inputs.npy").open("wb") as stream:
        form = {"descr": "<f4", "fortran_order": False, "shape": (count, features)}
        np.lib.format.write_array_header_1_0(stream, form)
        stream.truncate(stream.tell() + 4 * count * features)  # 200 MiB of zeros that take no place on the disk
    np.save(tmp_path / "targets.npy", np.arange(count) % 3)
    code = (
        "import re, sys\nfrom pathlib import Path\nfrom ptb_datasets.arrays import arrays\n"
        "peak = lambda: 1024 * int(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = peak()\nbundle = arrays(inputs='inputs.npy', targets='targets.npy')\nprint(peak() - before)\n"
        "copy = bundle.train.dataset.tensors[0].clone()\nprint(peak() - before)\n"
    )
    done = run_python([sys.executable, "-c", code], cwd=tmp_path)
    loaded, read = map(int, done.stdout.split())
    assert loaded < 20 << 20
    assert read > 150 << 20  # what this measures is seen to grow


def tokens(**values):
    array = np.ones((60, 3), np.int64)
    for name, value in values.items():
        array[int(name[1:]), 1] = value
    return array


VECTORS = np.zeros((60, 2), np.float32)
REFUSED = {
    "booleans": (np.zeros((60, 2), bool), CLASSES, r"inputs.npy holds bool \[60, 2\]: pictures are uint8 \[N, H, W\]"),
    "flat-pixels": (np.zeros((60, 784), np.uint8), CLASSES, r"uint8 \[60, 784\]: .*tokens are .*other than uint8"),
    "flat-floats": (np.zeros(60), CLASSES, r"float64 \[60\]: .*vectors are floats \[N, F\]"),
    "float-pictures-without-channels": (np.zeros((60, 4, 4)), CLASSES, r"float64 \[60, 4, 4\]"),
    "ints-of-3-axes": (np.zeros((60, 4, 4), int), CLASSES, r"int64 \[60, 4, 4\]"),
    "one-number": (np.float32(3), CLASSES, r"float32 \[\]"),
    "no-samples": (np.zeros((0, 2)), CLASSES, r"dataset.inputs=.* holds no values: its shape is \(0, 2\)"),
    "no-features": (np.zeros((60, 0)), CLASSES, r"holds no values: its shape is \(60, 0\)"),
    "other-length": (VECTORS[:59], CLASSES, "do not belong together: 59 inputs, 60 targets"),
    "objects": (np.array([[1, "a"]] * 60, object), CLASSES, "dataset.inputs=.* holds objects"),
    "text-targets": (VECTORS, np.array(["a", "b"] * 30), "dataset.targets=.* holds values of type <U1"),
    "two-columns-of-ints": (VECTORS, np.stack([CLASSES, CLASSES], 1), r"int64 \[60, 2\], and dataset.kind is auto: cl"),
    "3-axes": (VECTORS, np.zeros((60, 2, 2)), r"targets.npy holds float64 \[60, 2, 2\]"),
    "one-target": (VECTORS, np.float32(3), r"targets.npy holds float32 \[\]"),
    "one-class": (VECTORS, np.full(60, 2), "every target is 2; of one class nothing can be learnt"),
    "one-value": (VECTORS, np.zeros(60), r"every target is 0.0; of one class nothing can be learnt"),
    "nan": (VECTORS, np.where(np.arange(60) == 9, np.nan, 0.5), "target 9, counted from 0, is .*: it is nan"),
    "too-large": (VECTORS, np.where(np.arange(60) == 9, 1e300, 0.5), "target 9 is 1e\\+300; valid are what a 32"),
}  # fmt: skip


@pytest.mark.parametrize(("inputs", "targets", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_data_set_is_refused(tmp_path, inputs, targets, message):
    with pytest.raises(DataError, match=message):
        build(tmp_path, inputs, targets)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (
            CLASSES / 2,
            "class",
            r"float64 \[60\], and classes are whole numbers: target 1 is 0.5; say dataset.kind=real",
        ),
        (CLASSES, "binary", "target 2 is 2, and dataset.kind is binary: valid are 0 and 1"),
        (np.zeros((60, 2)), "binary", r"float64 \[60, 2\], and dataset.kind is binary"),
        (
            np.zeros((60, 2)),
            "class",
            r"float64 \[60, 2\], and dataset.kind is class: target 0 is \[0.0, 0.0\]; valid are",
        ),
        (np.arange(60), "class", "every target is another number"),
        (CLASSES, "multilabel", r"int64 \[60\], and dataset.kind is multilabel"),
        (np.full((60, 3), 0.5), "multilabel", r"target 0 is \[0.5, 0.5, 0.5\]; valid are 0 and 1, and dataset.kind is"),
        (np.full((60, 3), 0.5), "distribution", r"target 0 is \[0.5, 0.5, 0.5\]; valid are probabilities, sum 1"),
        (np.eye(3)[CLASSES % 2], "class", "no row is of the class 2, counted from 0; leave its column out"),
    ],
    ids=[
        "floats-as-classes",
        "three-values-as-binary",
        "two-columns-as-binary",
        "two-columns-as-classes",
        "ids-as-classes",
        "one-column-as-labels",
        "halves-as-labels",
        "halves-as-probabilities",
        "empty-column",
    ],
)
def test_a_kind_that_the_targets_are_not_of_is_refused(tmp_path, values, kind, message):
    with pytest.raises(DataError, match=message):
        build(tmp_path, VECTORS, values, kind=kind)


def test_a_class_that_only_other_splits_would_have_is_trained_on(tmp_path):
    targets = np.array([0] * 5 + [1] * 5 + [2])  # of 5 drawn for each split, 1 is of the class of one sample
    with pytest.warns(UserWarning, match=r"a class has too few samples to be in every split: '2' \(1\)"):
        bundle = build(tmp_path, VECTORS[:11], targets, val_fraction=0.45, test_fraction=0)
    assert bundle.spec.class_counts[2] == 1


@pytest.mark.parametrize("count", [1, 2])
def test_very_few_samples_are_refused(tmp_path, count):
    with pytest.raises(DataError, match="too few samples"):
        build(tmp_path, VECTORS[:count], np.arange(count) + 0.5, val_fraction=0.45, test_fraction=0.45)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "is not a file"),
        ("none.npy", "No such file"),
        ("~no-such-user-here/x", "home"),
        ("nul\0", "cannot be read"),
    ],
    ids=["folder", "missing", "home", "nul"],
)
def test_what_is_no_file_is_a_data_error(tmp_path, path, message):
    np.save(tmp_path / "targets.npy", CLASSES)
    name = path if path.startswith("~") else f"{tmp_path}/{path}"
    with pytest.raises(DataError, match=f"dataset.inputs=.*{message}"):
        arrays(inputs=name, targets=str(tmp_path / "targets.npy"))


def test_channels_that_seem_to_come_last_are_told(tmp_path):
    with pytest.warns(UserWarning, match=r"taken for 32 channels of 24x3; .*add dataset\.layout=channels-last"):
        bundle = build(tmp_path, np.zeros((60, 32, 24, 3), np.uint8), CLASSES)
    assert bundle.spec.input_shape == (32, 24, 3)


ASKED = {
    "whole-floats": (CLASSES.astype(float), r"3 different values, all whole, .*\(0 to 2\)", ("class", "real")),
    "two-whole-floats": (CLASSES % 2 * 2.0 - 1, r"2 different values, .*\(-1, 1\)", ("binary", "real")),
    "one-hot-floats": (ONE_HOT, "every row is one-hot", ("class", "real", "multilabel")),
    "one-hot-ints": (ONE_HOT.astype(int), "every row is one-hot", ("class", "multilabel")),
    "float-labels": (
        np.stack([CLASSES > 0, CLASSES > 1], 1).astype("f4"),
        "every value is 0 or 1",
        ("multilabel", "real"),
    ),
    "probabilities": (np.tile([0.25, 0.75], (60, 1)), "every row sums to 1", ("distribution", "real")),
    "amounts": (np.arange(60) * 7, "60 different values", ("class", "real")),
}


@pytest.mark.parametrize(("values", "seen", "answers"), ASKED.values(), ids=ASKED)
def test_targets_that_could_be_two_things_are_asked_about_and_each_answer_works(tmp_path, values, seen, answers):
    with pytest.raises(DataError, match=f"targets.npy holds .*: {seen}.*; say what they are: ") as caught:
        build(tmp_path, VECTORS, values)
    assert re.findall(r"dataset\.kind=(\w+)", str(caught.value)) == list(answers)
    for answer in answers[1:] if len(values) == len(np.unique(values, axis=0)) else answers:
        assert build(tmp_path, VECTORS, values, kind=answer).spec.target == answer


UNASKED = {
    "prices": (250_000.0 + np.arange(60) * 1000, "real"),
    "halves": (CLASSES / 2, "real"),
    "float-columns": (np.stack([CLASSES, CLASSES], 1) * 1.0, "real"),
    "codes": (CLASSES * 10, "class"),
    "signs": (CLASSES % 2 * 2 - 1, "binary"),
    "int-labels": (np.stack([CLASSES > 0, CLASSES > 1], 1).astype(int), "multilabel"),
    "bool-labels": (np.stack([CLASSES > 0, CLASSES > 1], 1), "multilabel"),
}


@pytest.mark.parametrize(("values", "kind"), UNASKED.values(), ids=UNASKED)
def test_targets_that_can_be_one_thing_only_are_not_asked_about(tmp_path, values, kind):
    assert build(tmp_path, VECTORS, values).spec.target == kind


MADE = {  # what targets become, as plain NumPy makes it
    "whole-floats": (CLASSES.astype("f8"), "class", CLASSES),
    "one-hot": (ONE_HOT, "class", CLASSES),
    "one-hot-bools": (ONE_HOT > 0, "class", CLASSES),
    "from-1": (CLASSES + 1, "class", CLASSES),
    "gaps": (CLASSES * 10, "class", CLASSES),
    "negative": (CLASSES - 1, "class", CLASSES),
    "huge": (CLASSES * 10**9, "class", CLASSES),
    "huge-unsigned": (CLASSES.astype("u8") * 10**9, "class", CLASSES),
    "signs": (CLASSES % 2 * 2 - 1, "binary", (CLASSES % 2)[:, None]),
    "float-signs": (CLASSES % 2 * 2.0 - 1, "binary", (CLASSES % 2)[:, None]),
    "labels": (ONE_HOT[:, :2], "multilabel", ONE_HOT[:, :2]),
    "probabilities": (np.tile([0.25, 0.75], (60, 1)), "distribution", np.tile([0.25, 0.75], (60, 1))),
    "one-hot-as-probabilities": (ONE_HOT, "distribution", ONE_HOT),
    "whole-columns-as-real": (np.stack([CLASSES, CLASSES * 2], 1), "real", np.stack([CLASSES, CLASSES * 2], 1)),
}


@pytest.mark.parametrize(("values", "kind", "wanted"), MADE.values(), ids=MADE)
def test_targets_become_what_is_said_and_are_named_as_in_the_file(tmp_path, values, kind, wanted):
    bundle = build(tmp_path, VECTORS, values, kind=kind)
    _, targets, rows = whole(bundle)
    assert np.array_equal(targets, wanted[rows].astype("i8" if kind == "class" else "f4"))
    if kind in ("class", "binary") and values.ndim == 1:
        named = [str(int(value)) for value in values[rows]]
        assert bundle.preprocessor.decode_targets(targets) == named
    if kind == "multilabel":
        training = targets[: len(bundle.train)]
        assert bundle.spec.class_counts == tuple(training.sum(0).int().tolist())


@pytest.mark.parametrize(
    ("values", "kind", "names"),
    [
        (CLASSES, "class", ("a", "b", "c")),
        (CLASSES + 1, "class", ("a", "b", "c")),
        (CLASSES % 2, "binary", ("no", "yes")),
        (ONE_HOT, "multilabel", ("a", "b", "c")),
        (ONE_HOT, "distribution", ("a", "b", "c")),
        (ONE_HOT, "real", ("x", "y", "z")),
    ],
)
def test_classes_and_columns_can_be_named(tmp_path, values, kind, names):
    assert build(tmp_path, VECTORS, values, kind=kind, class_names=names).spec.class_names == names
    with pytest.raises(ConfigError, match=f"dataset.class_names has 4 names, and there are {len(names)} "):
        build(tmp_path, VECTORS, values, kind=kind, class_names=("a", "b", "c", "d"))


EXPLICIT = {
    **{f"vector-{dtype}": (dtype, (7,), "vector") for dtype in ("?", "u1", "u2", "u4", "i1", "i8", "f2", "f4", "f8")},
    **{f"array-{dtype}": (dtype, (4, 3), "array") for dtype in ("?", "u1", "u2", "i4", "f4", "f8")},
    "array-of-1-axis": ("f4", (5,), "array"),
    "array-of-4-axes": ("f8", (2, 3, 2, 2), "array"),
    "vector-of-numbers": ("f8", (), "vector"),
    "tokens-of-bytes": ("u1", (7,), "tokens"),
    "grey-floats": ("f4", (5, 4), "image"),
    "image-f8": ("f8", (3, 5, 4), "image"),
}


@pytest.mark.parametrize(("dtype", "shape", "kind"), EXPLICIT.values(), ids=EXPLICIT)
def test_inputs_are_what_is_said_of_them(tmp_path, dtype, shape, kind):
    given = drawn(dtype, *shape)
    bundle = build(tmp_path, given, CLASSES, inputs_as=kind)
    seen = (1, *shape) if kind == "image" and len(shape) == 2 else shape or (1,)
    assert (bundle.spec.inputs, bundle.spec.input_shape) == (kind, seen)
    inputs, _, rows = whole(bundle)
    assert inputs.dtype == (torch.int64 if kind == "tokens" else torch.float32)
    assert np.array_equal(inputs, given[rows].reshape(60, *seen).astype("i8" if kind == "tokens" else "f4"))


@pytest.mark.parametrize(
    ("inputs", "kind", "message"),
    [
        (np.zeros((60, 2)), "tokens", "tokens are whole numbers: .*array.astype"),
        (
            np.zeros((60, 2, 2)),
            "vector",
            r"float64 \[60, 2, 2\], and dataset.inputs_as is vector, which has 1 or 2 axes",
        ),
        (np.zeros((60, 2)), "image", "inputs_as is image, which has 3 or 4 axes"),
        (np.zeros(60), "array", "inputs_as is array, which has 2 axes or more"),
        (np.full((60, 2), -2), "tokens", "token 0 of sample 0 is -2; valid are 0 to 9,999,999: .*inputs_as=vector"),
        (np.full((60, 2), 10**7), "tokens", "token 0 of sample 0 is 10000000; valid are 0 to 9,999,999"),
    ],
)
def test_inputs_that_cannot_be_what_is_said_are_refused(tmp_path, inputs, kind, message):
    with pytest.raises(DataError, match=message):
        build(tmp_path, inputs, CLASSES, inputs_as=kind)


def test_whole_numbers_are_taken_for_tokens_with_a_warning_that_says_how_to_say_so(tmp_path):
    with pytest.warns(UserWarning, match=r"whole numbers \[60, 7\], .*dataset.inputs_as=vector; .*inputs_as=tokens"):
        assert build(tmp_path, drawn("i8", 7), CLASSES).spec.inputs == "tokens"


def test_pictures_of_16_bits_that_are_not_scaled_are_warned_of(tmp_path):
    with pytest.warns(UserWarning, match=r"pictures of uint16 are used as they are, .*dataset.standardize=true"):
        build(tmp_path, drawn("u2", 5, 4), CLASSES, inputs_as="image")


SCALED = {
    **{f"vector-{dtype}": (dtype, (7,), "vector", (0,)) for dtype in ("f2", "f4", "f8", "i8", "u1", "u2", "?")},
    "image-u1": ("u1", (3, 5, 4), "image", (0, 2, 3)),
    "image-u2": ("u2", (1, 5, 4), "image", (0, 2, 3)),
    "image-f4": ("f4", (3, 5, 4), "image", (0, 2, 3)),
    "array-f8": ("f8", (4, 3), "array", (0, 1)),
}


@pytest.mark.parametrize(("dtype", "shape", "kind", "axes"), SCALED.values(), ids=SCALED)
def test_standardized_inputs_have_mean_0_and_deviation_1_in_the_training_samples(
    tmp_path, monkeypatch, dtype, shape, kind, axes
):
    monkeypatch.setattr(array_inputs, "CHUNK", 50)  # figures are merged from several pieces
    given = drawn(dtype, *shape)
    bundle = build(tmp_path, given, CLASSES, inputs_as=kind, standardize=True)
    inputs, _, rows = whole(bundle)
    training = given[bundle.train.indices].astype("f8")
    mean, std = training.mean(axes, keepdims=True), training.std(axes, keepdims=True)
    torch.testing.assert_close(
        inputs, torch.from_numpy(((given[rows] - mean) / std).astype("f4")), rtol=1e-4, atol=1e-4
    )


def test_a_constant_feature_becomes_0_and_far_values_keep_their_digits(tmp_path):
    given = np.stack([np.full(60, 0.1), 1.7e9 + np.arange(60)], 1)
    inputs, _, _ = whole(build(tmp_path, given, CLASSES, standardize=True))
    assert inputs[:, 0].abs().max() < 1e-6
    assert len(inputs[:, 1].unique()) == 60


def test_real_targets_are_standardized_and_shown_in_their_own_units(tmp_path):
    values = np.stack([250_000 + 80_000 * drawn("f8"), drawn("f8")], 1)
    bundle = build(tmp_path, VECTORS, values, standardize_target=True)
    _, targets, rows = whole(bundle)
    training = values[bundle.train.indices]
    assert bundle.spec.target_mean == pytest.approx(training.mean(0))
    assert bundle.spec.target_std == pytest.approx(training.std(0))
    assert np.allclose(targets, (values[rows] - training.mean(0)) / training.std(0), atol=1e-5)
    assert np.allclose(bundle.preprocessor.decode_targets(targets), values[rows], rtol=1e-5)


@pytest.mark.parametrize("kind", ["class", "auto"])
def test_only_real_targets_are_standardized(tmp_path, kind):
    with pytest.raises(ConfigError, match=r"dataset.standardize_target belongs to real targets; those of .* are class"):
        build(tmp_path, VECTORS, CLASSES, kind=kind, standardize_target=True)


def holed(**values):
    array = drawn("f4", 3)
    for name, value in values.items():
        array[int(name[1:]), 2] = value
    return array


def test_a_missing_value_is_named_with_its_file_and_row_and_both_remedies_work(tmp_path):
    given = holed(_50=np.nan, _7=np.nan)
    with pytest.raises(
        DataError, match=r"inputs.npy: input 7, counted from 0, is no finite number: value 2 is nan \(2 s"
    ) as caught:
        build(tmp_path, given, CLASSES)
    assert re.findall(r"dataset\.missing=(\w+)", str(caught.value)) == ["drop", "mean"]
    dropped, filled = (build(tmp_path, given, CLASSES, missing=how) for how in ("drop", "mean"))
    inputs, targets, rows = whole(dropped)
    assert sorted(rows.tolist()) == [row for row in range(60) if row not in (7, 50)]
    assert np.array_equal(inputs, given[rows])
    assert np.array_equal(targets, CLASSES[rows])
    assert "2 samples with missing or infinite values left out" in dropped.notes
    inputs, _, rows = whole(filled)
    mean = np.nanmean(given[filled.train.indices, 2].astype("f8"))
    assert np.array_equal(inputs, np.where(np.isnan(given), np.float32(mean), given)[rows])


def test_filling_and_standardizing_make_the_mean_0(tmp_path):
    inputs, _, rows = whole(build(tmp_path, holed(_7=np.nan), CLASSES, missing="mean", standardize=True))
    assert inputs[rows == 7, 2].abs() < 1e-6


def test_what_is_filled_stays_after_the_data_was_described_and_never_reaches_the_file(tmp_path):
    given = holed(_7=np.nan)
    bundle = build(tmp_path, given, CLASSES, missing="mean", standardize=True)
    before = whole(bundle)[0]
    assert before.isfinite().all()
    assert abs(before[: len(bundle.train)].std(0, correction=0) - 1).max() < 1e-5
    bundle.describe()
    assert torch.equal(whole(bundle)[0], before)
    assert np.isnan(np.load(tmp_path / "inputs.npy")).sum() == 1


def test_a_run_trains_on_what_was_filled(ptb, tmp_path):
    np.save(tmp_path / "x.npy", holed(_7=np.nan))
    np.save(tmp_path / "y.npy", CLASSES)
    given = ("--model", "mlp", "--dataset", "arrays", "dataset.inputs=x.npy", "dataset.targets=y.npy", "--epochs", 1)
    assert ptb("run", *given, "dataset.missing=mean").returncode == 0


@pytest.mark.parametrize("how", ["error", "mean"])
def test_an_infinite_value_is_never_filled(tmp_path, how):
    with pytest.raises(
        DataError, match="input 7, counted from 0, is no finite number: value 2 is -inf; dataset"
    ) as caught:
        build(tmp_path, holed(_7=-np.inf), CLASSES, missing=how)
    assert "missing=mean" not in str(caught.value)
    assert len(whole(build(tmp_path, holed(_7=-np.inf), CLASSES, missing="drop"))[2]) == 59


def test_missing_targets_are_left_out_too(tmp_path):
    targets = np.where(np.arange(60) == 9, np.nan, CLASSES + 0.5)
    with pytest.raises(DataError, match=r"targets.npy: target 9, .*dataset.missing=drop leaves such samples out$"):
        build(tmp_path, VECTORS, targets)
    _, kept, rows = whole(build(tmp_path, VECTORS, targets, missing="drop"))
    assert np.array_equal(kept[:, 0], targets[rows].astype("f4"))
    assert 9 not in rows


def test_nothing_left_is_refused(tmp_path):
    with pytest.raises(DataError, match="every sample holds a value that is missing"):
        build(tmp_path, np.full((60, 2), np.nan), CLASSES, missing="drop")


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "?"])
def test_samples_have_the_weights_of_their_file(tmp_path, dtype):
    weights = np.arange(60).astype(dtype)
    np.save(tmp_path / "w.npy", weights)
    bundle = build(tmp_path, VECTORS, CLASSES, sample_weights=str(tmp_path / "w.npy"))
    held = InMemorySamples.of(bundle.train)
    assert np.array_equal(held.take(torch.arange(held.size)).weights, weights[bundle.train.indices].astype("f4"))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.arange(59.0), "do not belong together: 60 inputs, 59 weights"),
        (np.arange(60.0) - 5, r"w.npy: weight 0 is -5.0; valid are finite numbers, 0 or more"),
        (np.where(np.arange(60) == 3, np.nan, 1), "weight 3 is nan"),
        (np.ones((60, 2)), r"w.npy holds float64 \[60, 2\]; weights are \[N\]"),
    ],
)
def test_weights_that_are_none_are_refused(tmp_path, weights, message):
    np.save(tmp_path / "w.npy", weights)
    with pytest.raises(DataError, match=message):
        build(tmp_path, VECTORS, CLASSES, sample_weights=str(tmp_path / "w.npy"))


@pytest.mark.parametrize("how", ["standardize", "missing"])
def test_figures_are_for_numbers_and_not_for_tokens(built_in, tmp_path, how):
    settings = {"standardize": True} if how == "standardize" else {"missing": "mean"}
    with pytest.raises(ConfigError, match=f"dataset.{how} is for numbers"), pytest.warns(UserWarning, match="tokens"):
        build(tmp_path, drawn("i8", 3), CLASSES, **settings)
    with pytest.raises(ConfigError, match="is for numbers, and inputs_as is tokens"):
        built_in.build("dataset", "arrays", inputs="x", targets="y", inputs_as="tokens", **settings)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "u4", "u1"])
def test_the_order_of_bytes_and_axes_in_the_file_changes_nothing(tmp_path, dtype, byte_order, order):
    given = drawn(dtype, 4, 3)
    bundle = build(tmp_path, np.array(given, f"{byte_order}{dtype}", order=order), CLASSES, inputs_as="array")
    inputs, _, rows = whole(bundle)
    assert np.array_equal(inputs, given[rows].astype("f4"))


def test_a_seed_that_chooses_nothing_is_refused(built_in, tmp_path):
    with pytest.raises(ConfigError, match=r"dataset\.split_seed: chooses what val_fraction and test_fraction take"):
        built_in.build("dataset", "arrays", inputs="x", targets="y", val_fraction=0, test_fraction=0, split_seed=1)


def test_a_run_trains_on_arrays_from_the_command_line(ptb, tmp_path):
    np.save(tmp_path / "x.npy", drawn("f8", 4))
    np.save(tmp_path / "y.npy", CLASSES)
    given = ("--model", "mlp", "--dataset", "arrays", "dataset.inputs=x.npy", "dataset.targets=y.npy", "--epochs", 1)
    done = ptb("run", *given, "--output", "out")
    assert (done.returncode, done.stderr.count("warning")) == (0, 0)
    (tmp_path / "y.npy").write_bytes(b"hello")
    done = ptb("run", *given, "--output", "other")
    assert done.returncode == 3
    assert "y.npy is not a .npy file" in done.stderr
