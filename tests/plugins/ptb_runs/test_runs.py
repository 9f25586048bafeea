import json
import subprocess
import sys

import pytest

import ptb as api

SHORT = ("--model", "mlp", "--epochs", "1", "dataset.size=8", "model.hidden=[8]", "-q")


def made(folder, name, *, lr=0.001, accuracy=0.5, tags=(), **more):
    """A run as it lies on disk, its figures made up."""
    run = folder / name
    run.mkdir(parents=True)
    (run / "config.toml").write_text(
        f'seed = 0\n[model]\nname = "mlp"\nhidden = [8]\n[optimizer]\nname = "adam"\nlr = {lr}\n'
    )
    plugins = [{"section": "model", "id": "pytorch-basics:mlp", "used": True}]
    (run / "manifest.json").write_text(json.dumps({"schema": 1, "plugins": plugins, "tags": list(tags)}))
    metrics = {"val/accuracy": accuracy, "val/loss": 1 - accuracy} if accuracy is not None else {}
    (run / "summary.json").write_text(
        json.dumps({"schema": 1, "status": "finished", "epoch": 3, "metrics": metrics} | more)
    )
    return run


@pytest.fixture
def two(tmp_path):
    return made(tmp_path / "runs", "a", accuracy=0.5), made(tmp_path / "runs", "b", lr=0.01, accuracy=0.75)


def test_runs_are_listed_with_what_they_reached(ptb):
    assert ptb("run", *SHORT, "--name", "first try", "--tag", "small", "--tag", "quick").returncode == 0
    (run,) = json.loads(ptb("runs", "--json").stdout)["runs"]
    assert (run["name"], run["tags"], run["status"]) == ("first try", ["small", "quick"], "finished")
    assert (run["model"], run["dataset"], run["epoch"]) == ("mlp", "digits", 1)
    assert run["metrics"].keys() >= {"train/loss", "val/accuracy", "test/accuracy"}
    page = ptb("runs").stdout
    assert "first try" in page
    assert f"test/accuracy {run['metrics']['test/accuracy']:.4g}" in page


def test_runs_are_chosen_by_tag_and_sorted_by_a_figure(ptb, tmp_path, two):
    made(tmp_path / "runs/deeper", "c", accuracy=0.6, tags=["kept"])
    made(tmp_path / "runs", "d", accuracy=None)

    def names(*arguments):
        return [run["run"] for run in json.loads(ptb("runs", *arguments, "--json").stdout)["runs"]]

    assert names() == ["runs/a", "runs/b", "runs/d", "runs/deeper/c"]
    assert names("--sort", "val/accuracy") == ["runs/b", "runs/deeper/c", "runs/a", "runs/d"]
    assert names("--sort=-val/accuracy") == ["runs/a", "runs/deeper/c", "runs/b", "runs/d"]
    assert names("--tag", "kept") == ["runs/deeper/c"]
    assert names("--tag", "kept", "--tag", "other") == []


def test_only_what_differs_is_compared(ptb, two):
    facts = json.loads(ptb("compare", *two, "--json").stdout)
    assert facts["settings"] == {"optimizer.lr": [0.001, 0.01]}
    assert facts["metrics"] == {"val/accuracy": [0.5, 0.75], "val/loss": [0.5, 0.25]}
    lines = [line.split() for line in ptb("compare", *two).stdout.splitlines()]
    assert lines == [
        ["a", "b"],
        ["status", "finished", "finished"],
        ["optimizer.lr", "0.001", "0.01"],
        ["val/accuracy", "0.5", "0.75"],
        ["val/loss", "0.5", "0.25"],
    ]


def test_equal_settings_are_said_to_be_equal(ptb, tmp_path, two):
    other = made(tmp_path / "runs", "again")
    assert "their settings are the same" in ptb("compare", two[0], other).stdout


def test_many_runs_stand_below_each_other(ptb, tmp_path):
    runs = [made(tmp_path / "runs", f"r{number}", lr=number / 100 + 0.01) for number in range(9)]
    lines = ptb("compare", *runs).stdout.splitlines()
    assert lines[0].split() == ["RUN", "optimizer.lr", "val/accuracy", "val/loss"]
    assert len(lines) == 10


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("runs", "nowhere"), 2, "there is no folder nowhere"),
        (("runs", "--sort", "val/f1"), 2, "there are val/accuracy, val/loss"),
        (("compare", "runs/a"), 2, "two runs at least"),
        (("compare", "runs/a", "runs/z"), 2, "runs/z is not a run directory"),
    ],
)
def test_what_cannot_be_done_is_said(ptb, two, arguments, code, said):
    done = ptb(*arguments)
    assert done.returncode == code
    assert said in done.stderr


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"metrics": null}', '{"metrics": {"val/accuracy": "nan"}}', "\0"])
def test_a_damaged_file_hides_no_other_run(ptb, two, content):
    (two[0] / "summary.json").write_text(content)
    found = json.loads(ptb("runs", "--sort", "val/accuracy", "--json").stdout)["runs"]
    assert [run["run"] for run in found] == ["runs/b", "runs/a"]
    (two[0] / "config.toml").write_text("[")
    assert ptb("runs").returncode == 0
    assert "config.toml cannot be read" in ptb("compare", *two).stderr


def test_no_run_is_no_error(ptb, tmp_path):
    (tmp_path / "runs").mkdir()
    assert ptb("runs").stdout == "no runs in runs\n"


def test_both_commands_import_no_torch(tmp_path, two):
    for arguments in (["runs"], ["compare", "runs/a", "runs/b"]):
        code = (
            "import sys\nfrom ptb.cli import main\n"
            f"sys.argv = ['ptb', *{arguments!r}]\n"
            "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
            "assert not {'torch', 'numpy', 'safetensors'} & set(sys.modules)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_record_reads_what_a_run_has_written(ptb, tmp_path):
    assert ptb("run", *SHORT, "--output", "one").returncode == 0
    record = api.RunRecord(tmp_path / "one")
    assert record.config["model"]["hidden"] == [8]
    assert record.summary["status"] == "finished"
    assert [row["split"] for row in record.history] == ["train", "val", "test"]
    with (tmp_path / "one/metrics.jsonl").open("a") as stream:
        stream.write('{"step": 9, "spl')
    assert len(api.RunRecord(tmp_path / "one").history) == 3
    with pytest.raises(api.ConfigError, match="not a run directory"):
        api.RunRecord(tmp_path)


def test_very_different_runs_are_compared_in_short(ptb, tmp_path):
    keys = "".join(f"k{number} = {number}\n" for number in range(30))
    for name, model in (("a", "mlp"), ("b", "lenet")):
        run = made(tmp_path / "runs", name, lr={"a": 0.1, "b": 0.2}[name])
        text = (run / "config.toml").read_text().replace('"mlp"\nhidden = [8]\n', f'"{model}"\n')
        (run / "config.toml").write_text(text + ("[dataset]\n" + keys if name == "a" else ""))
    short, whole = ptb("compare", "runs/a", "runs/b"), ptb("compare", "runs/a", "runs/b", "--all")
    lines = short.stdout.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["model.name", "optimizer.lr"]
    assert lines[-1] == "and 12 settings more that differ: --all"
    assert sum("dataset.k" in line for line in lines) == 18
    assert sum("dataset.k" in line for line in whole.stdout.splitlines()) == 30
    assert "more" not in whole.stdout
    assert len(json.loads(ptb("compare", "runs/a", "runs/b", "--json").stdout)["settings"]) == 32
