import json
import tomllib

import pytest

from ptb.config.layers import RunConfig
from ptb.config.resolve import resolve
from ptb.errors import ConfigError
from ptb.kinds import KINDS, RUN_KINDS
from ptb.registry.discovery import BUILT_IN, find_plugins, load_plugin
from ptb.registry.registry import Registry
from ptb_config.writing import commented

BUILT_INS = Registry([load_plugin(found) for found in find_plugins() if found.name == BUILT_IN])
ENTRIES = [entry for entry in BUILT_INS.components() if entry.kind in RUN_KINDS]
# What a component is checked with, where it does not fit the digits and an mlp.
DATA = {
    "binary": {"name": "breast-cancer"},
    "real": {"name": "diabetes"},
    "distribution": {"name": "digits", "target": "distribution"},
    "similarity": {"name": "digit-pairs"},
}
TOKENS = {"name": "random", "inputs": "tokens"}
PARTNERS = {
    "embedding-bag": {"dataset": TOKENS},
    "sparse-adam": {"dataset": TOKENS, "model": {"name": "embedding-bag", "sparse": True}},
    "by-layer": {"model": {"name": "cnn"}},
    "dirac": {"model": {"name": "cnn"}},
}


every_component = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.kind}-{entry.name}")


def chosen(entry):
    """A configuration with this component."""
    sections = {"model": {"name": "mlp"}, **PARTNERS.get(entry.name, {})}
    if accepts := [kind for kind in entry.component.accepts if kind in DATA]:
        sections["dataset"] = DATA[accepts[0]] if "class" not in entry.component.accepts else {}
    if KINDS[entry.kind].labelled:
        return RunConfig(**sections, **{KINDS[entry.kind].section: {entry.name: {}}})
    return RunConfig(**{**sections, entry.kind: {**sections.get(entry.kind, {}), "name": entry.name}})


def drafted(config, registry):
    return commented(resolve(config, registry, may_lack=True))


def test_init_explains_every_key_and_can_be_run(ptb, tmp_path):
    done = ptb("config", "init", "--model", "lenet", "-o", "run.toml")
    assert done.returncode == 0
    assert "ptb run -c run.toml" in done.stdout
    text = (tmp_path / "run.toml").read_text()
    assert 'pool = "max" # How the 2x2 windows are pooled' in text
    assert "epochs = 20 # Passes over the training samples" in text
    assert ptb("check", "-c", "run.toml").returncode == 0


def test_init_without_a_required_setting_says_what_to_fill_in(ptb, tmp_path):
    done = ptb("config", "init", "--model", "mlp", "--dataset", "csv", "-o", "run.toml")
    assert done.stdout == "wrote run.toml; fill in dataset.target, then run it with: ptb run -c run.toml\n"
    text = (tmp_path / "run.toml").read_text()
    assert "# target = ... # required: The column that is predicted" in text
    checked = ptb("check", "-c", "run.toml")
    assert checked.returncode == 2
    assert "dataset.target: is required" in checked.stderr
    (tmp_path / "run.toml").write_text(text.replace("# target = ...", 'target = "y" #'))
    checked = ptb("check", "-c", "run.toml")
    assert checked.returncode == 2
    assert "dataset: give path, one table that is split, or train" in checked.stderr


def test_init_does_not_overwrite(ptb, tmp_path):
    (tmp_path / "run.toml").write_text("mine")
    done = ptb("config", "init", "--model", "lenet", "-o", "run.toml")
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert (tmp_path / "run.toml").read_text() == "mine"


def test_init_to_a_place_that_cannot_be_written(ptb):
    assert ptb("config", "init", "--model", "lenet", "-o", "no/such/folder.toml").returncode == 5


@pytest.mark.parametrize("name", ["run.json", "run", "run.toml.bak"])
def test_init_writes_toml_under_no_other_name(ptb, tmp_path, name):
    done = ptb("config", "init", "--model", "lenet", "-o", name)
    assert done.returncode == 2
    assert "must end in .toml" in done.stderr
    assert not (tmp_path / name).exists()


@every_component
def test_the_file_of_every_component_means_the_same_as_its_name(entry, built_in, tmp_path):
    config = chosen(entry)
    (tmp_path / "run.toml").write_text(drafted(config, built_in))
    written = RunConfig.read([tmp_path / "run.toml"])
    kind = KINDS[entry.kind]
    section = f"{kind.section}.{entry.name}" if kind.labelled else kind.section
    fields = entry.settings_model().model_fields.items()
    required = {f"{section}.{key}" for key, field in fields if field.is_required()}
    if not required:
        assert resolve(written, built_in) == resolve(config, built_in)
        return
    with pytest.raises(ConfigError) as refused:
        resolve(written, built_in)
    assert {problem.key for problem in refused.value.problems} == required
    assert all("is required" in problem.message for problem in refused.value.problems)


def test_what_is_wrong_beside_a_missing_setting_is_told_alone(built_in):
    config = RunConfig(model={"name": "mlp"}, dataset={"name": "csv", "kind": "word"}, trainer={"epochs": 0})
    with pytest.raises(ConfigError) as refused:
        resolve(config, built_in, may_lack=True)
    assert {problem.key for problem in refused.value.problems} == {"dataset.kind", "trainer.epochs"}


ACME = """
    from ptb import Component, hookimpl
    from pydantic import BaseModel, Field

    class Settings(BaseModel):
        depth: int = Field(description="First line.\\nSecond line.")
        width: int = Field(3, description="One\\ntwo")

    class {name}:
        def __init__(self, *_, depth, width=3): ...

    @hookimpl
    def ptb_provide_{hook}():
        return [Component("acme", "ptb_acme:{name}", settings="ptb_acme:Settings"{role})]
"""


@pytest.mark.parametrize(
    ("kind", "hook", "sections"),
    [
        ("model", "models", {"model": {"name": "acme", "width": 4}}),
        ("loss", "losses", {"model": {"name": "mlp"}, "loss": {"name": "acme", "width": 4}}),
        ("optimizer", "optimizers", {"model": {"name": "mlp"}, "optimizer": {"name": "acme", "width": 4}}),
        (
            "metrics.mine",
            "metrics",
            {"model": {"name": "mlp"}, "metrics": {"accuracy": {}, "mine": {"name": "acme", "width": 4}}},
        ),
        (
            "callbacks.mine",
            "callbacks",
            {"model": {"name": "mlp"}, "callbacks": {"mine": {"name": "acme", "width": 4}}},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_strangers_component_of_any_kind_may_have_required_settings(site, tmp_path, kind, hook, sections):
    site.add("ptb-acme", ACME.format(name="Thing", hook=hook, role=', role="observer"' * (hook == "callbacks")))
    registry = site.registry()
    text = drafted(RunConfig(**sections), registry)
    assert (
        f'[{kind}]\nname = "ptb-acme:acme"\n# depth = ... # required: First line. Second line.\nwidth = 4 # One two\n'
        in text
    )
    (tmp_path / "run.toml").write_text(text.replace("# depth = ...", "depth = 5"))
    section, _, label = kind.partition(".")
    plan = resolve(RunConfig.read([tmp_path / "run.toml"]), registry)
    choice = getattr(plan, section)[label] if label else getattr(plan, section)
    assert (choice.entry.id, choice.settings.depth) == ("ptb-acme:acme", 5)
    if section == "metrics":
        assert list(plan.metrics) == ["accuracy", "mine"]


def test_a_setting_without_a_value_stands_in_its_own_section(built_in):
    text = drafted(RunConfig(model={"name": "mlp"}, optimizer={"name": "lbfgs"}), built_in)
    optimizer = tomllib.loads(text.replace("# max_eval = ...", "max_eval = 7"))["optimizer"]
    assert (optimizer["name"], optimizer["max_eval"]) == ("lbfgs", 7)


def test_metrics_that_are_turned_off_stay_off(built_in):
    assert tomllib.loads(drafted(RunConfig(model={"name": "mlp"}, metrics={}), built_in))["metrics"] == {}


def test_plugins_that_take_no_part_are_written_down(built_in):
    config = RunConfig(model={"name": "mlp"}, plugins={"disable": ["ptb-acme"]})
    assert tomllib.loads(drafted(config, built_in))["plugins"] == {"disable": ["ptb-acme"]}
    assert "plugins" not in tomllib.loads(drafted(RunConfig(model={"name": "mlp"}), built_in))


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({}, "is taken:\n# [loss]\n# name = ...\n\n# [metrics.NAME]\n"),
        ({"loss": {"name": "mse"}}, "is taken:\n# [metrics.NAME]\n"),
        ({"metrics": {"mae": {}}}, "is taken:\n# [loss]\n# name = ...\n"),
        ({"loss": {"name": "mse"}, "metrics": {"mae": {}}}, "after the last epoch\n"),
    ],
    ids=["both", "metrics", "loss", "none"],
)
def test_the_end_of_the_file_tells_what_is_left_open(built_in, sections, told):
    assert drafted(RunConfig(model={"name": "mlp"}, **sections), built_in).endswith(told)


def test_show_tells_where_each_value_came_from(ptb, tmp_path):
    (tmp_path / "run.toml").write_text('[model]\nname = "mlp"\nhidden = [4]\n[metrics.accuracy]\n')
    done = ptb("config", "show", "-c", "run.toml", "--lr", "0.1", "loader.shuffle=false")
    shown = done.stdout.splitlines()
    assert 'name = "accuracy" # run.toml:4' in shown
    assert "hidden = [4] # run.toml:3" in shown
    assert "lr = 0.1 # --lr 0.1" in shown
    assert "shuffle = false # loader.shuffle=false" in shown
    assert 'activation = "relu"' in shown
    assert tomllib.loads(done.stdout)["metrics"] == {"accuracy": {"name": "accuracy"}}


def test_show_tells_the_source_of_what_stands_inside_a_table(ptb):
    conv = 'initializer={name="by-layer", conv="zeros"}'
    done = ptb("config", "show", "--model", "cnn", "--metric", "top-k", conv, "optimizer.groups=[]")
    shown = done.stdout.splitlines()
    assert 'name = "top-k" # --metric top-k' in shown
    assert f'conv = {{name = "zeros"}} # {conv}' in shown
    assert 'norm = {name = "default"}' in shown
    assert "groups = [] # optimizer.groups=[]" in shown


def test_show_tells_the_flag_of_a_callback(ptb, site):
    source = """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_callbacks():
            return [Component(name, "ptb_watch:Watch", role="observer") for name in ("watch", "see")]

        class Watch: ...
        """
    site.add("ptb-watch", source)
    done = ptb("config", "show", "--model", "mlp", "--callback", "watch", "--callback", "see", site=site.path)
    assert tomllib.loads(done.stdout)["callbacks"] == {
        "watch": {"name": "ptb-watch:watch"},
        "see": {"name": "ptb-watch:see"},
    }
    assert 'name = "ptb-watch:see" # --callback see' in done.stdout.splitlines()


def test_the_line_that_tells_of_dropped_settings_is_a_warning(ptb, tmp_path):
    (tmp_path / "run.toml").write_text('[model]\nname = "mlp"\n[optimizer]\nname = "adamw"\neps = 1e-6\n')
    done = ptb("config", "show", "-c", "run.toml", "--optimizer", "sgd")
    assert done.returncode == 0
    told = "'sgd' (--optimizer sgd) replaces 'adamw', so these settings are dropped: optimizer.eps [run.toml:5]"
    assert done.stderr == f"warning: {told}\n"


def test_a_key_without_a_value_takes_away_what_a_file_set(ptb, tmp_path):
    (tmp_path / "run.toml").write_text('[model]\nname = "mlp"\n[optimizer]\nlr = 3.0\n[metrics.top-k]\n')
    shown = json.loads(ptb("config", "show", "-c", "run.toml", "--json", "optimizer.lr=", "metrics=").stdout)["config"]
    assert (shown["optimizer"]["lr"], "metrics" in shown) == (0.001, False)
    done = ptb("config", "show", "-c", "run.toml", "optimizer.eps=")
    assert done.returncode == 2
    assert "optimizer.eps: no file or flag sets it, so there is nothing to remove" in done.stderr


def test_a_path_may_begin_with_the_home_directory(ptb, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    assert ptb("config", "init", "--model", "mlp", "-o", "~/run.toml").returncode == 0
    done = ptb("config", "show", "-c", "~/run.toml")
    assert f"# {tmp_path / 'home' / 'run.toml'}:" in done.stdout


def test_show_as_json(ptb):
    assert json.loads(ptb("config", "show", "--model", "mlp", "--json").stdout)["config"]["model"]["hidden"] == [256]


@pytest.fixture
def schema(ptb):
    return json.loads(ptb("config", "schema").stdout)


def test_the_schema_knows_every_section_and_component(schema):
    assert set(schema["properties"]) == {
        *("seed", "threads", "device", "dataset", "model", "initializer", "loss", "optimizer", "scheduler"),
        *("metrics", "callbacks", "loader", "trainer", "plugins", "resolve"),
    }
    assert "anyOf" in schema["properties"]["metrics"]["additionalProperties"]
    models = {shape["title"]: shape for shape in schema["properties"]["model"]["anyOf"]}
    assert models["lenet"]["properties"]["name"] == {"enum": ["lenet", "pytorch-basics:lenet"]}
    assert models["lenet"]["required"] == ["name"]
    assert [s["title"] for s in schema["properties"]["optimizer"]["anyOf"] if "required" not in s] == ["adam"]
    assert models["lenet"]["additionalProperties"] is False


def test_init_names_the_settings_that_have_no_value_too(ptb):
    text = ptb("config", "init", "--model", "mlp", "--dataset", "fashion-mnist").stdout
    assert "# root = ... # Folder with the four IDX files" in text
    assert "root" not in tomllib.loads(text)["dataset"]
