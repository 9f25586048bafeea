import json

import pytest


def test_list_shows_every_built_in_with_its_plugin(ptb):
    lines = ptb("list").stdout.splitlines()
    assert lines[0].split() == ["KIND", "NAME", "PLUGIN", "STATUS", "SUMMARY"]
    shown = {tuple(line.split()[:2]) for line in lines[1:]}
    assert {
        *(("dataset", "digits"), ("dataset", "fashion-mnist"), ("model", "lenet"), ("model", "mlp")),
        *(("initializer", "default"), ("initializer", "kaiming-normal"), ("loss", "cross-entropy")),
        *(("optimizer", "sgd"), ("optimizer", "adam"), ("scheduler", "constant"), ("scheduler", "cosine")),
        ("metric", "accuracy"),
    } <= shown


def test_list_as_json_has_the_documented_shape(ptb):
    listed = json.loads(ptb("list", "model", "--json").stdout)
    assert listed["schema"] == 1
    lenet = next(c for c in listed["components"] if c["id"] == "pytorch-basics:lenet")
    assert lenet.keys() == {"kind", "name", "id", "plugin", "version", "status", "summary"}
    assert {c["kind"] for c in listed["components"]} == {"model"}


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_order_does_not_hang_on_a_hash_seed(ptb, monkeypatch, seed):
    expected = ptb("list").stdout
    monkeypatch.setenv("PYTHONHASHSEED", seed)
    assert ptb("list").stdout == expected


def test_show_prints_a_table_of_settings(ptb):
    done = ptb("show", "model", "mlp")
    assert done.returncode == 0
    assert "model mlp: " in done.stdout
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith("model.")}
    assert "list of integer" in rows["model.hidden"]
    assert "each > 0" in rows["model.hidden"]
    assert "[256]" in rows["model.hidden"]
    assert '"relu" | ' in rows["model.activation"]


def test_show_as_json_and_as_schema(ptb):
    shown = json.loads(ptb("show", "loss", "cross-entropy", "--json").stdout)
    assert shown["accepts"] == ["class", "class+positions"]
    assert "label_smoothing" in {setting["name"] for setting in shown["settings"]}
    schema = json.loads(ptb("show", "loss", "cross-entropy", "--schema").stdout)
    assert schema["properties"]["label_smoothing"]["maximum"] == 1


def test_a_component_without_settings_says_so(ptb):
    assert "no settings" in ptb("show", "metric", "accuracy").stdout


def test_show_of_a_strangers_component_reads_its_signature(ptb, site):
    site.add(
        "ptb-acme",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_optimizers():
            return [Component("rms", "torch.optim:RMSprop"), Component("sgd", "torch.optim:SGD")]
        """,
    )
    shown = ptb("show", "optimizer", "rms", site=site.path)
    assert "optimizer.alpha" in shown.stdout
    listed = ptb("list", "optimizer", site=site.path).stdout
    assert "conflict" in next(line for line in listed.splitlines() if "ptb-acme 1.0" in line and " sgd " in line)
    assert (
        ptb(
            "run", "--model", "mlp", "--optimizer", "ptb-acme:sgd", "--epochs", 1, "--lr", "0.1", site=site.path
        ).returncode
        == 0
    )


@pytest.mark.parametrize("how", [(), ("--json",), ("--schema",)])
def test_show_blames_the_plugin_for_settings_that_cannot_be_described(ptb, site, how):
    site.add(
        "ptb-acme",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_models():
            return [Component("tiny", "nowhere:Tiny", settings="acme_settings:Options")]
        """,
    )
    site.write(
        "acme_settings.py",
        """
        from pydantic import BaseModel, Field

        def made():
            print("hello")
            raise OSError("no such file")

        class Options(BaseModel):
            root: str = Field(default_factory=made)
        """,
    )
    done = ptb("show", "model", "tiny", *how, site=site.path)
    assert done.returncode == 7
    assert "the settings model acme_settings.Options raised OSError: no such file" in done.stderr
    assert "hello" not in done.stdout
    assert "Traceback" not in done.stderr
