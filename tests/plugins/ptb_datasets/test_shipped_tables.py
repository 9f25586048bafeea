import gzip

import numpy as np
import pytest
import torch

from ptb import DataError
from ptb_datasets import shipped, shipped_tables
from ptb_datasets.shipped_tables import breast_cancer, diabetes, iris, wine

CLASSES = {"iris": iris, "wine": wine, "breast_cancer": breast_cancer}
ALL = {**CLASSES, "diabetes": diabetes}
every_table = pytest.mark.parametrize(("name", "build"), ALL.items(), ids=ALL)
every_class_table = pytest.mark.parametrize(("name", "build"), CLASSES.items(), ids=CLASSES)


def theirs(name):
    from sklearn import datasets

    options = {"scaled": False} if name == "diabetes" else {}
    return getattr(datasets, f"load_{name}")(**options)


def together(bundle):
    inputs, targets = zip(*(split.tensors for split in bundle.splits.values()), strict=True)
    return torch.cat(inputs).double().numpy(), torch.cat(targets).double().flatten().numpy()


def sorted_rows(features, targets):
    rows = np.column_stack((features, targets))
    return rows[np.lexsort(rows.T[::-1])]


@every_table
def test_samples_are_those_of_scikit_learn_each_once(name, build, monkeypatch):
    monkeypatch.setattr(shipped_tables, "standardized", lambda values, training: values)
    data = theirs(name)
    features, targets = together(build())
    assert np.array_equal(sorted_rows(features, targets), sorted_rows(data.data, data.target))


@every_table
def test_samples_have_the_shapes_and_dtypes_of_the_spec(name, build):
    bundle, data = build(), theirs(name)
    spec = bundle.spec
    assert (spec.inputs, spec.input_shape) == ("vector", (data.data.shape[1],))
    assert (spec.target, spec.output_size) == {
        "iris": ("class", 3),
        "wine": ("class", 3),
        "breast_cancer": ("binary", 1),
        "diabetes": ("real", 1),
    }[name]
    assert spec.class_names == tuple(data.get("target_names", ()))
    for split in bundle.splits.values():
        inputs, targets = split.tensors
        assert inputs.dtype == torch.float32
        assert targets.dtype == (torch.int64 if spec.target == "class" else torch.float32)
        assert targets.shape == ((len(split),) if spec.target == "class" else (len(split), 1))
    counts = () if name == "diabetes" else tuple(bundle.train.tensors[1].flatten().long().bincount().tolist())
    assert spec.class_counts == counts


@every_class_table
def test_splits_are_stratified(name, build):
    bundle = build()
    counts = {split: part.tensors[1].flatten().long().bincount() for split, part in bundle.splits.items()}
    whole = sum(counts.values())
    for taken in counts.values():
        assert (taken - whole * taken.sum() / whole.sum()).abs().max() < 1


@every_table
def test_fractions_and_seed_make_the_splits(name, build):
    bundle, again = build(val_fraction=0.1, test_fraction=0.3), build(val_fraction=0.1, test_fraction=0.3)
    total = len(theirs(name).target)
    assert (len(bundle.val), len(bundle.test)) == (round(0.1 * total), round(0.3 * total))
    assert len(bundle.train) == total - len(bundle.val) - len(bundle.test)
    assert torch.equal(bundle.train.tensors[0], again.train.tensors[0])
    other = build(val_fraction=0.1, test_fraction=0.3, split_seed=1)
    assert not torch.equal(bundle.train.tensors[0], other.train.tensors[0])


@every_table
def test_training_inputs_have_mean_0_and_deviation_1(name, build):
    inputs = build().train.tensors[0].double()
    assert inputs.mean(0).abs().max() < 1e-6
    assert (inputs.std(0, correction=0) - 1).abs().max() < 1e-6


@every_table
def test_no_statistic_comes_from_other_rows_than_those_of_training(name, build, monkeypatch):
    before = build()
    standardize = shipped_tables.standardized

    def changed(values, training):
        others = np.setdiff1d(np.arange(len(values)), training)
        values = values.copy()
        values[others] *= 1000
        return standardize(values, training)

    monkeypatch.setattr(shipped_tables, "standardized", changed)
    after = build()
    assert all(map(torch.equal, before.train.tensors, after.train.tensors))
    assert not torch.equal(before.test.tensors[0], after.test.tensors[0])


def test_the_target_of_diabetes_is_standardized_unless_that_is_turned_off():
    targets = diabetes().train.tensors[1].double()
    assert targets.mean().item() == pytest.approx(0, abs=1e-6)
    assert targets.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    unscaled = diabetes(standardize_target=False)
    raw = unscaled.train.tensors[1].double()
    assert sorted(together(unscaled)[1]) == sorted(theirs("diabetes").target)
    torch.testing.assert_close((raw - raw.mean()) / raw.std(correction=0), targets, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"3,2,a,b\n1,2,0\n1,2,1\n",
        b"2,2,a,b\n1,2,0\n1,2\n",
        b"2,2,a,b\n1,x,0\n1,2,1\n",
        b"2,2,a,b\n1,2,0\n1,2,2\n",
        b"2,2,a,b\n1,2,0\n1,2,-1\n",
        b"\xff\xfe",
    ],
    ids=["empty", "too-few-rows", "ragged", "word", "label-above", "label-below", "not-utf8"],
)
def test_a_damaged_file_is_a_data_error(monkeypatch, tmp_path, content):
    class Installed:
        def locate_file(self, _):
            return tmp_path / "iris.csv"

    (tmp_path / "iris.csv").write_bytes(content)
    monkeypatch.setattr(shipped, "distribution", lambda _: Installed())
    with pytest.raises(DataError, match="reinstall scikit-learn"):
        iris()


def test_diabetes_files_that_do_not_belong_together_are_a_data_error(monkeypatch, tmp_path):
    class Installed:
        def locate_file(self, name):
            return tmp_path / name.rpartition("/")[2]

    (tmp_path / "diabetes_data_raw.csv.gz").write_bytes(gzip.compress(b"1 2 3\n4 5 6\n"))
    (tmp_path / "diabetes_target.csv.gz").write_bytes(gzip.compress(b"1\n"))
    monkeypatch.setattr(shipped, "distribution", lambda _: Installed())
    with pytest.raises(DataError, match="do not belong together"):
        diabetes()


def test_the_splits_of_diabetes_have_small_and_large_targets_in_proportion():
    for split in diabetes().splits.values():
        assert split.tensors[1].mean().abs() < 0.1
        assert (split.tensors[1].std() - 1).abs() < 0.1


@every_table
def test_rows_of_scikit_learn_are_read_as_training_had_them(name, build):
    data, bundle = theirs(name), build()
    names = [feature["name"] for feature in bundle.preprocessor.features]
    assert names == list(data.feature_names)
    target = bundle.preprocessor.target["columns"][0]
    rows = [
        dict(zip(names, row, strict=True)) | {target: label if name == "diabetes" else data.target_names[int(label)]}
        for row, label in zip(data.data.tolist(), data.target.tolist(), strict=True)
    ]
    samples = list(bundle.preprocessor.read(rows))
    read = torch.stack([torch.cat([s.inputs, s.targets.float().reshape(-1)]) for s in samples])
    whole = [
        torch.cat([inputs, targets.float().reshape(len(targets), -1)], 1)
        for inputs, targets in (split.tensors for split in bundle.splits.values())
    ]
    order = lambda table: table[np.lexsort(table.numpy().T)]  # noqa: E731
    assert torch.equal(order(read), order(torch.cat(whole)))
    arrays = [sample.inputs for sample in bundle.preprocessor.read([data.data])]
    assert torch.equal(torch.stack(arrays), read[:, :-1])


def test_the_progression_is_decoded_in_its_own_units():
    bundle = diabetes()
    decoded = bundle.preprocessor.decode_targets(bundle.train.tensors[1])
    assert set(decoded.round().int().tolist()) <= set(map(int, theirs("diabetes").target))
