import json
import re
import warnings

import numpy as np
import pytest

import ptb as facade
from ptb import RunConfig, StorageError
from ptb.config.resolve import resolve
from ptb.runs.compose import compose
from ptb.runs.start import start_run
from ptb.storage.checkpoint import differences, find_checkpoints, load_checkpoint
from ptb.storage.run_directory import RunDirectory

RUN = ("run", "--model", "mlp", "--dataset", "random", "--optimizer", "adam", "--epochs", "3", "--device", "cpu")
RUN += ("model.dropout=0.3", "dataset.samples=24", "loader.batch_size=8", "threads=1")  # 3 steps an epoch
CONFIG = {
    "model": {"name": "mlp", "dropout": 0.3},
    "dataset": {"name": "random", "samples": 24},
    "optimizer": {"name": "adam"},
    "loader": {"batch_size": 8},
    "trainer": {"epochs": 3},
    "device": "cpu",
    "threads": 1,
}


def summary(path):
    facts = json.loads((path / "summary.json").read_text())
    return {key: value for key, value in facts.items() if key not in ("train_seconds", "samples_per_second")}


def last(path):
    return load_checkpoint(list(find_checkpoints(path / "checkpoints").values())[-1])


def same(one, other):
    assert differences(last(one).state, last(other).state) == []
    assert summary(one) == summary(other)
    return True


@pytest.fixture(scope="module")
def whole(tmp_path_factory, built_in):
    path = tmp_path_factory.mktemp("whole") / "run"
    facade.train(RunConfig(**CONFIG), registry=built_in, output=path)
    return path


def stopped(path, registry, step=4, **changes):
    """A run that was left after so many steps."""
    start_run(compose(resolve(RunConfig(**CONFIG | changes), registry)), path, stop_after=step)
    return path


@pytest.fixture
def cut(tmp_path, built_in):
    return stopped(tmp_path / "cut", built_in)


def test_stop_after_and_resume_end_as_a_run_that_was_not_stopped(ptb, tmp_path, whole):
    done = ptb(*RUN, "--output", "out", "--stop-after", 4)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("interrupted: 1 epoch, 4 steps")
    assert "stopped after step 4, as asked, saved; `ptb resume out` continues" in done.stderr
    assert summary(tmp_path / "out")["reason"] == "stopped after step 4, as asked"
    done = ptb("resume", "out", "--stop-after", 5, "--json")
    assert (done.returncode, json.loads(done.stdout)["step"]) == (0, 5), done.stderr
    done = ptb("resume", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("finished: 3 epochs, 9 steps")
    assert "resumed after step 5, from ckpt-5-" in done.stderr
    assert "warning" not in done.stderr
    assert same(whole, tmp_path / "out")
    resumed = json.loads((tmp_path / "out" / "manifest.json").read_text())["resumed"]
    assert [(each["step"], each["argv"][1:3], each["changes"]) for each in resumed] == [
        (4, ["resume", "out"], []),
        (5, ["resume", "out"], []),
    ]


def test_the_same_command_begins_goes_on_and_ends(ptb, tmp_path, whole):
    command = (*RUN, "--output", "out", "--resume", "auto")
    begun = ptb(*command, "--stop-after", 2)
    gone_on = ptb(*command, "--json")
    assert (begun.returncode, gone_on.returncode) == (0, 0), begun.stderr + gone_on.stderr
    assert "resumed after step 2" in gone_on.stderr
    assert json.loads(gone_on.stdout)["status"] == "finished"
    assert same(whole, tmp_path / "out")
    again = ptb(*command, "--json")
    assert (again.returncode, json.loads(again.stdout)["weights_sha256"]) == (0, summary(whole)["weights_sha256"])
    assert "nothing is left to train after step 9" in again.stderr


def test_the_same_command_refuses_to_go_on_with_another_run(ptb, tmp_path, cut):
    done = ptb(*RUN, "--output", cut, "--resume", "auto", "optimizer.lr=0.5", "--seed", 3)
    assert done.returncode == 2
    assert re.search(r"optimizer\.lr.*0\.001.*0\.5", done.stderr)
    assert "seed" in done.stderr
    assert "a run goes on as it was begun" in done.stderr
    assert summary(cut)["step"] == 4


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("resume", "absent"), 2, "absent is not a run directory"),
        (("resume", "cut", "optimizer.lr=1"), 2, "optimizer.lr"),
        (("resume", "cut", "threads"), 2, "'threads' is not KEY=VALUE"),
        (("run", "--resume", "auto"), 2, "--output DIR"),
        (("run", "--strict-resume", "--output", "new"), 2, "belong to --resume auto"),
    ],
    ids=["no-run", "frozen-key", "no-value", "no-output", "strict-alone"],
)
def test_a_mistake_is_one_message_and_changes_nothing(ptb, tmp_path, built_in, arguments, code, told):
    stopped(tmp_path / "cut", built_in)
    before = {path: path.read_bytes() for path in (tmp_path / "cut").rglob("*") if path.is_file()}
    done = ptb(*arguments)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "cut").rglob("*") if path.is_file()} == before


def test_a_run_without_an_intact_checkpoint_is_refused_and_not_begun_again(ptb, cut):
    for file in (cut / "checkpoints").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    done = ptb("resume", "cut", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["type"]) == (5, "StorageError")
    assert "no checkpoint" in done.stderr
    assert "is intact" in done.stderr
    done = ptb(*RUN, "--output", "cut", "--resume", "auto")
    assert done.returncode == 5


def test_a_damaged_checkpoint_is_told_and_an_older_one_taken_up(built_in, cut, whole):
    newest = find_checkpoints(cut / "checkpoints")[4]
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged: its bytes are not those .* it is kept as .corrupt-ckpt-4"):
        facade.resume(cut, registry=built_in)
    assert same(whole, cut)


def changed(path, **facts):
    """The manifest says that the run was made with something else."""
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | facts))


def told_by_resume(path, registry):
    """The warnings of a resume, and that a strict one refuses for the same reasons, and changes nothing."""
    before = {
        each.name: each.read_bytes() for each in path.rglob("*.[jt]*") if each.name not in ("log.txt", "summary.json")
    }
    with pytest.raises(StorageError) as refused:
        facade.resume(path, registry=registry, strict=True)
    assert refused.value.exit_code == 5
    assert "--strict-resume" in str(refused.value)
    assert before == {name: (path / name).read_bytes() for name in before}
    with pytest.warns(UserWarning, match="the run may not end as one that was not stopped") as caught:
        facade.resume(path, registry=registry)
    told = [str(each.message) for each in caught]
    assert all(text.partition(": the ")[0] in str(refused.value) for text in told)
    return told


@pytest.mark.parametrize(
    ("key", "was", "told"),
    [
        ("torch", "2.0.1", "torch was 2.0.1, and is "),
        ("ptb", "0.0.9", "ptb was 0.0.9, and is "),
        ("python", "3.9.1", "Python was 3.9.1, and is "),
        ("threads", 64, "threads was 64, and is 1 here"),
        ("device", "cuda:3", "the device was cuda:3, and is cpu here"),
        ("cpu_capability", "NEON", "the instructions of the CPU was NEON, and is "),
        ("dataset_sha256", "0" * 64, "the data (dataset_sha256) was 000"),
    ],
)
def test_each_part_of_the_fingerprint_that_changed_is_one_warning(built_in, cut, key, was, told):
    changed(cut, **{key: was})
    texts = told_by_resume(cut, built_in)
    assert len(texts) == 1
    assert texts[0].startswith(told)
    resumed = json.loads((cut / "manifest.json").read_text())["resumed"]
    assert [len(each["changes"]) for each in resumed] == [1]


def test_all_that_changed_is_told_and_each_by_itself(built_in, cut):
    changed(cut, torch="2.0.1", threads=64)
    assert [text.partition(" ")[0] for text in told_by_resume(cut, built_in)] == ["torch", "threads"]


def test_an_unchanged_fingerprint_warns_of_nothing_even_when_strict(built_in, cut, whole):
    facade.resume(cut, registry=built_in, strict=True)  # warnings are errors here
    assert same(whole, cut)


def test_other_threads_by_the_command_warn_and_strict_refuses(ptb, cut):
    done = ptb("resume", "cut", "threads=2", "--strict-resume")
    assert done.returncode == 5
    assert "threads was 1, and is 2 here" in done.stderr
    assert summary(cut)["step"] == 4
    done = ptb("resume", "cut", "threads=2")
    assert done.returncode == 0
    assert "warning: threads was 1, and is 2 here" in done.stderr


PLUGIN = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_models():
        return [Component("small", "acme:small")]

    def small(spec):
        from torch import nn
        return nn.Sequential(nn.Flatten(), nn.Linear(spec.input_size, spec.output_size))
"""


def test_a_plugin_of_another_version_is_named(site, tmp_path):
    site.add("ptb-acme", PLUGIN, version="1.0", module="acme")
    path = stopped(tmp_path / "run", site.registry(), model={"name": "small"})
    (site.path / "acme-1.0.dist-info").rename(site.path / "acme-2.0.dist-info")
    metadata = site.path / "acme-2.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "2.0"))
    assert any(
        text.startswith("plugin ptb-acme: version 1.0 then, 2.0 now") for text in told_by_resume(path, site.registry())
    )


def test_a_plugin_with_other_files_is_named(site, tmp_path):
    site.add("ptb-acme", PLUGIN, module="acme")
    path = stopped(tmp_path / "run", site.registry(), model={"name": "small"})
    (site.path / "acme.py").write_text((site.path / "acme.py").read_text() + "\n# changed\n")
    told = told_by_resume(path, site.registry())
    assert len(told) == 1
    assert told[0].startswith("plugin ptb-acme: its files differ: acme.py")


def test_data_that_has_changed_is_named(built_in, tmp_path):
    inputs, targets = np.random.default_rng(0).random((40, 4), np.float32), np.arange(40) % 3
    files = [str(tmp_path / name) for name in ("inputs.npy", "targets.npy")]
    for file, array in zip(files, (inputs, targets), strict=True):
        np.save(file, array)
    data = {"name": "arrays", "inputs": files[0], "targets": files[1]}
    path = stopped(tmp_path / "run", built_in, dataset=data)
    inputs[3, 2] += 1
    np.save(files[0], inputs)
    told = told_by_resume(path, built_in)
    assert [text.partition(" was ")[0] for text in told] == ["the data (dataset_sha256)"]


def test_a_second_process_keeps_away_from_a_run_that_is_written(ptb, cut):
    with RunDirectory(cut).writing():
        done = ptb("resume", "cut")
    assert done.returncode == 5
    assert "another process writes the run" in done.stderr
    assert summary(cut)["step"] == 4


def test_a_finished_run_that_was_made_with_something_else_stays_as_it_is(built_in, tmp_path):
    path = tmp_path / "run"
    facade.train(RunConfig(**CONFIG), registry=built_in, output=path)
    changed(path, torch="2.0.1")
    before = (path / "manifest.json").read_bytes()
    with pytest.warns(UserWarning, match=r"torch was 2\.0\.1"):
        result = facade.resume(path, registry=built_in)
    assert (result.status, result.step, (path / "manifest.json").read_bytes()) == ("finished", 9, before)


@pytest.mark.parametrize("command", ["resume", "run"])
def test_the_weights_that_a_run_began_with_may_be_gone(ptb, tmp_path, command):
    """Fine-tuning: the checkpoint has all weights, so the initializer and its file are not needed again."""
    short = ("--model", "mlp", "--epochs", "2", "dataset.size=8", "model.hidden=[8]")
    begin = ("run", *short, "--output", "first", "trainer.checkpoint_every=20")
    assert ptb(*begin).returncode == 0
    weights = next((tmp_path / "first" / "checkpoints").glob("*.safetensors"))
    tuned = (*short, "--init", "weights-file", f"initializer.path={weights}")
    whole = json.loads(ptb("run", *tuned, "--output", "whole", "--json").stdout)
    assert ptb("run", *tuned, "--output", "cut", "--stop-after", "30").returncode == 0
    weights.unlink()
    again = ["resume", "cut"] if command == "resume" else ["run", *tuned, "--output", "cut", "--resume", "auto"]
    done = ptb(*again, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights_sha256"] == whole["weights_sha256"]
    assert ptb("resume", "whole").returncode == 0
    refused = ptb("run", *tuned, "--output", "new")
    assert refused.returncode == 5
    assert str(weights) in refused.stderr


def test_a_run_that_was_killed_before_its_first_checkpoint_is_initialized(ptb, tmp_path):
    short = ("--model", "mlp", "--epochs", "1", "dataset.size=8", "model.hidden=[8]", "--init", "zeros")
    whole = json.loads(ptb("run", *short, "--output", "whole", "--json").stdout)
    assert ptb("run", *short, "--output", "cut").returncode == 0
    for path in [*(tmp_path / "cut" / "checkpoints").iterdir(), *(tmp_path / "cut").glob("*.jsonl")]:
        path.unlink()
    (tmp_path / "cut" / "summary.json").unlink()
    done = ptb("resume", "cut", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights_sha256"] == whole["weights_sha256"]


WITH_DATA = (
    PLUGIN
    + """
    from ptb import DataBundle, DataSpec, Preprocessor

    class Nothing(Preprocessor): ...

    def points():
        import torch
        from torch.utils.data import TensorDataset
        split = TensorDataset(torch.zeros(24, 4), torch.arange(24) % 3)
        return DataBundle(DataSpec((4,), "vector", "class", 3), split, split, split, preprocessor=Nothing())

    @hookimpl
    def ptb_provide_datasets():
        return [Component("points", "acme:points")]
"""
)


def test_an_evaluation_and_predictions_name_a_plugin_whose_code_has_changed(site, tmp_path):
    site.add("ptb-acme", WITH_DATA, module="acme")
    path = stopped(tmp_path / "run", site.registry(), model={"name": "small"}, dataset={"name": "points"}, step=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = facade.evaluate(path, registry=site.registry())
        facade.load(path, registry=site.registry())
    (site.path / "acme.py").write_text((site.path / "acme.py").read_text() + "\n# changed\n")
    with pytest.warns(UserWarning, match=r"^plugin ptb-acme: its files differ: acme\.py: what it computes may not be"):
        assert facade.evaluate(path, registry=site.registry()) == before
    with pytest.warns(UserWarning, match=r"^plugin ptb-acme: its files differ: acme\.py"):
        facade.load(path, registry=site.registry())


def test_what_a_parent_sets_can_be_removed_where_it_is_continued(ptb, tmp_path, built_in):
    stopped(tmp_path / "half", built_in, callbacks={"ema": {"decay": 0.5}, "non-finite-report": {}})
    done = ptb("run", "--continue", "half", "--output", "rest", "callbacks.non-finite-report=", "callbacks.ema.decay=")
    assert done.returncode == 0, done.stderr
    callbacks = RunConfig.read([tmp_path / "rest" / "config.toml"]).values["callbacks"]
    assert [*callbacks] == ["ema"]
    assert callbacks["ema"]["decay"] == 0.999
