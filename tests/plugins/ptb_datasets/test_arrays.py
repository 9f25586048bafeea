import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ptb import ConfigError, DataError
from ptb.data.loader import BatchLoader
from ptb.data.sources import InMemorySamples, make_sources
from ptb_datasets import arrays as module
from ptb_datasets.arrays import arrays

RANDOM = np.random.RandomState(0)
CLASSES = np.arange(60) % 3


def build(folder, inputs, targets, **settings):
    for name, array in (("inputs", inputs), ("targets", targets)):
        np.save(folder / f"{name}.npy", array)
    return arrays(inputs=str(folder / "inputs.npy"), targets=str(folder / "targets.npy"), **settings)


def drawn(dtype, *shape):
    if np.dtype(dtype).kind == "f":
        return RANDOM.standard_normal((60, *shape)).astype(dtype)
    return RANDOM.randint(0, 100, (60, *shape)).astype(dtype)


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
    bundle = build(tmp_path, given, CLASSES)
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
    bundle = build(tmp_path, tokens, CLASSES)
    assert bundle.spec.vocabulary == int(tokens[7, 1]) + 1
    inputs, _, rows = whole(bundle)
    assert np.array_equal(inputs, tokens[rows].astype(np.int64))


@pytest.mark.parametrize("values", [1, 6, 7, 1000])
def test_tokens_are_looked_at_in_pieces(tmp_path, monkeypatch, values):
    monkeypatch.setattr(module, "CHUNK", values)
    given = tokens(_20=41)
    assert build(tmp_path, given, CLASSES).spec.vocabulary == 42
    with pytest.raises(DataError, match="token 1 of sample 33 is -1"):
        build(tmp_path, tokens(_20=41, _33=-1), CLASSES)


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


def test_large_inputs_are_not_read_before_they_are_used(tmp_path):
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
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
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
    "negative-token": (tokens(_7=-2), CLASSES, "token 1 of sample 7 is -2; valid are 0 to 9,999,999"),
    "huge-token": (tokens(_59=10**7), CLASSES, "token 1 of sample 59 is 10000000; valid are 0 to 9,999,999"),
    "no-samples": (np.zeros((0, 2)), CLASSES, r"dataset.inputs=.* holds no values: its shape is \(0, 2\)"),
    "no-features": (np.zeros((60, 0)), CLASSES, r"holds no values: its shape is \(60, 0\)"),
    "other-length": (VECTORS[:59], CLASSES, "do not belong together: 59 inputs, 60 targets"),
    "objects": (np.array([[1, "a"]] * 60, object), CLASSES, "dataset.inputs=.* holds objects"),
    "big-endian": (VECTORS.astype(">f4"), CLASSES, "dataset.inputs=.* is in the byte order of other machines"),
    "fortran": (np.asfortranarray(VECTORS), CLASSES, "dataset.inputs=.* is in Fortran order"),
    "text-targets": (VECTORS, np.array(["a", "b"] * 30), "dataset.targets=.* holds values of type <U1"),
    "one-hot": (VECTORS, np.eye(3, dtype=int)[CLASSES], r"holds int64 \[60, 3\]: classes are whole numbers"),
    "3-axes": (VECTORS, np.zeros((60, 2, 2)), r"targets.npy holds float64 \[60, 2, 2\]"),
    "one-target": (VECTORS, np.float32(3), r"targets.npy holds float32 \[\]"),
    "gap": (VECTORS, CLASSES * 2, "no target is 1, and the largest is 4; number the classes without gaps"),
    "from-1": (VECTORS, CLASSES + 1, "no target is 0, and the largest is 3"),
    "negative": (VECTORS, CLASSES - 1, "target 0 is -1; classes are numbered from 0"),
    "sparse": (VECTORS, CLASSES * 10**9, "target 2 is 2000000000; classes are numbered from 0"),
    "one-class": (VECTORS, np.full(60, 2), "every target is 2; of one class nothing can be learnt"),
    "one-value": (VECTORS, np.zeros(60), r"every target is 0.0; of one class nothing can be learnt"),
    "nan": (VECTORS, np.where(np.arange(60) == 9, np.nan, 0.5), "target 9 is nan, which is not finite"),
    "too-large": (VECTORS, np.where(np.arange(60) == 9, 1e300, 0.5), "target 9 is 1e\\+300, which is not finite"),
    "rare-class": (VECTORS[:4], np.array([0, 1, 2, 2]), "too few samples"),
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
            r"float64 \[60\], and classes are whole numbers: save array.astype\(int\), or say .*real",
        ),
        (CLASSES, "binary", "target 2 is 2, and dataset.kind is binary: valid are 0 and 1"),
        (np.zeros((60, 2)), "binary", r"float64 \[60, 2\], and dataset.kind is binary"),
        (np.zeros((60, 2)), "class", r"float64 \[60, 2\], and dataset.kind is class"),
    ],
    ids=["floats-as-classes", "three-values-as-binary", "two-columns-as-binary", "two-columns-as-classes"],
)
def test_a_kind_that_the_targets_are_not_of_is_refused(tmp_path, values, kind, message):
    with pytest.raises(DataError, match=message):
        build(tmp_path, VECTORS, values, kind=kind)


def test_a_class_that_only_other_splits_would_have_is_refused(tmp_path):
    targets = np.array([0] * 5 + [1] * 5 + [2])  # of 5 drawn for each split, 1 is of the class of one sample
    with pytest.raises(DataError, match="too few samples of class 2: none is left for training"):
        build(tmp_path, VECTORS[:11], targets, val_fraction=0.45, test_fraction=0)


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
    with pytest.warns(UserWarning, match=r"taken for 32 channels of 24x3; .*transpose\(0, 3, 1, 2\)"):
        bundle = build(tmp_path, np.zeros((60, 32, 24, 3), np.uint8), CLASSES)
    assert bundle.spec.input_shape == (32, 24, 3)


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
