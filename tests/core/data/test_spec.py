import pytest

from ptb import DataBundle, DataSpec, InputSpec

IMAGE = {"input_shape": (1, 8, 8), "inputs": "image", "target": "class", "output_size": 10}


def test_a_spec_knows_the_size_of_a_sample():
    spec = DataSpec([3, 4, 5], "image", "class", 2, class_names=["cat", "dog"])
    assert spec.input_shape == (3, 4, 5)
    assert spec.input_size == 60
    assert spec.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"inputs": "picture"}, "inputs"),
        ({"target": "labels"}, "target"),
        ({"input_shape": ()}, "input_shape"),
        ({"input_shape": (1, 0, 8)}, "sizes above 0"),
        ({"input_shape": (8, 8)}, "channels, height, width"),
        ({"output_size": 0}, "output_size"),
        ({"output_size": True}, "output_size"),
        ({"output_size": 2, "target": "binary"}, "1 for a binary target"),
        ({"vocabulary": 7}, "vocabulary"),
        ({"inputs": "tokens", "input_shape": (4,)}, "vocabulary"),
        ({"class_names": ("a", "b")}, "2 class_names for 10 classes"),
        ({"class_counts": (1, 2)}, "10 counts"),
        ({"class_counts": (1,) * 9 + (-1,)}, "10 counts"),
        ({"class_counts": (1, 2), "target": "real"}, "0 counts"),
        ({"class_names": ("a", "b"), "target": "multilabel"}, "2 class_names for 10 classes"),
        ({"positions": (8, 0)}, "positions must be sizes above 0"),
        ({"positions": (8, 8), "target": "binary", "output_size": 1}, "positions"),
        ({"padding": 0}, "padding must be a token"),
        ({"inputs": "tokens", "vocabulary": 7, "padding": 7}, "padding must be a token"),
        ({"fields": {"inputs": InputSpec((3,))}}, "'inputs' is the main input"),
        ({"fields": {"table": (3,)}}, "must be InputSpecs"),
        ({"target_mean": (0.0,), "target_std": (1.0,)}, "target_mean and target_std"),
        ({"target": "real", "target_std": (1.0,) * 10}, "target_mean and target_std"),
        ({"target": "real", "target_mean": (0.0,) * 10, "target_std": (0.0,) * 10}, "above 0"),
        ({"target": "real", "target_mean": (float("nan"),) * 10, "target_std": (1.0,) * 10}, "finite"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(change, named):
    with pytest.raises(ValueError, match=named):
        DataSpec(**{**IMAGE, **change})


def test_a_class_at_each_position_is_a_form_of_its_own():
    assert DataSpec(**IMAGE).target_form == "class"
    assert DataSpec(**IMAGE, positions=(8, 8)).target_form == "class+positions"
    assert DataSpec(**IMAGE | {"target": "real"}, positions=(8, 8)).target_form == "real"


def test_a_spec_names_all_inputs():
    spec = DataSpec(**IMAGE, fields={"lengths": InputSpec(()), "mask": InputSpec((1, 8, 8), "image")})
    assert list(spec.all_inputs()) == ["inputs", "lengths", "mask"]
    assert spec.all_inputs()["inputs"] == InputSpec(IMAGE["input_shape"], "image")


def test_another_width_of_the_output_leaves_the_targets_as_they_are():
    spec = DataSpec(**IMAGE, class_names=tuple("0123456789")).with_output(64)
    assert (spec.output_size, spec.target_size) == (64, 10)
    assert spec.with_output(3).target_size == 10


@pytest.mark.parametrize("notes", ["the positive class is 'yes'", [3]], ids=["a text", "no text"])
def test_the_notes_of_a_bundle_are_sentences(notes):
    with pytest.raises(TypeError, match="notes must be a list of sentences, got"):
        DataBundle(DataSpec(**IMAGE), train=[1], notes=notes)


def test_a_bundle_lists_the_splits_that_there_are():
    bundle = DataBundle(DataSpec(**IMAGE), train=[1], test=[2])
    assert bundle.splits == {"train": [1], "test": [2]}
