"""Which rows train, validate and test, and what is predicted."""

import numpy as np
import pandas as pd
import pytest
import torch

from ptb import DataError
from ptb_datasets.csv_file import raw_rows
from ptb_datasets.csv_table import csv_table
from ptb_datasets.table_content import Content

random = np.random.RandomState(1)
ROWS = 240
FRAME = pd.DataFrame(
    {
        "n": np.arange(ROWS) + 0.5,
        "patient": [f"p{n // 6}" for n in range(ROWS)],
        "day": [f"2024-{1 + n % 12:02}-{1 + n % 28:02}" for n in random.permutation(ROWS)],
        "part": [("train", "train", "val", "train", "test")[n % 5] for n in range(ROWS)],
        "w": random.rand(ROWS).round(3),
        "y": [n // 6 % 2 for n in range(ROWS)],
        "price": random.normal(9, 4, ROWS).round(3),
        "a": random.randint(0, 2, ROWS),
        "b": random.randint(0, 2, ROWS),
    }
)


@pytest.fixture
def load(tmp_path):
    def run(frame=FRAME, target="y", **settings):
        path = tmp_path / "table.csv"
        frame.to_csv(path, index=False)
        return csv_table(path=path, **{"target": target, "features": "n"} | settings)

    return run


def rows(bundle):
    """The rows of FRAME that each split has, from the feature n."""
    mean, std = (bundle.preprocessor.features[0][key][0] for key in ("mean", "std"))
    return {
        split: np.rint(samples.tensors[0][:, 0].double().numpy() * std + mean - 0.5).astype(int)
        for split, samples in bundle.splits.items()
    }


def complete(found):
    return sorted(np.concatenate(list(found.values()))) == list(range(ROWS))


def test_a_column_says_the_split(load):
    found = rows(load(split="part"))
    assert complete(found)
    for split, part in found.items():
        assert set(FRAME["part"][part]) == {split}


@pytest.mark.parametrize(
    "words", [("Training", "VALIDATION", "test"), ("train", "dev", "Testing"), ("train", "valid", "test")]
)
def test_other_words_for_splits_are_taken_for_them(load, words):
    other = FRAME.assign(part=FRAME["part"].map(dict(zip(("train", "val", "test"), words, strict=True))))
    expected = rows(load(split="part"))
    assert all(np.array_equal(part, expected[split]) for split, part in rows(load(other, split="part")).items())


def test_a_column_without_val_gives_none_unless_it_is_drawn(load):
    frame = FRAME.assign(part=FRAME["part"].replace("val", "train"))
    assert list(load(frame, split="part").splits) == ["train", "test"]


def test_no_statistic_comes_from_rows_of_other_splits(load):
    train = FRAME["n"][FRAME["part"] == "train"]
    feature = load(split="part").preprocessor.features[0]
    assert feature["mean"] == [pytest.approx(train.mean(), rel=1e-12)]
    assert feature["std"] == [pytest.approx(train.std(ddof=0), rel=1e-12)]


def test_an_unknown_word_in_the_split_column_is_a_data_error(load):
    frame = FRAME.assign(part=FRAME["part"].where(FRAME.index != 7, "holdout"))
    with pytest.raises(DataError, match="'part', line 9: 'holdout' is no split; valid are train, val and test"):
        load(frame, split="part")


def test_a_split_column_without_train_is_a_data_error(load):
    with pytest.raises(DataError, match="column 'part': no row is of the split train"):
        load(FRAME.assign(part="test"), split="part")


def test_groups_stay_together_and_classes_in_proportion(load):
    bundle = load(group="patient")
    found = rows(bundle)
    assert complete(found)
    groups = [set(FRAME["patient"][part]) for part in found.values()]
    assert sum(map(len, groups)) == 40
    assert [len(part) for part in groups] == [28, 6, 6]
    assert all(abs(FRAME["y"][part].mean() - 0.5) < 1e-9 for part in found.values())


def test_groups_do_not_depend_on_the_order_of_the_rows(load):
    ours = rows(load(group="patient"))
    shuffled = rows(load(FRAME.sample(frac=1, random_state=3), group="patient"))
    assert all(set(ours[split]) == set(shuffled[split]) for split in ours)


def test_groups_with_a_real_target(load):
    found = rows(load(target="price", group="patient"))
    assert sum(FRAME["patient"][part].nunique() for part in found.values()) == 40


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (1, "every row is of one group; a split needs several"),
        (3, r"too few groups for dataset.val_fraction=0.15, 3 in all; dataset.val_fraction=0 makes no such split"),
    ],
)
def test_groups_that_leave_a_split_empty_are_a_data_error(load, groups, message):
    with pytest.raises(DataError, match=message):
        load(FRAME.assign(patient=[n % groups for n in range(ROWS)]), group="patient")


def test_the_last_days_are_the_test(load):
    found = rows(load(time="day"))
    assert complete(found)
    train, val, test = (FRAME["day"][part] for part in found.values())
    assert train.max() < val.min() <= val.max() < test.min()
    assert abs(len(test) - 36) <= 1


def test_time_may_be_a_number_and_equal_times_stay_together(load):
    found = rows(load(FRAME.assign(day=[n // 50 for n in range(ROWS)]), time="day"))
    assert [len(part) for part in found.values()] == [150, 50, 40]


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (["5"] * ROWS, "too few different times for dataset.val_fraction=0.15, 240 in all"),
        (["soon"] * 9 + ["5"] * (ROWS - 9), "line 2: 'soon' is no number and no date; dataset.date_format says"),
    ],
)
def test_times_that_cannot_be_used_are_a_data_error(load, days, message):
    with pytest.raises(DataError, match=message):
        load(FRAME.assign(day=days), time="day")


def test_folds_are_disjoint_complete_and_stratified(load):
    tests = []
    for fold in range(5):
        found = rows(load(folds=5, fold=fold))
        assert complete(found)
        assert list(found) == ["train", "val", "test"]
        assert FRAME["y"][found["test"]].sum() == 24
        tests.append(found["test"])
    assert sorted(np.concatenate(tests)) == list(range(ROWS))


def test_folds_of_groups_keep_them_together(load):
    tests = [rows(load(folds=4, fold=fold, group="patient", val_fraction=0))["test"] for fold in range(4)]
    assert sorted(np.concatenate(tests)) == list(range(ROWS))
    assert sum(FRAME["patient"][part].nunique() for part in tests) == 40


def test_files_for_splits_are_the_splits(load, tmp_path):
    expected = load(split="part", sample_weight="w")
    paths = {}
    for split, part in FRAME.groupby("part"):
        paths[split] = tmp_path / f"{split}.csv"
        part[part.columns[:: -1 if split == "val" else 1]].to_csv(paths[split], index=False)
    bundle = csv_table(**paths, target="y", features="n", sample_weight="w")
    for split, samples in bundle.splits.items():
        assert all(map(torch.equal, samples.tensors, expected.splits[split].tensors))
    del paths["val"]
    assert list(csv_table(**paths, target="y", features="n").splits) == ["train", "test"]
    drawn = csv_table(**paths, target="y", features="n", val_fraction=0.25)
    assert [len(split) for split in drawn.splits.values()] == [108, 36, 48]


def test_a_fault_in_one_of_the_files_names_it(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n" + "1,0\n2,1\n" * 20)
    (tmp_path / "b.csv").write_text("x,y\n1,0\nbig,1\n")
    with pytest.raises(DataError, match=r"b\.csv, column 'x', line 3: 'big' is no number"):
        csv_table(train=tmp_path / "a.csv", test=tmp_path / "b.csv", target="y")
    (tmp_path / "b.csv").write_text("z,y\n1,0\n")
    with pytest.raises(DataError, match=r"b\.csv has no column 'x', and .*a\.csv has it"):
        csv_table(train=tmp_path / "a.csv", test=tmp_path / "b.csv", target="y")


def test_weights_are_the_third_of_a_sample(load):
    bundle = load(sample_weight="w", features=None, exclude=["patient", "day", "part"])
    assert bundle.spec.input_shape == (4,)
    for split, part in rows(load()).items():
        weights = bundle.splits[split].tensors[2]
        assert weights.dtype == torch.float32
        assert weights.numpy() == pytest.approx(FRAME["w"][part].to_numpy(), rel=1e-6)


def test_a_rare_class_is_trained_on_with_a_warning(load):
    frame = FRAME.assign(y=np.where(FRAME.index == 100, "c", np.where(FRAME["y"], "a", "b")))
    for seed in range(8):  # whatever is drawn
        with pytest.warns(UserWarning, match=r"a class has too few samples to be in every split: 'c' \(1\)"):
            bundle = load(frame, split_seed=seed)
        assert bundle.spec.class_counts[2] == 1


def test_several_real_targets_are_standardized_each(load):
    bundle = load(target=["price", "w"], val_fraction=0, test_fraction=0)
    spec, targets = bundle.spec, bundle.train.tensors[1]
    assert (spec.target, spec.output_size, spec.class_names) == ("real", 2, ("price", "w"))
    values = FRAME[["price", "w"]].to_numpy()
    assert spec.target_mean == pytest.approx(values.mean(0), rel=1e-12)
    assert spec.target_std == pytest.approx(values.std(0), rel=1e-12)
    assert targets.numpy() == pytest.approx((values - values.mean(0)) / values.std(0), abs=1e-6)


def test_several_columns_of_0_and_1_are_labels(load):
    bundle = load(target=["a", "b"], val_fraction=0, test_fraction=0)
    assert (bundle.spec.target, bundle.spec.class_names) == ("multilabel", ("a", "b"))
    assert bundle.train.tensors[1].tolist() == FRAME[["a", "b"]].astype(float).to_numpy().tolist()
    assert bundle.spec.class_counts == (FRAME["a"].sum(), FRAME["b"].sum())


def test_columns_of_which_one_is_1_are_asked_about(load):
    frame = FRAME.assign(b=1 - FRAME["a"])
    with pytest.raises(
        DataError, match=r"exactly one 1; say what they are: dataset.kind=distribution .* or dataset.kind=mu"
    ):
        load(frame, target=["a", "b"])
    assert load(frame, target=["a", "b"], kind="distribution").spec.target == "distribution"
    assert load(frame, target=["a", "b"], kind="multilabel").spec.target == "multilabel"


def test_rows_of_a_distribution_sum_to_1(load):
    frame = FRAME.assign(a=FRAME["w"], b=1 - FRAME["w"])
    bundle = load(frame, target=["a", "b"], kind="distribution")
    assert bundle.train.tensors[1].sum(1).numpy() == pytest.approx(1, abs=1e-6)
    assert (
        "targets are real; each row sums to 1, so dataset.kind=distribution fits too"
        in load(frame, target=["a", "b"]).notes
    )
    frame.loc[5, "a"] = 3
    with pytest.raises(DataError, match=r"line 7: the targets \[3.0, .*\] are no distribution"):
        load(frame, target=["a", "b"], kind="distribution")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("no", "yes"), ("no", "yes")),
        (("ja", "nein"), ("nein", "ja")),
        (("oui", "non"), ("non", "oui")),
        (("True", "False"), ("False", "True")),
        (("fraud", "legit"), ("fraud", "legit")),
    ],
)
def test_the_positive_class_is_the_one_that_says_yes_and_is_noted(load, words, names):
    bundle = load(FRAME.assign(y=[words[n] for n in FRAME["y"]]))
    assert bundle.spec.class_names == names
    assert bundle.notes[0] == f"positive class (1) is '{names[1]}'; dataset.positive={names[0]} makes it the other"


@pytest.mark.parametrize("positive", ["legit", "fraud"])
def test_the_positive_class_can_be_chosen(load, positive):
    frame = FRAME.assign(y=np.where(FRAME["y"], "legit", "fraud"))
    bundle = load(frame, positive=positive, val_fraction=0, test_fraction=0)
    assert bundle.spec.class_names[1] == positive
    assert bundle.train.tensors[1][:, 0].tolist() == (frame["y"] == positive).astype(float).tolist()


def test_numbers_can_be_the_positive_class(load):
    assert load(positive=0).spec.class_names == ("1", "0")


def test_spellings_of_yes_and_no_are_one(load):
    frame = FRAME.assign(y=[("no", "No", "YES", "yes")[2 * y + n % 2] for n, y in enumerate(FRAME["y"])])
    assert load(frame).spec.class_names == ("no", "yes")


def test_whole_numbers_that_may_be_codes_are_asked_about(load):
    frame = FRAME.assign(y=[n % 24 for n in range(ROWS)])
    with pytest.raises(
        DataError, match=r"24 different whole numbers, .* say which, dataset.kind=class or dataset.kind=real"
    ):
        load(frame)
    assert load(frame, kind="class").spec.output_size == 24
    assert load(frame, kind="real").spec.target == "real"


def test_floats_that_are_whole_can_be_classes(load):
    assert load(FRAME.assign(y=[float(n % 24) for n in range(ROWS)]), kind="class").spec.class_names[:2] == ("0", "1")


def test_the_line_of_each_sample_is_known(load):
    bundle = load(group="patient")
    for split, part in rows(bundle).items():
        assert bundle.names(split) == [f"table.csv:{row + 2}" for row in part]


FORMS = {
    "csv": {},
    "semicolon": {"sep": ";"},
    "sep-line": {"sep": ";"},
    "latin-1": {"encoding": "latin-1"},
    "gzip": {"compression": "gzip"},
    "xlsx": {},
    "parquet": {},
}


@pytest.mark.parametrize(("form", "options"), FORMS.items(), ids=FORMS)
def test_the_files_of_splits_give_the_same_samples(form, options, tmp_path):
    frame = FRAME.assign(town=np.where(FRAME["a"], "Genève", "Bern, the town"))
    settings = {"target": "y", "features": ["n", "town"]}
    path = tmp_path / "t"
    if form == "xlsx":
        pytest.importorskip("openpyxl")
        path = tmp_path / "t.xlsx"
        frame.to_excel(path, index=False)
    elif form == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, **options)
    if form == "sep-line":
        path.write_text("sep=;\n" + path.read_text())
    elif "sep" in options:
        settings["separator"] = options["sep"]
    settings |= {"encoding": options["encoding"]} if "encoding" in options else {}
    bundle = csv_table(path=path, group="patient", **settings)
    (tmp_path / "out").mkdir()
    written = bundle.write_splits(tmp_path / "out")
    assert {p.suffix for p in written.values()} == {f".{form}" if form in ("xlsx", "parquet") else ".csv"}
    again = csv_table(**written, **settings)
    for split, samples in bundle.splits.items():
        assert all(map(torch.equal, samples.tensors, again.splits[split].tensors))


def test_the_text_of_rows_is_that_of_the_file(tmp_path):
    text = 'x,y\r\n\r\n1,"a\nb"\n2, c\n'
    (tmp_path / "t.csv").write_bytes(text.encode())
    found = list(raw_rows(Content(tmp_path / "t.csv", "csv", ",")))
    assert found == [(1, "x,y\r\n"), (3, '1,"a\nb"\n'), (5, "2, c\n")]
