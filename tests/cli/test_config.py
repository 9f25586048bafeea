import json
import tomllib

import pytest


def test_init_explains_every_key_and_can_be_run(ptb, tmp_path):
    done = ptb("config", "init", "--model", "lenet", "-o", "run.toml")
    assert done.returncode == 0
    assert "ptb run -c run.toml" in done.stdout
    text = (tmp_path / "run.toml").read_text()
    assert 'pool = "max" # How the 2x2 windows are pooled' in text
    assert "epochs = 20 # Passes over the training samples" in text
    assert ptb("check", "-c", "run.toml").returncode == 0


def test_init_does_not_overwrite(ptb, tmp_path):
    (tmp_path / "run.toml").write_text("mine")
    done = ptb("config", "init", "--model", "lenet", "-o", "run.toml")
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert (tmp_path / "run.toml").read_text() == "mine"


def test_init_to_a_place_that_cannot_be_written(ptb):
    assert ptb("config", "init", "--model", "lenet", "-o", "no/such/folder.toml").returncode == 5


def test_show_tells_where_each_value_came_from(ptb, tmp_path):
    (tmp_path / "run.toml").write_text('[model]\nname = "mlp"\nhidden = [4]\n[metrics.accuracy]\n')
    done = ptb("config", "show", "-c", "run.toml", "--lr", "0.1", "loader.shuffle=false")
    shown = done.stdout.splitlines()
    assert "hidden = [4] # run.toml:3" in shown
    assert "lr = 0.1 # --lr 0.1" in shown
    assert "shuffle = false # loader.shuffle=false" in shown
    assert 'activation = "relu"' in shown
    assert tomllib.loads(done.stdout)["metrics"] == {"accuracy": {"name": "accuracy"}}


def test_show_as_json(ptb):
    assert json.loads(ptb("config", "show", "--model", "mlp", "--json").stdout)["config"]["model"]["hidden"] == [256]


@pytest.fixture
def schema(ptb):
    return json.loads(ptb("config", "schema").stdout)


def test_the_schema_knows_every_section_and_component(schema):
    assert set(schema["properties"]) == {
        *("seed", "threads", "device", "dataset", "model", "initializer", "loss", "optimizer", "scheduler"),
        *("metrics", "loader", "trainer"),
    }
    models = {shape["title"]: shape for shape in schema["properties"]["model"]["anyOf"]}
    assert models["lenet"]["properties"]["name"] == {"enum": ["lenet", "pytorch-basics:lenet"]}
    assert models["lenet"]["required"] == ["name"]
    assert models["lenet"]["additionalProperties"] is False


def test_init_names_the_settings_that_have_no_value_too(ptb):
    text = ptb("config", "init", "--model", "mlp", "--dataset", "fashion-mnist").stdout
    assert "# root =  # Folder with the four IDX files" in text
    assert "root" not in tomllib.loads(text)["dataset"]
