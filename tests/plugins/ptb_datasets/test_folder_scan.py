import cv2
import numpy as np
import pytest

from ptb import DataError
from ptb_datasets.folder_scan import natural_order
from ptb_datasets.image_folder import image_folder
from ptb_datasets.typed import typed


def save(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((4, 4, 3), number, np.uint8))
    return path


def folder(top, counts):
    number = 0
    for name, count in counts.items():
        for _ in range(count):
            save(top / name / f"{number:03d}.png", number)
            number += 1
    return top


def build(top, **settings):
    return image_folder(root=str(top), **{"size": 4, "val_fraction": 0, "test_fraction": 0, **settings})


def numbers(split):
    return [int(split[row][0][0, 0, 0]) for row in range(len(split))]


LITTER = [
    "__MACOSX/a/._000.png",
    "@eaDir/000.png/SYNOPHOTO_THUMB_M.jpg",
    "a/Thumbs.db",
    "b/THUMBS.DB",
    "a/desktop.ini",
    "Desktop.ini",
    ".DS_Store",
    "a/._000.png",
    "a/@eaDir/000.jpg",
    "a/.ipynb_checkpoints/000-checkpoint.png",
    "$RECYCLE.BIN/x.png",
    "lost+found/x",
    "b/ehthumbs.db",
    "#recycle/x.png",
    "a/Icon\r",
]


@pytest.mark.parametrize("name", LITTER)
@pytest.mark.parametrize("recursive", [False, True])
def test_litter_of_operating_systems_is_passed_over(tmp_path, name, recursive):
    top = folder(tmp_path, {"a": 3, "b": 3})
    (top / name).parent.mkdir(parents=True, exist_ok=True)
    (top / name).write_bytes(b"\0\5\26\7")
    bundle = build(top, recursive=recursive)
    assert bundle.spec.class_names == ("a", "b")
    assert numbers(bundle.train) == list(range(6))


ORDERS = {
    "numbers": ["1", "2", "9", "10", "11"],
    "signed": ["-10", "-1", "0", "0.5", "1", "10"],
    "padded": ["01", "2", "10"],
    "same-number": ["01", "1", "2"],
    "text": ["class1", "class2", "class10", "other"],
    "mixed": ["1", "2b", "10", "a"],
    "plain": ["Dog", "ant", "cat"],
    "words-like-numbers": ["infinity", "nan"],
    "foreign": ["\u0663", "\u732b"],
    "imagenet": ["n01440764", "n01443537", "n02085620"],
}


@pytest.mark.parametrize("names", ORDERS.values(), ids=ORDERS)
def test_classes_are_in_the_order_in_which_people_count(tmp_path, names):
    assert natural_order(reversed(names)) == names
    bundle = build(folder(tmp_path, dict.fromkeys(names, 1)))
    assert bundle.spec.class_names == tuple(names)
    assert bundle.notes[0] == f"classes in this order: {', '.join(names)}"


@pytest.mark.parametrize("names", [["b", "a", "C"], ["x-1", "x", "y z"], ["n2", "n1"]], ids=str)
def test_the_order_without_numbers_of_other_lengths_is_that_of_text(names):
    assert natural_order(names) == sorted(names)


def test_given_classes_are_in_the_given_order_and_others_are_left_out(tmp_path):
    top = folder(tmp_path, {"a": 2, "b": 3, "c": 1, "d": 2})
    bundle = build(top, classes=("d", "b"))
    assert bundle.spec.class_names == ("d", "b")
    assert bundle.spec.class_counts == (2, 3)
    assert "classes left out: a, c" in bundle.notes
    (top / "a" / "bad.png").write_bytes(b"")
    assert build(top, classes=("d", "b")).spec.class_counts == (2, 3)
    with pytest.raises(DataError, match=r"there is no folder 'x' in .*; there are a, b, c, d"):
        build(top, classes=("a", "x"))


def test_a_class_that_only_val_has_is_left_out_as_the_message_says(tmp_path):
    folder(tmp_path / "train", {"a": 2, "b": 2})
    folder(tmp_path / "val", {"a": 1, "b": 1, "c": 1})
    options = {"val_fraction": None, "test_fraction": None}
    with pytest.raises(DataError, match=r"""to leave it out: dataset\.classes='\["a", "b"\]'"""):
        build(tmp_path, **options)
    assert len(build(tmp_path, classes=("a", "b"), **options).val) == 2


def test_recursive_takes_what_is_in_the_folders_of_a_class(tmp_path):
    top = folder(tmp_path, {"a": 2, "a/one/two": 3, "b/x": 2, "b/y": 2})
    with pytest.raises(DataError, match=r"a/one: a folder inside the folder of a class; dataset\.recursive=true takes"):
        build(top)
    bundle = build(top, recursive=True)
    assert bundle.spec.class_counts == (5, 4)
    assert sorted(numbers(bundle.train)) == list(range(9))


def test_links_that_lead_out_are_followed_where_it_is_asked_for(tmp_path):
    top = folder(tmp_path / "top", {"a": 2, "b": 2})
    save(tmp_path / "outside" / "x.png", 50)
    (top / "a" / "y.png").symlink_to(tmp_path / "outside" / "x.png")
    (top / "c").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match=r"copy what it points to, or add dataset\.follow_links=true"):
        build(top)
    bundle = build(top, follow_links=True)
    assert bundle.spec.class_names == ("a", "b", "c")
    assert numbers(bundle.train) == [0, 1, 50, 2, 3, 50]


@pytest.mark.parametrize("follow_links", [False, True])
def test_a_loop_of_links_ends(tmp_path, follow_links):
    top = folder(tmp_path, {"a/x": 2, "b": 2})
    (top / "a" / "x" / "up").symlink_to(top / "a")
    (top / "b" / "itself").symlink_to(top / "b" / "itself")
    with pytest.raises(DataError) as caught:
        build(top, recursive=True, follow_links=follow_links)
    assert "a/x/up: a loop of links" in str(caught.value)
    assert "b/itself: a link to nothing" in str(caught.value)
    with pytest.warns(UserWarning, match="left out 2 of 6"):
        assert numbers(build(top, recursive=True, follow_links=follow_links, on_bad_sample="skip").train) == [
            0,
            1,
            2,
            3,
        ]


def test_a_folder_around_the_classes_is_named(tmp_path):
    folder(tmp_path / "my pictures", {"a": 2, "b": 2})
    with pytest.raises(DataError) as caught:
        build(tmp_path)
    assert str(caught.value).endswith(typed("root", str(tmp_path / "my pictures")))
    assert typed("root", "/my pictures") == "dataset.root='/my pictures'"


def test_other_names_of_splits_are_told(tmp_path):
    for split in ("Training", "valid"):
        folder(tmp_path / split, {"a": 2, "b": 2})
    bundle = build(tmp_path, val_fraction=None, test_fraction=None)
    assert list(bundle.splits) == ["train", "val"]
    assert {"train is the folder Training", "val is the folder valid"} <= set(bundle.notes)


def test_a_split_that_is_there_twice_makes_classes_of_all(tmp_path):
    for split in ("train", "val", "validation"):
        folder(tmp_path / split, {"a": 2})
    with pytest.raises(DataError, match="a folder inside the folder of a class"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "dataset.x=plain"),
        ("2022", """dataset.x='"2022"'"""),
        ("true", """dataset.x='"true"'"""),
        ("a b", "dataset.x='a b'"),
        ("it's", """dataset.x='it'"'"'s'"""),
        ("", """dataset.x='""'"""),
        ([1, 2], "dataset.x='[1, 2]'"),
        (["1", "a"], """dataset.x='["1", "a"]'"""),
        (True, "dataset.x=true"),
        (0.5, "dataset.x=0.5"),
    ],
)
def test_what_is_typed_reaches_the_setting_through_a_shell(value, text):
    import shlex

    from ptb.config.layers import parse_override

    assert typed("x", value) == text
    (word,) = shlex.split(text)
    assert parse_override(word) == (("dataset", "x"), value)


def test_a_class_without_pictures_is_left_out_as_the_message_says(tmp_path):
    top = folder(tmp_path, {"a": 12, "b": 0, "c": 12})
    (top / "b").mkdir(exist_ok=True)
    options = {"val_fraction": 0.2, "test_fraction": 0.2}
    with pytest.raises(DataError, match=r"""or leave it out with dataset\.classes='\["a", "c"\]'"""):
        build(top, **options)
    assert build(top, classes=("a", "c"), **options).spec.class_counts == (7, 7)


@pytest.mark.parametrize("place", ["pictures", "."], ids=["beside", "above"])
def test_pictures_in_no_folder_with_a_table_are_told_how_to_name_it(tmp_path, place):
    (tmp_path / "a table of something else.csv").write_text("x,y\n1,2\n")
    for number in range(4):
        save(tmp_path / "pictures" / f"{number}.png", number)
    (tmp_path / place / "my labels.csv").write_text("file,label\n0,a\n1.png,b\n2.png,a\n")
    with pytest.raises(DataError) as caught:
        build(tmp_path / "pictures")
    hint = typed("labels", str(tmp_path / place / "my labels.csv"))
    assert hint in str(caught.value)
    assert len(build(tmp_path / "pictures", labels=str(tmp_path / place / "my labels.csv")).train) == 3
