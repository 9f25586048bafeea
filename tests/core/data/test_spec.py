import pytest

from ptb import DataBundle, DataSpec

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
        ({"input_shape": (1, 0, 8)}, "input_shape"),
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
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(change, named):
    with pytest.raises(ValueError, match=named):
        DataSpec(**{**IMAGE, **change})


def test_a_bundle_lists_the_splits_that_there_are():
    bundle = DataBundle(DataSpec(**IMAGE), train=[1], test=[2])
    assert bundle.splits == {"train": [1], "test": [2]}
