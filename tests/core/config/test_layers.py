import contextlib
import errno
import json
import os
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptb import ConfigError, RunConfig, StorageError
from ptb.config.layers import LONGEST_KEY, MAX_DEPTH, MAX_FILE_BYTES, MAX_KEYS, parse_override


def read(tmp_path, *texts, **options):
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"layer{number}.toml")
        files[-1].write_text(text)
    return RunConfig.read(files, **options)


def test_layers_are_laid_weakest_first(tmp_path):
    config = read(
        tmp_path,
        "seed = 1\n[trainer]\nepochs = 1\neval_every = 7\n",
        "seed = 2\n",
        flags={"seed": None, "epochs": 3},
        overrides=["trainer.epochs=4", "model.pool=avg"],
    )
    assert config.values == {"seed": 2, "trainer": {"epochs": 4, "eval_every": 7}, "model": {"pool": "avg"}}


def test_every_value_knows_its_source(tmp_path):
    config = read(
        tmp_path,
        'seed = 1\n\n[model]\nname = "mlp"\n"odd key" = 1\nlist = [\n  1,\n]\nsub.key = 2\n[metrics.accuracy]\nx = 1\n',
        flags={"lr": 0.5},
        overrides=["loader.batch_size=8"],
    )
    file = tmp_path / "layer0.toml"
    assert config.source("seed") == f"{file}:1"
    assert config.source("model", "name") == f"{file}:4"
    assert config.source("model", "odd key") == f"{file}:5"
    assert config.source("model", "list") == f"{file}:6"
    assert config.source("model", "sub", "key") == f"{file}:9"
    assert config.source("metrics", "accuracy", "x") == f"{file}:11"
    assert config.source("metrics") == f"{file}:11"
    assert config.source("optimizer", "lr") == "--lr 0.5"
    assert config.source("loader", "batch_size") == "loader.batch_size=8"
    assert config.source("trainer", "epochs") == ""


def test_another_component_replaces_the_settings_of_the_former(tmp_path):
    config = read(tmp_path, '[optimizer]\nname = "adam"\nlr = 1\nbetas = [0, 0]\n', flags={"optimizer": "sgd"})
    assert config.values["optimizer"] == {"name": "sgd"}
    assert config.source("optimizer", "betas") == "--optimizer sgd" or not config.source("optimizer", "betas")


def test_the_same_component_keeps_them(tmp_path):
    config = read(
        tmp_path, '[optimizer]\nname = "adam"\nlr = 1\n', flags={"optimizer": "adam"}, overrides=["optimizer.eps=1"]
    )
    assert config.values["optimizer"] == {"name": "adam", "lr": 1, "eps": 1}


def test_settings_without_a_name_go_to_whatever_is_chosen(tmp_path):
    assert read(tmp_path, "[optimizer]\nlr = 1\n", flags={"optimizer": "sgd"}).values["optimizer"] == {
        "lr": 1,
        "name": "sgd",
    }


def test_metrics_on_the_command_line_are_all_the_metrics_and_keep_their_settings(tmp_path):
    config = read(tmp_path, "[metrics.top-k]\nk = 3\n[metrics.mae]\n", metrics=["accuracy", "top-k"])
    assert config.values["metrics"] == {"accuracy": {}, "top-k": {"k": 3}}


def test_json_of_the_same_shape_is_read_too(tmp_path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"model": {"name": "mlp", "hidden": [1]}, "seed": 4}))
    assert RunConfig.read([file]).values == {"model": {"name": "mlp", "hidden": [1]}, "seed": 4}


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("optimizer.lr=1e-3", ("optimizer", "lr"), 1e-3),
        ("model.pool=avg", ("model", "pool"), "avg"),
        ('model.pool="avg"', ("model", "pool"), "avg"),
        ("model.hidden=[1, 2]", ("model", "hidden"), [1, 2]),
        ("loader.shuffle=false", ("loader", "shuffle"), False),
        ("seed=7", ("seed",), 7),
        ("dataset.root=/a/b c", ("dataset", "root"), "/a/b c"),
        ("dataset.root=a=b", ("dataset", "root"), "a=b"),
        ('metrics."ptb-acme:f1".k=2', ("metrics", "ptb-acme:f1", "k"), 2),
        ("model.empty=", ("model", "empty"), ""),
        ("model.table={a = 1}", ("model", "table"), {"a": 1}),
        (" seed = 3 ", ("seed",), 3),
    ],
)
def test_an_override_is_a_key_and_a_toml_value(text, path, value):
    assert parse_override(text) == (path, value)


@pytest.mark.parametrize(
    "text", ["lenet", "=3", "a..b=1", "[a]=1", "a b=1", "a\nb=1", "model.hidden=[1,2", 'a="x', "a={", "a.=1"]
)
def test_what_is_no_override_is_told(text):
    with pytest.raises(ConfigError, match=r"KEY=VALUE|in '|value in"):
        parse_override(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model.pool='avg", "the value in 'model.pool='avg' is not valid TOML; write model.pool=avg"),
        ("dataset.target='a b", "write dataset.target='a b'"),
        ("model.pool='3", "write model.pool=''\"'\"'3'\"'\"''"),
        ("model.hidden=[1,2", "write model.hidden='[1,2]'"),
        ("model.x=[[1,2],[.5", "write model.x='[[1,2],[0.5]]'"),
        ("model.x=[avg, max]", """write model.x='["avg", "max"]'"""),
        ("model.x=[True, inf, false]", "write model.x='[true, inf, false]'"),
        ("model.x=[1., -.5]", "write model.x='[1.0, -0.5]'"),
        ("initializer.conv={name = normal, std = .02", """write initializer.conv='{name = "normal", std = 0.02}'"""),
        ("model.x=[1 2]", "is not valid TOML"),
        ("model.x=None", "'model.x=None' has no value: TOML has no None; leave the key out"),
        ("model.x=null", "TOML has no null; leave the key out"),
    ],
)
def test_what_is_no_value_is_told_with_what_to_type(text, told):
    with pytest.raises(ConfigError) as error:
        parse_override(text)
    assert str(error.value).endswith(told)


@pytest.mark.parametrize("value", ["'[1,2]'", '\'["avg", "max"]\'', "'a b'", "avg"])
def test_what_to_type_is_typed_into_a_shell(value):
    (typed,) = shlex.split(f"a={value}")
    assert parse_override(typed)[1] in ([1, 2], ["avg", "max"], "a b", "avg")


def test_a_flag_is_mended_like_an_override():
    with pytest.raises(ConfigError, match=r"'--lr \[1' is not valid TOML; write --lr '\[1\]'"):
        RunConfig.read(flags={"lr": "[1"})
    with pytest.raises(ConfigError, match="'--seed None' has no value"):
        RunConfig.read(flags={"seed": "None"})


@pytest.mark.parametrize(
    "text", ["a.b=1\nc.d=2", "a=\x1b[31m", "a=\udcff", "a=[" + "9" * 5000 + "]", ".".join("a" * 3000) + "=1"]
)
def test_what_cannot_be_shown_or_read_is_told(text):
    with pytest.raises(ConfigError):
        assert parse_override(text)[1] != text.partition("=")[2]


def test_flags_are_read_like_overrides_and_keep_their_text():
    config = RunConfig.read(flags={"lr": "1e-2", "epochs": "3", "model": "1", "device": "cpu"})
    assert config.values["optimizer"]["lr"] == 0.01
    assert config.values["model"]["name"] == "1"
    assert config.source("optimizer", "lr") == "--lr 1e-2"
    with pytest.raises(ConfigError, match=r"unknown flag 'trainer\.epochs' \(did you mean 'epochs'"):
        RunConfig.read(flags={"trainer.epochs": 1})


@given(st.text())
def test_any_text_is_an_override_or_a_config_error(text):
    with contextlib.suppress(ConfigError):
        path, _ = parse_override(text)
        assert all(isinstance(part, str) for part in path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed = 1\nmodel = [\n", ":2]"),
        ("seed = 1\nseed = 2\n", ":2]"),
        ("a = 1\n\nb == 2\n", ":3]"),
        ("[model]\nname = lenet\n", ":2]"),
        ("", None),
    ],
)
def test_broken_toml_is_told_with_file_and_line(tmp_path, text, told):
    if told is None:
        assert read(tmp_path, text).values == {}
        return
    with pytest.raises(ConfigError, match="not valid TOML") as error:
        read(tmp_path, text)
    assert str(tmp_path / "layer0.toml") + told in str(error.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("lr = .001", "write lr = 0.001  [{file}:2]"),
        ("lr = 1.  # high", "write lr = 1.0  [{file}:2]"),
        ("amsgrad = True", "write amsgrad = true  [{file}:2]"),
        ("name = adam # fast", 'write name = "adam"  [{file}:2]'),
        ("path = C:\\data\\x.csv", 'write path = "C:\\\\data\\\\x.csv"  [{file}:2]'),
        ("path = ~/my data", 'write path = "~/my data"  [{file}:2]'),
        ("name = 'adam", "write name = 'adam'  [{file}:2]"),
        ('name = "adam', 'write name = "adam"  [{file}:2]'),
        ("betas = [0.9, .99", "write betas = [0.9, 0.99]  [{file}:2]"),
        ("betas = [[1, 2], [3", "write betas = [[1, 2], [3]]  [{file}:2]"),
        ("lr = None", "there is no None in TOML; leave lr out  [{file}:2]"),
        ("[optimizer]", "Cannot declare [optimizer] twice  [{file}:2]"),
        ("lr = 1\nlr = 2", "this key stands twice  [{file}:3]"),
        ("lr = 1 eps = 2", "Expected newline or end of document after a statement  [{file}:2]"),
        ("lr 1", "Expected '=' after a key in a key/value pair  [{file}:2]"),
        ("betas = [\n 1,\n 2,\n]\nlr = 1\nlr = 2", "this key stands twice  [{file}:7]"),
        ("betas = [1 2", "Unclosed list  [{file}:2]"),
        ("betas = [\n 1,", "Invalid value  [{file}:4]"),
    ],
)
def test_a_value_that_is_not_toml_is_told_with_what_to_type(tmp_path, line, told):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, f"[optimizer]\n{line}\neps = 1\n")
    assert str(error.value) == "not valid TOML: " + told.format(file=tmp_path / "layer0.toml")


@pytest.mark.parametrize(
    "text", ['{"a": 1,\n}', "[1]", '{"a": 1, "a": 2}', "", "{" * 100_000, '{"a":' * 900 + "1" + "}" * 900]
)
def test_broken_json_is_told_with_the_file(tmp_path, text):
    file = tmp_path / "run.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.json"):
        RunConfig.read([file])


def test_every_file_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.toml").write_bytes(b"seed = 1\n\xff\xfe")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    (tmp_path / "big.toml").write_text("#" * (MAX_FILE_BYTES + 1))
    names = ["missing.toml", "folder", "binary.toml", "deep.toml", "big.toml"]
    with pytest.raises(ConfigError) as error:
        RunConfig.read([tmp_path / name for name in names], overrides=["lenet"])
    assert len(error.value.problems) == 6
    for name in names:
        assert name in str(error.value)
    assert "binary.toml:2" in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a.b = 1\n" + "\n".join(f"k{n} = 1" for n in range(MAX_KEYS - 2)), ""),
        ("\n".join(f"k{n} = 1" for n in range(MAX_KEYS + 1)), "the config file has more than 1,000 keys"),
        ("groups = [" + "{a = 1}, " * (MAX_KEYS - 1) + "]", ""),
        ("groups = [" + "{a = 1}, " * MAX_KEYS + "]", "the config file has more than 1,000 keys"),
        (f"{'k' * LONGEST_KEY} = 1", ""),
        (f"{'k' * LONGEST_KEY}k = 1", "the config file has a key of more than 200 characters"),
        (".".join("a" * MAX_DEPTH) + " = 1", ""),
        (".".join("a" * (MAX_DEPTH + 1)) + " = 1", "nested too deeply for a config file"),
        ("a = '" + ". " * 99 + "'", ""),
        ("a = " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1), ""),
        ("a = " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "the config file is nested more than 32 deep"),
        (f"a = {'9' * 5000}", "a number has thousands of digits"),
    ],
    ids=[
        "keys",
        "too many",
        "tables",
        "too many tables",
        "long",
        "too long",
        "deep",
        "too deep",
        "dots",
        "lists",
        "too many lists",
        "digits",
    ],
)
def test_a_file_is_no_larger_than_a_configuration_can_be(tmp_path, text, told):
    if not told:
        assert read(tmp_path, text).values
        return
    with pytest.raises(ConfigError) as error:
        read(tmp_path, text)
    assert str(error.value) == f"{told}  [{tmp_path / 'layer0.toml'}]"


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"model": {str(n): 1 for n in range(MAX_KEYS)}}, "has more than 1,000 keys"),
        ({"model": {1: 2}}, "has the key 1, which is no string"),
        ({"model": [[[]]] * 3}, None),
    ],
    ids=["keys", "no string", "lists"],
)
def test_sections_are_no_larger_either(sections, told):
    if told is None:
        assert RunConfig(**sections).values == sections
        return
    with pytest.raises(ConfigError, match=f"the configuration {told}"):
        RunConfig(**sections)


def test_what_holds_itself_is_too_deep():
    section = {}
    section["again"] = [section]
    with pytest.raises(ConfigError, match="is nested more than 32 deep"):
        RunConfig(model=section)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a.b.c.d = 1 is no key", None),
        (f"{'a.' * 9000}b=1", "is not a key"),
        (f"{'k' * 201}=1", "has a key of more than 200 characters"),
        (f"model.x={{{'a.' * 30}b = {{c.d.e = 1}}}}", "is nested more than 32 deep"),
        (f"model.x={{{'a.' * 9000}b = 1}}", "is not valid TOML"),
        (f"model.x=[{'{a=1},' * 1001}]", "has more than 1,000 keys"),
        (f"model.x=[{'1,' * 9000}", "is not valid TOML"),
    ],
    ids=["value", "parts", "key", "deep", "dotted", "keys", "open"],
)
def test_an_override_is_no_larger_than_a_configuration_can_be_and_told_in_short(text, told):
    if told is None:
        assert parse_override(text)[1] == "1 is no key"
        return
    with pytest.raises(ConfigError, match=told) as error:
        parse_override(text)
    assert len(str(error.value)) < 600


def test_a_command_line_has_only_so_many_overrides():
    overrides = [f"a.k{number}=1" for number in range(MAX_KEYS)]
    assert len(RunConfig.read(overrides=overrides).values["a"]) == MAX_KEYS
    with pytest.raises(ConfigError, match="at most 1,000 KEY=VALUE; write the rest into a file for -c"):
        RunConfig.read(overrides=[*overrides, "a.b=1"])


def test_lines_are_counted_as_an_editor_does(tmp_path):
    config = read(
        tmp_path, "# \u2028 \x85\n[optimizer]\n[[optimizer.groups]] # one\nmatch = 'a'\nlr = 1\n[[optimizer.groups]]\n"
    )
    assert config.source("optimizer", "groups") == f"{tmp_path / 'layer0.toml'}:3"
    again = read(tmp_path, "[[optimizer.groups]]\nlr = 1\n[trainer]\n'a = 1' = 2\nlr = 1\n")
    assert again.source("trainer", "lr") == f"{tmp_path / 'layer0.toml'}:5"


def test_a_byte_order_mark_does_no_harm(tmp_path):
    (tmp_path / "run.toml").write_bytes(b"\xef\xbb\xbfseed = 1\n")
    assert RunConfig.read([tmp_path / "run.toml"]).values == {"seed": 1}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_config_or_a_config_error(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "fuzz.toml"
    file.write_bytes(data)
    with contextlib.suppress(ConfigError):
        RunConfig.read([file])


def test_one_key_cannot_be_a_value_and_a_table():
    with pytest.raises(ConfigError, match="keys of its own"):
        RunConfig.read(overrides=["model.a=1", "model.a.b=2"])
    with pytest.raises(ConfigError, match="keys of its own"):
        RunConfig.read(overrides=["model.a.b=2", "model.a=1"])


def test_a_config_does_not_change_what_it_was_made_from():
    section = {"name": "mlp"}
    config = RunConfig(model=section)
    config.values["model"]["name"] = "lenet"
    assert section == {"name": "mlp"}


def test_the_id_of_a_built_in_is_its_name(tmp_path):
    config = read(tmp_path, '[model]\nname = "lenet"\npool = "avg"\n', flags={"model": "pytorch-basics:lenet"})
    assert config.values["model"] == {"name": "pytorch-basics:lenet", "pool": "avg"}


def test_a_disk_that_fails_is_no_mistake_of_the_file(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(StorageError, match=r"cannot read .*run\.toml: Input/output error"):
        RunConfig.read([tmp_path / "run.toml"])
