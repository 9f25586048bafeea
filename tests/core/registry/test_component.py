import dataclasses

import pytest

from ptb import Command, Component

GOOD = {"name": "tiny-cnn", "target": "ptb_acme.cnn:TinyCNN"}


def test_a_record_holds_what_it_was_given():
    component = Component(**GOOD, summary="Two layers", requires=["timm>=1.0"], aliases=("tiny",), accepts=("class",))
    assert component.requires == ("timm>=1.0",)
    assert component.aliases == ("tiny",)
    assert component.settings is None


def test_a_record_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Component(**GOOD).name = "other"


@pytest.mark.parametrize("name", ["", "Lenet", "le net", "-lenet", "le_net", "lenet\n", "lénet", "a:b"])
def test_a_bad_name_is_refused_and_shown(name):
    with pytest.raises(ValueError, match="name") as error:
        Component(name, "a:b")
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    "target", ["", "module", "module:", ":Class", "a.b.c", "a b:c", "a:b()", "a;b:c", "1a:b", "a:b:c"]
)
def test_a_bad_target_is_refused(target):
    with pytest.raises(ValueError, match=r"package\.module:attribute"):
        Component("x", target)
    with pytest.raises(ValueError, match=r"package\.module:attribute"):
        Component("x", "a:b", settings=target)


@pytest.mark.parametrize("field", ["requires", "aliases", "accepts", "needs", "default_for", "before", "after"])
@pytest.mark.parametrize("value", ["class", [1]])
def test_sequences_take_no_bare_string(field, value):
    with pytest.raises(TypeError, match="tuple of strings"):
        Component(**GOOD, **{field: value})


@pytest.mark.parametrize("field", ["name", "target", "summary", "settings", "extra", "role"])
def test_strings_are_strings(field):
    with pytest.raises(TypeError, match=field):
        Component(**{**GOOD, field: 3})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("accepts", "klass"), ("needs", "closures"), ("requires", "not a requirement!"), ("default_for", "klass")),
        *(("aliases", "A"), ("before", "A"), ("after", "A")),
    ],
)
def test_unknown_words_are_refused_and_shown(field, value):
    with pytest.raises(ValueError, match=field if value != "A" else "name") as error:
        Component(**GOOD, **{field: (value,)})
    assert value in str(error.value)


@pytest.mark.parametrize("field", ["name", "aliases"])
def test_a_name_of_more_than_64_characters_is_refused(field):
    assert Component("n" * 64, "a:b", aliases=("m" * 64,))
    with pytest.raises(ValueError, match="must match"):
        Component(**{**GOOD, field: "n" * 65 if field == "name" else ("n" * 65,)})


@pytest.mark.parametrize("summary", ["s" * 201, "two\nlines", "two\x0blines"])
def test_a_summary_is_one_line_of_at_most_200_characters(summary):
    assert Component(**GOOD, summary="s" * 200)
    with pytest.raises(ValueError, match="summary must be one line of at most 200 characters"):
        Component(**GOOD, summary=summary)


def test_a_role_is_one_of_two():
    assert Component(**GOOD, role="actor", before=("ema",), after=["freeze"]).after == ("freeze",)
    with pytest.raises(ValueError, match="role has 'watcher'; valid are observer, actor"):
        Component(**GOOD, role="watcher")
    with pytest.raises(TypeError, match="role must be a string"):
        Component(**GOOD, role=("observer", "actor"))


def test_better_is_a_direction_or_one_by_figure_which_nobody_changes_later():
    by_figure = {"precision": "higher", "loss": "lower"}
    component = Component(**GOOD, better=by_figure)
    by_figure["precision"] = "lower"
    assert component.better == {"precision": "higher", "loss": "lower"}
    assert hash(component) == hash(Component(**GOOD))
    assert Component(**GOOD, better="lower").better == "lower"


@pytest.mark.parametrize(
    ("better", "error"),
    [("up", ValueError), ({"f1": "up"}, ValueError), ({}, TypeError), (1, TypeError)],
)
def test_another_direction_is_refused(better, error):
    with pytest.raises(error, match="better"):
        Component(**GOOD, better=better)


# Commands ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bench", "import-torch", "plugins check", "2d"])
def test_a_command_has_a_word_or_stands_in_a_group(name):
    command = Command(name, "acme.cli:run", "Runs it.")
    assert (command.name, command.target, command.summary) == (name, "acme.cli:run", "Runs it.")
    with pytest.raises(dataclasses.FrozenInstanceError):
        command.name = "other"


@pytest.mark.parametrize("name", ["", "Bench", "plugins  check", "a b c", " bench", "acme:bench", "--bench", "be_nch"])
def test_a_bad_name_of_a_command_is_refused_and_shown(name):
    with pytest.raises(ValueError, match="name") as error:
        Command(name, "a:b")
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        *(("name", 3, TypeError), ("target", None, TypeError), ("summary", b"x", TypeError)),
        *(
            ("target", "acme.cli", ValueError),
            ("summary", "two\nlines", ValueError),
            ("summary", "s" * 201, ValueError),
        ),
        ("name", "n" * 65, ValueError),
    ],
)
def test_the_fields_of_a_command_are_checked_as_those_of_a_component(field, value, error):
    with pytest.raises(error, match=field):
        Command(**{"name": "bench", "target": "a:b", field: value})
