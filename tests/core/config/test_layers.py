import contextlib
import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptb import ConfigError, RunConfig, StorageError
from ptb.config.files import HINT, LONGEST_KEY, MAX_DEPTH, MAX_FILE_BYTES, MAX_KEYS
from ptb.config.layers import REMOVED, parse_override


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


def test_another_component_drops_the_settings_of_the_former_with_one_line_that_says_which(tmp_path):
    weaker = '[optimizer]\nname = "adam"\nlr = 1\nbetas = [0, 0]\n'
    with pytest.warns(UserWarning, match="replaces") as told:
        config = read(tmp_path, weaker, flags={"optimizer": "sgd"}, overrides=["optimizer.momentum=0.9"])
    file = tmp_path / "layer0.toml"
    assert [str(warning.message) for warning in told] == [
        f"'sgd' (--optimizer sgd) replaces 'adam', so these settings are dropped: optimizer.lr [{file}:3], "
        f"optimizer.betas [{file}:4]"
    ]
    assert config.values["optimizer"] == {"name": "sgd", "momentum": 0.9}
    assert config.source("optimizer", "name") == "--optimizer sgd"


def test_a_component_without_settings_is_replaced_without_a_word(tmp_path):
    config = read(tmp_path, '[optimizer]\nname = "adam"\n', overrides=["optimizer.name=sgd"])
    assert config.values["optimizer"] == {"name": "sgd"}


def test_the_keys_of_the_core_itself_stay_with_another_component(tmp_path):
    kept = {"no_decay_on_norms_and_biases": True, "groups": [{"match": "fc*", "lr": 0.1}]}
    weaker = '[optimizer]\nname = "adam"\neps = 1\nno_decay_on_norms_and_biases = true\n'
    weaker += "[[optimizer.groups]]\nmatch = 'fc*'\nlr = 0.1\n"
    with pytest.warns(UserWarning, match=r"so these settings are dropped: optimizer\.eps \[.*:3\]$"):
        config = read(tmp_path, weaker, flags={"optimizer": "sgd"})
    assert config.values["optimizer"] == {"name": "sgd", **kept}


@pytest.mark.parametrize(
    ("weaker", "override", "section"),
    [
        ("[metrics.top-k]\nk = 3\n", "metrics.top-k.name=accuracy", {"top-k": {"name": "accuracy"}}),
        ("[metrics.a]\nname = 'top-k'\nk = 3\n", "metrics.a={name='mae'}", {"a": {"name": "mae"}}),
        ("[callbacks.ema]\ndecay = 3\n", "callbacks.ema.name=acme-ema", {"ema": {"name": "acme-ema"}}),
    ],
)
def test_a_label_may_get_another_component_too(tmp_path, weaker, override, section):
    with pytest.warns(UserWarning, match=r"replaces '(top-k|ema)', so these settings are dropped: .*:[23]\]"):
        config = read(tmp_path, weaker, overrides=[override])
    assert config.values == {override.partition(".")[0]: section}


def test_a_component_inside_of_another_is_replaced_as_well(tmp_path):
    weaker = "[initializer]\nname = 'by-layer'\nconv = {name = 'normal', std = 0.1}\n"
    with pytest.warns(
        UserWarning, match=r"'zeros' .* replaces 'normal', so these settings are dropped: initializer.conv"
    ):
        config = read(tmp_path, weaker, overrides=["initializer.conv={name='zeros'}"])
    assert config.values["initializer"] == {"name": "by-layer", "conv": {"name": "zeros"}}


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
    weaker = "[metrics.top-k]\nk = 3\n[metrics.f1]\naverage = 'micro'\n"
    with pytest.warns(UserWarning, match="metrics of the files") as warned:
        config = read(tmp_path, weaker, metrics=["accuracy", "top-k"])
    assert config.values["metrics"] == {"accuracy": {}, "top-k": {"k": 3}}
    (message,) = (str(warning.message) for warning in warned)
    assert message == (
        "'accuracy, top-k' (--metric) replaces the metrics of the files, so these settings are dropped: "
        f"metrics.f1.average [{tmp_path / 'layer0.toml'}:4]"
    )


def test_a_metric_that_stays_keeps_the_source_of_its_settings(tmp_path):
    config = read(tmp_path, "[metrics.top-k]\nk = 3\n", metrics=["top-k"])
    assert config.source("metrics", "top-k", "k").endswith("layer0.toml:2")


def test_callbacks_on_the_command_line_join_those_of_the_files(tmp_path):
    config = read(tmp_path, "[callbacks.ema]\ndecay = 0.9\n", callbacks=["ema", "freeze"])
    assert config.values["callbacks"] == {"ema": {"decay": 0.9}, "freeze": {}}
    assert config.source("callbacks", "freeze") == "--callback freeze"


@pytest.mark.parametrize(
    ("override", "left"),
    [
        ("optimizer.lr=", {"optimizer": {"name": "adam"}, "callbacks": {"ema": {"decay": 1}, "b": {}}}),
        ("optimizer= ", {"callbacks": {"ema": {"decay": 1}, "b": {}}}),
        ("callbacks.ema=", {"optimizer": {"name": "adam", "lr": 1}, "callbacks": {"b": {}}}),
        ("callbacks=", {"optimizer": {"name": "adam", "lr": 1}}),
    ],
)
def test_a_key_with_nothing_behind_it_removes_what_weaker_layers_set(tmp_path, override, left):
    files = '[optimizer]\nname = "adam"\nlr = 1\n[callbacks.ema]\ndecay = 1\n[callbacks.b]\n'
    assert read(tmp_path, files, overrides=[override]).values == left


def test_what_is_removed_can_be_set_anew_at_once(tmp_path):
    weaker = '[optimizer]\nname = "adam"\nlr = 1\n'
    config = read(tmp_path, weaker, overrides=["optimizer.name=sgd", "optimizer="])
    assert config.values == {"optimizer": {"name": "sgd"}}
    assert read(tmp_path, weaker, overrides=["optimizer.lr=", "optimizer.lr=2"]).values["optimizer"]["lr"] == 2


def test_what_nobody_set_cannot_be_removed():
    with pytest.raises(ConfigError) as error:
        RunConfig.read(flags={"lr": "1"}, overrides=["optimizer.lrr=", "seed="])
    assert [(p.key, p.source) for p in error.value.problems] == [("optimizer.lrr", "optimizer.lrr="), ("seed", "seed=")]
    assert "no file or flag sets it, so there is nothing to remove; write '\"\"' for an empty string" in str(
        error.value
    )


def test_the_home_directory_may_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.toml").write_text("seed = 1\n")
    config = RunConfig.read(["~/run.toml"])
    assert (config.values, config.files) == ({"seed": 1}, (tmp_path / "run.toml",))


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
        ("model.empty=", ("model", "empty"), REMOVED),
        ('model.empty=""', ("model", "empty"), ""),
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
        ("model.pool='avg", """the value in 'model.pool='avg' is not valid TOML: Expected "'\" (at end of document)"""),
        ("model.x=[avg, max]", "is not valid TOML: Invalid value (at line 1, column 10)" + HINT),
        ("model.x=None", "'model.x=None' has no value: TOML has no None, leave the key out"),
    ],
)
def test_what_is_no_value_is_told(text, told):
    with pytest.raises(ConfigError) as error:
        parse_override(text)
    assert str(error.value).endswith(told)


def test_a_flag_is_read_like_an_override():
    with pytest.raises(ConfigError, match=r"'--lr \[1' is not valid TOML: Unclosed array"):
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
    ("line", "told"),
    [
        ("name = adam # fast", "Invalid value (at line 2, column 8), in 'name = adam # fast'{hint}  [{file}:2]"),
        ("betas = [\n 1,", "Invalid value (at line 4, column 1), in 'eps = 1'{hint}  [{file}:4]"),
        ("[optimizer]", "Cannot declare ('optimizer',) twice (at line 2, column 11), in '[optimizer]'  [{file}:2]"),
        ("lr = 1\nlr = 2", "Cannot overwrite a value (at line 3, column 7), in 'lr = 2'  [{file}:3]"),
        ("x = [", "Invalid value (at end of document){hint}  [{file}]"),
    ],
)
def test_a_line_that_is_not_toml_is_shown(tmp_path, line, told):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, f"[optimizer]\n{line}" + "\neps = 1\n" * (line != "x = ["))
    assert str(error.value) == "not valid TOML: " + told.format(file=tmp_path / "layer0.toml", hint=HINT)


def test_an_empty_file_is_a_config(tmp_path):
    assert read(tmp_path, "").values == {}


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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a.b = 1\n" + "\n".join(f"k{n} = 1" for n in range(MAX_KEYS - 2)), ""),
        ("\n".join(f"k{n} = 1" for n in range(MAX_KEYS + 1)), "not valid TOML: more than 1,000 keys"),
        ("groups = [" + "{a = 1}, " * (MAX_KEYS - 1) + "]", ""),
        ("groups = [" + "{a = 1}, " * MAX_KEYS + "]", "not valid TOML: more than 1,000 keys"),
        (f"{'k' * LONGEST_KEY} = 1", ""),
        (f"{'k' * LONGEST_KEY}k = 1", "not valid TOML: a key must be a text of at most 200 characters"),
        (".".join("a" * MAX_DEPTH) + " = 1", ""),
        (".".join("a" * (MAX_DEPTH + 1)) + " = 1", "not valid TOML: nested too deeply"),
        ("a = '" + ". " * 99 + "'", ""),
        ("a = " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1), ""),
        ("a = " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "not valid TOML: nested more than 32 deep"),
        (f"a = {'9' * 5000}", "not valid TOML: Exceeds the limit (4300 digits) for integer string conversion"),
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
    assert str(error.value).startswith(told)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"model": {str(n): 1 for n in range(MAX_KEYS)}}, "more than 1,000 keys"),
        ({"model": {1: 2}}, "a key must be a text of at most 200 characters, got 1"),
        ({"model": [[[]]] * 3}, None),
    ],
    ids=["keys", "no string", "lists"],
)
def test_sections_are_no_larger_either(sections, told):
    if told is None:
        assert RunConfig(**sections).values == sections
        return
    with pytest.raises(ConfigError, match=f"the configuration cannot be used: {told}"):
        RunConfig(**sections)


def test_what_holds_itself_is_too_deep():
    section = {}
    section["again"] = [section]
    with pytest.raises(ConfigError, match="nested more than 32 deep"):
        RunConfig(model=section)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a.b.c.d = 1 is no key", None),
        (f"{'a.' * 9000}b=1", "is not a key"),
        (f"{'k' * 201}=1", "is not a key"),
        (f"model.x={{{'a.' * 30}b = {{c.d.e = 1}}}}", "nested more than 32 deep"),
        (f"model.x={{{'a.' * 9000}b = 1}}", "is not valid TOML: nested too deeply"),
        (f"model.x=[{'{a=1},' * 1001}]", "more than 1,000 keys"),
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


def test_a_value_gives_way_to_a_table_and_a_table_to_a_value(tmp_path):
    assert read(tmp_path, "model.a = 1\n", overrides=["model.a.b=2"]).values == {"model": {"a": {"b": 2}}}
    assert read(tmp_path, "model.a.b = 1\n", overrides=["model.a=2"]).values == {"model": {"a": 2}}
    assert read(tmp_path, "model.a.b = 1\n", overrides=["model.a={}"]).values == {"model": {"a": {"b": 1}}}


@pytest.mark.parametrize("section", ["metrics", "callbacks"])
def test_an_empty_table_turns_all_labels_off(tmp_path, section):
    assert read(tmp_path, f"[{section}.a]\nb = 1\n", overrides=[f"{section}={{}}"]).values == {section: {}}


def test_a_configuration_is_laid_over_that_of_a_run(tmp_path):
    (tmp_path / "run.toml").write_text("seed = 1\n[optimizer]\nname = 'sgd'\nlr = 0.1\n[callbacks]\n")
    config = RunConfig.read(flags={"lr": "0.2"}, callbacks=["ema"]).over(tmp_path / "run.toml")
    assert config.values == {"seed": 1, "optimizer": {"name": "sgd", "lr": 0.2}, "callbacks": {"ema": {}}}
    assert (config.source("seed"), config.source("optimizer", "lr")) == (f"{tmp_path / 'run.toml'}:1", "--lr 0.2")


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
