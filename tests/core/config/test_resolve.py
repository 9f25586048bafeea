import re
import reprlib
import string

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from ptb import ConfigError, PluginError, Registry, RunConfig
from ptb.config.checks import KEYS
from ptb.config.resolve import resolve, selection
from ptb.config.sections import INSTEAD
from ptb.kinds import TARGET_FORMS

LENET = {"model": {"name": "lenet"}}


def problems(registry, **sections):
    with pytest.raises(ConfigError) as error:
        resolve(RunConfig(**sections), registry)
    return {problem.key: problem.message for problem in error.value.problems}


def test_a_model_is_all_that_must_be_chosen(built_in):
    plan = resolve(RunConfig(**LENET), built_in)
    chosen = {section: component.entry.name for section, component in plan.components().items()}
    assert chosen == {
        "dataset": "digits",
        "model": "lenet",
        "initializer": "default",
        "optimizer": "adam",
        "scheduler": "cosine",
    }
    assert (plan.run.seed, plan.run.device, plan.loader.batch_size, plan.trainer.epochs) == (0, "auto", 32, 20)
    assert (plan.loss, plan.metrics, plan.callbacks) == (None, None, {})


def test_callbacks_that_are_on_by_default_are_in_no_configuration(built_in):
    assert built_in.defaults("callback")
    assert resolve(RunConfig(model={"name": "lenet"}), built_in).callbacks == {}


def test_the_target_kind_chooses_the_loss_and_the_metrics(built_in):
    plan = resolve(RunConfig(**LENET, loss={"label_smoothing": 0.1}), built_in).with_target("class")
    assert plan.loss.entry.name == "cross-entropy"
    assert plan.loss.as_config()["label_smoothing"] == 0.1
    assert list(plan.metrics) == ["accuracy"]


def test_no_metrics_can_be_asked_for(built_in):
    assert resolve(RunConfig(**LENET, metrics={}), built_in).with_target("class").metrics == {}


@pytest.mark.parametrize("kind", TARGET_FORMS)
def test_every_target_kind_has_a_default_loss_that_takes_it(built_in, kind):
    loss = resolve(RunConfig(**LENET), built_in).with_target(kind).loss.entry
    assert kind in loss.component.accepts


def test_nothing_chosen_lists_what_there_is(built_in):
    told = problems(built_in)["model"]
    assert told.startswith("no model is chosen; add --model NAME, one of: ")
    assert "lenet" in told


def test_everything_that_is_wrong_is_told_at_once(built_in):
    told = problems(
        built_in,
        model={"name": "lenet", "pol": "avg"},
        dataset={"name": "digit"},
        optimizer={"lr": -1},
        trainer={"epochs": 0, "epoch": 1},
        loder={},
        seed="x",
        device="gpu",
        metrics={"acuracy": {}, "loss": {}, "accuracy": 3},
        callbacks={"emma": {}},
        scheduler=3,
    )
    assert set(told) == {
        "model.pol",
        "dataset.name",
        "optimizer.lr",
        "trainer.epochs",
        "trainer.epoch",
        "loder",
        "seed",
        "device",
        "metrics.acuracy.name",
        "metrics.loss",
        "metrics.accuracy",
        "callbacks.emma.name",
        "scheduler",
    }
    assert "did you mean 'pool'" in told["model.pol"]
    assert "did you mean 'digits'" in told["dataset.name"]
    assert "did you mean 'loader'" in told["loder"]
    assert "did you mean 'accuracy'" in told["metrics.acuracy.name"]
    assert "write scheduler={'name': '3'}" in told["scheduler"]


@pytest.mark.parametrize(
    ("sections", "key", "meant"),
    [
        ({"lr": 1}, "lr", "optimizer.lr"),
        ({"workers": 1}, "workers", "loader.num_workers"),
        ({"batchSize": 1}, "batchSize", "loader.batch_size"),
        ({"pool": "avg"}, "pool", "model.pool"),
        ({"epoch": 1}, "epoch", "trainer.epochs"),
        ({"trainer_epochs": 1}, "trainer_epochs", "trainer.epochs"),
        ({"trainers": {}}, "trainers", "trainer"),
        ({"trainer": {"batch_size": 1}}, "trainer.batch_size", "loader.batch_size"),
        ({"scheduler": {"seed": 1}}, "scheduler.seed", "seed"),
        ({"loader": {"pool": 1}}, "loader.pool", "model.pool"),
        ({"loader": {"disable": []}}, "loader.disable", "plugins.disable"),
        ({"metrics": {"top-k": {"lr": 1}}}, "metrics.top-k.lr", "optimizer.lr"),
        ({"metrics": {"top-k": {"nmae": 1}}}, "metrics.top-k.nmae", "metrics.top-k.name"),
        ({"metrics": {"top-k": {}}, "k": 1}, "k", "metrics.top-k.k"),
        ({"dataset": {"dataset": "csv"}}, "dataset.dataset", "dataset.name"),
        ({"optimizer": {"betass": [0, 0]}}, "optimizer.betass", "betas"),
        ({"optimizer": {"beta": 1}, "loss": {"name": "smooth-l1"}}, "optimizer.beta", "loss.beta"),
        ({"optimizer.lr": 1}, "optimizer.lr", "lr' in the section 'optimizer"),
        ({"zzz": 1}, "zzz", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unknown_key_is_told_with_the_place_where_it_belongs(built_in, sections, key, meant):
    with pytest.raises(ConfigError) as error:
        resolve(RunConfig(**{**LENET, **sections}), built_in).with_target("class")
    (message,) = [problem.message for problem in error.value.problems if problem.key == key]
    assert re.findall(r" \(did you mean '(.*)'\?\);", message) == ([meant] if meant else [])
    assert re.search(r"; (valid are |there are no settings)", message)


def test_very_many_unknown_keys_are_all_told(built_in):
    assert len(problems(built_in, **LENET, **{f"lr{number}": 1 for number in range(900)})) == 900


def test_what_is_too_long_to_read_is_told_in_short(built_in):
    told = problems(
        built_in, model={"name": "x" * 9999}, loss=[1] * 9999, metrics={"a": "x" * 9999}, trainer="x" * 9999
    )
    assert told["model.name"] == f"must be the name of a model, got {reprlib.repr('x' * 9999)}"
    assert max(map(len, told.values())) < 300


@pytest.mark.parametrize("section", ["metrics", "callbacks"])
@pytest.mark.parametrize("label", ["", " ", "a\nb", "\0", "\ud800", "\x1b[31m"], ids=ascii)
def test_a_label_can_be_read(built_in, section, label):
    told = problems(built_in, **LENET, **{section: {label: {"name": "accuracy"}}})
    assert told == {f"{section}.{label}": f"a {section.removesuffix('s')} needs a label that can be read"}


def test_of_very_many_wrong_groups_the_first_are_told(built_in):
    groups = [{"match": "*", "lr": 1e39}] * 400
    assert len(problems(built_in, **LENET, optimizer={"groups": groups})) == 101


@pytest.mark.parametrize("name", [3, None, ["lenet"], {"a": 1}])
def test_a_name_is_a_string(built_in, name):
    assert "must be the name of a model" in problems(built_in, model={"name": name})["model.name"]


@pytest.mark.parametrize("device", ["cpu", "cuda:12"])
def test_the_forms_of_a_device(built_in, device):
    assert resolve(RunConfig(**LENET, device=device), built_in).run.device == device


@pytest.mark.parametrize("device", ["", "cuda:", "CPU", "cpu:0", "cuda:1,2"])
def test_no_other_form_of_a_device(built_in, device):
    assert "must be auto, cpu, cuda, cuda:N or mps" in problems(built_in, device=device, **LENET)["device"]


def test_each_problem_names_its_source(built_in):
    config = RunConfig.read(flags={"model": "lenet", "epochs": 0}, overrides=["optimizer.lr=-1"])
    with pytest.raises(ConfigError) as error:
        resolve(config, built_in)
    assert {p.key: p.source for p in error.value.problems} == {
        "trainer.epochs": "--epochs 0",
        "optimizer.lr": "optimizer.lr=-1",
    }


def test_a_resolved_plan_is_a_config_that_gives_the_same_plan(built_in, tmp_path):
    plan = resolve(RunConfig(**LENET, optimizer={"name": "sgd", "momentum": 0.9}, seed=3), built_in).with_target(
        "class"
    )
    (tmp_path / "config.toml").write_text(tomlkit.dumps(plan.as_config()))
    again = resolve(RunConfig.read([tmp_path / "config.toml"]), built_in).with_target("class")
    assert again.as_config() == plan.as_config()


def test_a_component_of_a_stranger_is_written_with_its_id(site):
    site.add(
        "ptb-acme",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_models():
            return [Component("tiny", "ptb_acme:Tiny")]

        class Tiny:
            def __init__(self, spec, *, width: int = 2): ...
        """,
    )
    plan = resolve(RunConfig(model={"name": "tiny"}), site.registry())
    assert plan.as_config()["model"] == {"name": "ptb-acme:tiny", "width": 2}


def test_a_plugin_whose_settings_cannot_be_had_is_to_blame(site):
    site.add(
        "ptb-acme",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_models():
            return [Component("tiny", "ptb_acme:Tiny", settings="nowhere:Settings")]
        """,
    )
    with pytest.raises(PluginError, match=r"model 'tiny' \(ptb-acme 1\.0\): importing nowhere:Settings failed"):
        resolve(RunConfig(model={"name": "tiny"}), site.registry())


@settings(deadline=None)
@given(data=st.data())
def test_a_mistyped_key_is_never_taken(built_in, data):
    plan = resolve(RunConfig(**LENET), built_in).with_target("class").as_config()
    section = data.draw(
        st.sampled_from(
            [name for name, table in plan.items() if isinstance(table, dict) and name not in ("metrics", "callbacks")]
        )
    )
    key = data.draw(st.sampled_from(sorted(plan[section])))
    place = data.draw(st.integers(0, len(key) - 1))
    wrong = key[:place] + data.draw(st.sampled_from(string.ascii_lowercase)) + key[place + 1 :]
    if wrong in plan[section]:
        return
    table = {k: v for k, v in plan[section].items() if k != key or key == "name"} | {wrong: plan[section][key]}
    assert f"{section}.{wrong}" in problems(built_in, **{**LENET, section: table})


def test_the_valid_keys_are_the_documented_sections():
    assert set(KEYS) == {
        *("seed", "threads", "device", "dataset", "model", "initializer", "loss"),
        *("optimizer", "scheduler", "metrics", "callbacks", "loader", "trainer", "plugins", "resolve"),
    }


CALLBACKS = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_callbacks():
        return [Component("watch", "ptb_watch:Watch", role="observer")]

    class Watch:
        def __init__(self, *, every: int = 1): ...
"""


def test_callbacks_are_resolved_as_metrics_are(site, tmp_path):
    site.add("ptb-watch", CALLBACKS)
    config = RunConfig.read(
        flags={"model": "lenet"}, overrides=["callbacks.mine.name=watch", "callbacks.mine.every=3"], callbacks=["watch"]
    )
    resolved = resolve(config, site.registry()).with_target("class")
    assert resolved.as_config()["callbacks"] == {
        "watch": {"name": "ptb-watch:watch", "every": 1},
        "mine": {"name": "ptb-watch:watch", "every": 3},
    }
    assert [section for section in resolved.components() if section.startswith("callbacks")] == [
        "callbacks.watch",
        "callbacks.mine",
    ]
    (tmp_path / "config.toml").write_text(tomlkit.dumps(resolved.as_config()))
    again = resolve(RunConfig.read([tmp_path / "config.toml"]), site.registry())
    assert again.as_config() == resolved.as_config()
    with pytest.raises(ConfigError, match=r"callbacks\.mine\.every: must be an integer"):
        resolve(RunConfig(**LENET, callbacks={"mine": {"name": "watch", "every": "x"}}), site.registry())


def test_what_was_chosen_on_this_machine_is_recorded(built_in):
    partial = resolve(RunConfig(**LENET), built_in)
    ran = partial.with_target("class").with_runtime("cuda:1", 3, "channels-last")
    assert (ran.run.device, ran.run.threads, ran.trainer.memory_format) == ("cuda:1", 3, "channels-last")
    assert (partial.run.device, partial.trainer.memory_format) == ("auto", "auto")


def test_a_target_kind_without_a_default_loss_needs_one_named(built_in):
    with pytest.raises(ConfigError) as error:
        resolve(RunConfig(**LENET), built_in).with_target("unheard-of")
    assert "no loss is chosen, and none is the default for targets of kind 'unheard-of'; add --loss NAME" in str(
        error.value
    )
    resolved = resolve(RunConfig(**LENET, loss={"name": "mse"}), built_in).with_target("unheard-of")
    assert (resolved.loss.entry.name, resolved.metrics) == ("mse", {})


def test_settings_of_a_loss_that_nobody_named_are_held_to_the_one_that_follows(built_in):
    partial = resolve(RunConfig(**LENET, loss={"label_smoothing": 0.1, "lr": 3}), built_in)
    with pytest.raises(ConfigError, match=r"^loss.lr: unknown key \(did you mean 'optimizer.lr'\?\)"):
        partial.with_target("class")


def test_without_any_component_every_section_says_so():
    assert set(problems(Registry(()))) == {"dataset", "model", "initializer", "optimizer", "scheduler"}


def test_a_draft_may_lack_required_settings_but_be_wrong_in_nothing_else(built_in):
    sections = {**LENET, "dataset": {"name": "csv", "target": "y"}}
    drafted = resolve(RunConfig(**sections), built_in, may_lack=True)
    assert "path" not in drafted.as_config()["dataset"]
    assert drafted.as_config()["dataset"]["target"] == "y"
    sections["dataset"]["val_fraction"] = 3
    with pytest.raises(ConfigError) as error:
        resolve(RunConfig(**sections), built_in, may_lack=True)
    assert [problem.key for problem in error.value.problems] == ["dataset.val_fraction"]


def test_the_section_plugins_selects_and_knows_its_sources():
    config = RunConfig.read(overrides=["plugins.disable=['ptb-acme']"])
    (request,) = selection(config).disable
    assert (request.text, request.source) == ("ptb-acme", "plugins.disable=['ptb-acme']")
    with pytest.raises(ConfigError, match=r"plugins.disabled: unknown key \(did you mean 'disable'"):
        selection(RunConfig(plugins={"disabled": []}))
    with pytest.raises(ConfigError, match=r"plugins: is a section, got 3; write plugins\.KEY=VALUE"):
        selection(RunConfig(plugins=3))


CLOSURE = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_optimizers():
        return [Component("second", "torch.optim:LBFGS", needs=("closure",)), Component("rprop2", "torch.optim:Rprop")]
"""


@pytest.mark.parametrize(("key", "value"), [("accumulate", 2), ("precision", "fp16")])
def test_what_a_closure_optimizer_cannot_do_is_told_before_data_is_touched(site, key, value):
    site.add("ptb-second", CLOSURE)
    config = RunConfig(**LENET, optimizer={"name": "second"}, trainer={key: value})
    with pytest.raises(
        ConfigError, match=f"trainer.{key}: must be .* 'second' evaluates the loss several times a step"
    ):
        resolve(config, site.registry())


def test_parameter_groups_are_checked_and_written(built_in):
    groups = [{"match": "fc*", "lr": 0.1}, {"match": "*.bias", "weight_decay": 0.0}]
    grouping = {"groups": groups, "no_decay_on_norms_and_biases": True}
    resolved = resolve(RunConfig(**LENET, optimizer={**grouping, "weight_decay": 0.1}), built_in)
    assert [group.options for group in resolved.groups] == [{"lr": 0.1}, {"weight_decay": 0.0}]
    assert resolved.as_config()["optimizer"].items() >= grouping.items()
    wrong = {"groups": [{"lr": -1, "mach": "x"}], "no_decay_on_norms_and_biases": 3}
    assert set(problems(built_in, **LENET, optimizer=wrong)) == {
        *("optimizer.groups[0]", "optimizer.groups[0].lr", "optimizer.groups[0].mach"),
        "optimizer.no_decay_on_norms_and_biases",
    }


def test_the_values_of_a_group_are_held_to_what_the_optimizer_takes(built_in):
    groups = [{"match": "fc*", "lr": 1e39}, {"match": "*", "weight_decay": 1e39}, {"match": "*", "lr": 1}]
    told = problems(built_in, **LENET, optimizer={"groups": groups})
    message = "must be at most 1e+18, got 1e+39"
    assert told == {"optimizer.groups[0].lr": message, "optimizer.groups[1].weight_decay": message}
    sparse = problems(built_in, **LENET, optimizer={"name": "sparse-adam", "groups": [{"match": "*", "lr": 0}]})
    assert sparse["optimizer.groups[0].lr"].startswith("must be above 0")


def test_an_unknown_key_of_the_optimizer_is_held_against_those_of_the_core_too(built_in):
    told = problems(built_in, **LENET, optimizer={"group": []})["optimizer.group"]
    assert "(did you mean 'groups'?); valid are lr, betas" in told
    assert told.endswith("no_decay_on_norms_and_biases, groups")


@pytest.mark.parametrize("section", ["dataset", "optimizer", "metrics", "trainer"])
def test_a_section_that_is_null_is_told_to_be_left_out(built_in, section):
    assert problems(built_in, **LENET, **{section: None}) == {
        section: "null is no value in a config file; leave it out"
    }


def test_a_fault_between_settings_names_the_override_that_caused_it(built_in):
    config = RunConfig.read(flags={"model": "mlp"}, overrides=["model.dropout=0.3", "model.hidden=[]", "seed=1"])
    with pytest.raises(ConfigError) as error:
        resolve(config, built_in)
    (problem,) = error.value.problems
    assert (problem.key, problem.source) == ("model.hidden", "model.hidden=[]")
    assert problem.message.endswith("got []")


def test_a_group_of_what_the_optimizer_lacks_is_told(site):
    site.add("ptb-second", CLOSURE)
    config = RunConfig(**LENET, optimizer={"name": "rprop2", "groups": [{"match": "*", "weight_decay": 1}]})
    with pytest.raises(ConfigError, match=r"^optimizer\.groups\[0\]\.weight_decay: unknown key"):
        resolve(config, site.registry())


@pytest.mark.parametrize("old", INSTEAD)
def test_a_setting_that_changed_its_name_is_refused_with_the_new_one(built_in, old):
    with pytest.raises(ConfigError) as error:
        resolve(RunConfig.read(flags={"model": "lenet"}, overrides=[f"{old}=true"]), built_in)
    (problem,) = error.value.problems
    assert problem.message == INSTEAD[old]
    assert problem.source == f"{old}=true"
