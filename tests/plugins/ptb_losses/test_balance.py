import pytest

from ptb import DataSpec
from ptb_losses.balance import counts_for_balance

BALANCED = [
    ("cross-entropy", "class", 3, "weight"),
    ("bce-with-logits", "binary", 1, "pos_weight"),
]
every_balance = pytest.mark.parametrize(("loss", "target", "size", "setting"), BALANCED, ids=lambda value: value)


@every_balance
def test_a_data_set_that_does_not_count_its_classes_cannot_be_balanced(built_in, loss, target, size, setting):
    spec = DataSpec((4,), "vector", target, size)
    with pytest.raises(
        ValueError, match=f"{setting}='balanced' needs .*DataSpec.class_counts is empty.*; give {setting} in"
    ):
        built_in.build("loss", loss, spec, **{setting: "balanced"})


@every_balance
@pytest.mark.parametrize("empty", [0, 1])
def test_nor_can_a_class_without_samples(built_in, loss, target, size, setting, empty):
    counts = [4] * max(size, 2)
    counts[empty] = 0
    spec = DataSpec((4,), "vector", target, size, class_counts=tuple(counts))
    with pytest.raises(ValueError, match=f"of the {len(counts)} classes {empty} has no training samples"):
        built_in.build("loss", loss, spec, **{setting: "balanced"})


@pytest.mark.parametrize(
    ("names", "counts", "told"),
    [
        (("cat", "dog", "cow"), (3, 0, 4), "of the 3 classes 'dog' has no"),
        (("cat", "dog", "cow"), (0, 5, 0), "of the 3 classes 'cat', 'cow' have no"),
        ((), (1, *[0] * 8), "of the 9 classes 1, 2, 3, 4, 5 and 3 more have no"),
    ],
    ids=["one", "two", "many"],
)
def test_the_empty_classes_are_named(names, counts, told):
    spec = DataSpec((4,), "vector", "class", len(counts), class_names=names, class_counts=counts)
    with pytest.raises(ValueError, match=told):
        counts_for_balance(spec, "weight")


def test_full_classes_come_as_they_are():
    assert counts_for_balance(DataSpec((4,), "vector", "class", 3, class_counts=(1, 2, 3)), "weight") == (1, 2, 3)
