import json

import numpy as np
import pytest

from sample_files import CLASSES, ONE_HOT, build, drawn

NOTES = {
    "pictures": (drawn("u1", 5, 4), CLASSES, {}, ["inputs are pictures of 1x5x4 (uint8)"]),
    "arrays": (drawn("f2", 5, 4), CLASSES, {"inputs_as": "array"}, ["inputs are arrays of 5x4 (float16)"]),
    "vectors": (drawn("f4", 4), CLASSES, {}, ["inputs are vectors of 4 (float32)", "targets are 3 classes"]),
    "tokens": (np.full((60, 3), 8), CLASSES, {"inputs_as": "tokens"}, ["inputs are 3 tokens each (int64), out of 9"]),
    "codes": (drawn("f4", 4), CLASSES + 1, {}, ["the classes are the values 1, 2, 3"]),
    "one-hot": (drawn("f4", 4), ONE_HOT, {"kind": "class"}, ["targets are 3 classes, from one-hot rows"]),
    "signs": (drawn("f4", 4), CLASSES % 2 * 2 - 1, {}, ["the positive class is '1'"]),
    "binary": (drawn("f4", 4), CLASSES % 2, {"class_names": ("no", "yes")}, ["the positive class is 'yes'"]),
    "real": (drawn("f4", 4), drawn("f4", 2), {}, ["targets are real (2)"]),
}


@pytest.mark.parametrize(("inputs", "targets", "settings", "said"), NOTES.values(), ids=NOTES)
def test_a_run_says_what_inputs_and_targets_were_taken_for(tmp_path, inputs, targets, settings, said):
    assert set(said) <= set(build(tmp_path, inputs, targets, **settings).notes)


def test_columns_have_the_figures_of_the_training_samples(tmp_path):
    given = drawn("f8", 3)
    bundle = build(tmp_path, given, CLASSES)
    training = given[bundle.train.indices]
    described = json.loads(json.dumps(bundle.describe()))
    for place, column in enumerate(described["columns"]):
        assert (column["name"], column["used_as"]) == (f"[{place}]", "number")
        figures = [
            training[:, place].mean(),
            training[:, place].std(),
            training[:, place].min(),
            training[:, place].max(),
        ]
        assert [column[key] for key in ("mean", "std", "min", "max")] == pytest.approx(figures)
    assert described["warnings"] == []
    assert described["transforms"] == ["inputs as they are, as float32"]


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        (lambda x: x * [1, 0, 1], {}, "column 1 of the inputs is 0 in every training sample"),
        (lambda x: x * [1, 1e4, 1], {}, "dataset.standardize=true"),
    ],
)
def test_what_looks_wrong_is_said_with_what_to_type(tmp_path, change, settings, said):
    assert any(
        said in each for each in build(tmp_path, change(drawn("f8", 3)), CLASSES, **settings).describe()["warnings"]
    )
    healed = build(tmp_path, change(drawn("f8", 3)), CLASSES, standardize=True).describe()["warnings"]
    assert not any("standardize" in each for each in healed)


def test_transformations_are_shown_with_their_numbers(tmp_path):
    given = drawn("f8", 2)
    given[3, 1] = np.nan
    bundle = build(tmp_path, given, drawn("f8"), missing="mean", standardize=True, standardize_target=True)
    filled, scaled, target = bundle.describe()["transforms"]
    means = [f"{value:.4g}" for value in np.nanmean(given[bundle.train.indices], 0)]
    assert filled.endswith(f"[{', '.join(means)}]")
    assert scaled.startswith(f"inputs: (value - [{', '.join(means)}]) / [")
    assert f"{bundle.spec.target_std[0]:.4g}" in target
    assert build(tmp_path, drawn("u1", 4, 4), CLASSES).describe()["transforms"] == [
        "inputs: (value / 255 - 0.5) / 0.5, so -1 to 1"
    ]
