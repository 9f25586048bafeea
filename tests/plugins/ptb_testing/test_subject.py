import sys

import pytest

from ptb.data.spec import DataSpec, InputSpec
from ptb.errors import ConfigError, PluginError, UnknownNameError
from ptb_testing.given import Given
from ptb_testing.subject import Folder, Subject, in_folder, installed, subject_of

HOOKS = """
from ptb import Component, hookimpl

@hookimpl
def ptb_provide_models():
    return [Component("tiny", "nowhere:Tiny")]
"""
PROJECT = """
[project]
name = "ptb_Acme"
version = "2.0"
dependencies = ["pytorch-basics>=0.1"]

[project.entry-points.ptb]
acme = "acme_hooks"
"""
SPEC = DataSpec((3, 64, 64), "image", "class", 2, ("cat", "dog"))
SPECS = PROJECT + "[tool.ptb.check.specs]\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "acme_hooks.py").write_text(HOOKS)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    yield tmp_path
    sys.modules.pop("acme_hooks", None)


def test_a_source_folder_is_read_without_installing_it(folder):
    subject = in_folder(folder)
    assert subject.label == "ptb-acme 2.0"
    (entry,) = subject.entries
    assert (entry.id, entry.status, entry.found.location) == ("ptb-acme:tiny", "ok", str(folder))


def test_what_its_pyproject_gives_counts(folder):
    more = """
    [tool.ptb.check.settings]
    "model/tiny" = { width = 3 }
    [tool.ptb.check.specs]
    "model/tiny" = [
        { input_shape = [3, 64, 64], inputs = "image", target = "class", output_size = 2, class_names = ["cat", "dog"] }
    ]
    [tool.ptb.check.expected_failures]
    "model/tiny/scores-are-raw" = "they are cosines"
    """
    (folder / "pyproject.toml").write_text(PROJECT + more.replace("    ", ""))
    given = in_folder(folder).given
    assert given.settings == {"model/tiny": {"width": 3}}
    assert given.specs == {"model/tiny": [SPEC]}
    assert given.expected_failures == {"model/tiny/scores-are-raw": "they are cosines"}
    assert given.folder == folder


def test_a_spec_may_have_further_inputs(folder):
    table = "{ input_shape = [4], inputs = 'vector', target = 'real', output_size = 1, fields = { row = { FIELDS } } }"
    text = f"{SPECS}'model/tiny' = [{table}]\n"
    (folder / "pyproject.toml").write_text(text.replace("FIELDS", "shape = [3], kind = 'vector'"))
    (spec,) = in_folder(folder).given.specs["model/tiny"]
    assert spec.fields == {"row": InputSpec((3,), "vector")}
    (folder / "pyproject.toml").write_text(text.replace("FIELDS", "size = 3"))
    with pytest.raises(ConfigError, match=r"is no DataSpec: .*unexpected keyword argument 'size'"):
        in_folder(folder)


def test_what_is_said_later_counts_more(tmp_path):
    first = Given({"a": {"x": 1}, "b": {}}, {"a": [], "b": []}, {"a/c": "one"}, tmp_path)
    both = first + Given({"a": {"y": 2}}, {"b": [SPEC]}, {"a/c": "two"})
    assert both == Given({"a": {"y": 2}, "b": {}}, {"a": [], "b": [SPEC]}, {"a/c": "two"}, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read"),
        ("[project", "is not valid TOML"),
        ("[project]\nname = 'x'\n", "makes no plugin: it needs name in [project], and [project.entry-points.ptb]"),
        ("[project.entry-points.ptb]\nacme = 'acme_hooks'\n", "makes no plugin"),
        ("project = 3\n", "'project' must be a table, got 3"),
        (PROJECT + "[tool.ptb.check]\nsetings = {}\n", "no key 'setings' (did you mean 'settings'?); valid are"),
        (PROJECT + "[tool.ptb.check.settings]\n'model/tiny' = 3\n", "settings of 'model/tiny' must be a table, got 3"),
        (
            PROJECT + "[tool.ptb.check.expected_failures]\n'model/tiny/x' = ''\n",
            "expected failure 'model/tiny/x' must have a reason, got ''",
        ),
        (PROJECT + "[tool.ptb.check.settings]\n'model/tinny' = {}\n", "(did you mean 'model/tiny'?)"),
        (PROJECT + "[tool.ptb.chek]\n", "[tool.ptb] has no key 'chek' (did you mean 'check'?); valid are check"),
        (SPECS + "'model/tinny' = []\n", "(did you mean 'model/tiny'?)"),
        (SPECS + "'model/tiny' = []\n", "specs of 'model/tiny': a model or loss or metric may have one or more, and"),
        (
            SPECS + "'model/tiny' = [3]\n",
            "specs of 'model/tiny' must be a list of tables with the fields of a DataSpec",
        ),
        (
            SPECS + "'model/tiny' = { target = 'real' }\n",
            "must be a list of tables with the fields of a DataSpec, got {",
        ),
        (SPECS + "'model/tiny' = [{ target = 'real' }]\n", "lack input_shape, inputs, output_size: {'target': 'real'}"),
        (
            SPECS + "'model/tiny' = [{ shape = [3] }]\n",
            "specs of 'model/tiny' has no key 'shape' (did you mean 'input_",
        ),
        (
            SPECS + "'model/tiny' = [{ input_shape = [3], inputs = 'image', target = 'real', output_size = 1 }]\n",
            "is no DataSpec: the shape of images is (channels, height, width), got (3,)",
        ),
        (
            SPECS + "'model/tiny' = [{ input_shape = 3, inputs = 'vector', target = 'real', output_size = 1 }]\n",
            "is no DataSpec: ",
        ),
    ],
)
def test_a_pyproject_that_says_something_else_is_refused(folder, text, message):
    (folder / "pyproject.toml").unlink()
    if text is not None:
        (folder / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        in_folder(folder)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        ("raise OSError('gone')", "plugin 'ptb-acme 2.0' cannot be loaded: OSError: gone"),
        ("import ptb", "implements no hook"),
        (
            HOOKS.replace('[Component("tiny", "nowhere:Tiny")]', "[]"),
            "ptb-acme 2.0 provides no component and no command",
        ),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_told(folder, hooks, message):
    (folder / "acme_hooks.py").write_text(hooks)
    with pytest.raises(PluginError) as error:
        in_folder(folder)
    assert message in str(error.value)


def test_a_version_of_ptb_that_it_does_not_take_is_told(folder):
    (folder / "pyproject.toml").write_text(PROJECT.replace(">=0.1", ">=99"))
    with pytest.raises(PluginError, match="needs pytorch-basics>=99, installed is"):
        in_folder(folder)


def test_an_installed_plugin_is_found_by_any_spelling_of_its_name():
    assert installed("PyTorch_Basics").label.startswith("pytorch-basics ")


def test_a_name_that_is_not_installed_is_told_with_what_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UnknownNameError, match=r"'pytorch-basis' is installed \(did you mean 'pytorch-basics'\?\); there are"
    ):
        installed("pytorch-basis")
    (tmp_path / "ptb-acme").mkdir()
    with pytest.raises(UnknownNameError, match=r"for the source folder write \./ptb-acme"):
        installed("ptb-acme")


def test_entries_of_a_registry_are_taken_as_they_are(built_in):
    entries = built_in.components("loss")[:2]
    assert subject_of(entries).entries == tuple(entries)
    assert subject_of(entries).label.startswith("pytorch-basics ")


def test_nothing_is_refused():
    with pytest.raises(PluginError, match="this list provides no component and no command"):
        subject_of([])


def test_a_folder_has_the_metadata_of_a_distribution(tmp_path):
    dist = Folder("Ptb.Acme", "1.5", {"one": "acme_one", "two": "acme_two"}, tmp_path, ["pluggy>=1"])
    assert (dist.metadata["Name"], dist.version, dist.requires) == ("Ptb.Acme", "1.5", ["pluggy>=1"])
    assert sorted(point.value for point in dist.entry_points) == ["acme_one", "acme_two"]
    assert dist.locate_file("x.py") == tmp_path / "x.py"
    assert dist.found().name == "ptb-acme"


def test_a_file_without_the_table_gives_nothing(folder):
    assert Given.read(folder / "pyproject.toml") == Given(folder=folder)


def test_only_what_is_built_from_a_spec_may_have_some(built_in):
    (sgd,) = (entry for entry in built_in.components("optimizer") if entry.name == "sgd")
    with pytest.raises(ConfigError, match="specs of 'optimizer/sgd': a model or loss or metric may have one or more"):
        Subject("this", (sgd,), Given(specs={"optimizer/sgd": [SPEC]}))


def test_a_subject_holds_on_to_its_components(folder):
    subject = in_folder(folder)
    more = subject.with_given(Given({"model/tiny": {"width": 1}}))
    assert isinstance(more, Subject)
    assert (more.entries, more.given.settings) == (subject.entries, {"model/tiny": {"width": 1}})
