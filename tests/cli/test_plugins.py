"""What the command line does with plugins that are not as they should be."""

import json
import os
import subprocess
import sys

import pytest

from ptb import ConfigError, RunConfig
from ptb.config.resolve import resolve

GOOD = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_models():
        return [Component("tiny", "ptb_tiny_parts:Tiny", summary="A tiny one")]
"""
TINY = """
    from torch import nn

    def Tiny(spec):
        return nn.Sequential(nn.Flatten(), nn.Linear(spec.input_size, spec.output_size))
"""


@pytest.fixture
def bad_day(site):
    """Every way in which a plugin can be bad, beside a good one."""
    site.add("ptb-good", GOOD)
    site.write("ptb_tiny_parts.py", TINY)
    site.add("ptb-raises", "raise RuntimeError('boom')", version="2.1")
    site.add("ptb-exits", "import sys; sys.exit(0)")
    site.add("ptb-future", "raise AssertionError('imported')", requires=["pytorch-basics>=9"])
    site.add("ptb-rival", GOOD)
    site.add("ptb-lenet", GOOD.replace('"tiny"', '"lenet"'))
    site.add("ptb-needy", GOOD.replace('"tiny", ', '"needy", requires=("no-such-package>=2",), target='))
    site.add("ptb-misspelt", GOOD.replace("ptb_provide_models", "ptb_provide_modles"))
    return site


def plugins(ptb, site, *arguments):
    done = ptb("plugins", "list", "--json", *arguments, site=site.path)
    assert done.returncode == 0, done.stderr
    return {plugin["name"]: plugin for plugin in json.loads(done.stdout)["plugins"]}


def test_every_plugin_is_listed_with_its_status_and_reason(ptb, bad_day):
    found = plugins(ptb, bad_day)
    assert {name: plugin["status"] for name, plugin in found.items() if name.startswith("ptb-")} == {
        "ptb-good": "conflict",
        "ptb-raises": "failed",
        "ptb-exits": "failed",
        "ptb-future": "incompatible",
        "ptb-rival": "conflict",
        "ptb-lenet": "conflict",
        "ptb-needy": "ok",
        "ptb-misspelt": "failed",
    }
    assert found["ptb-raises"]["reason"] == "RuntimeError: boom"
    assert found["ptb-misspelt"]["reason"].endswith("(did you mean 'ptb_provide_models'?)")
    assert "needs pytorch-basics>=9, installed is" in found["ptb-future"]["reason"]
    assert found["ptb-good"]["reason"] == "model 'tiny' is also given by ptb-rival 1.0"
    assert found["ptb-good"]["location"] == str(bad_day.path)
    assert (found["ptb-good"]["editable"], found["ptb-good"]["components"]) == (False, 1)


def test_each_plugin_that_cannot_be_used_has_one_warning_line_that_says_what_to_type(ptb, bad_day):
    done = ptb("list", site=bad_day.path)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    assert lines[3].startswith("warning: plugin 'ptb-raises 2.1' failed to load: RuntimeError: boom (disable: ")
    assert "-p no:ptb-raises" in lines[3]
    assert "pip uninstall ptb-raises" in lines[3]


def test_the_statuses_of_components_are_listed(ptb, bad_day):
    rows = json.loads(ptb("list", "model", "--json", site=bad_day.path).stdout)["components"]
    by_id = {row["id"]: row["status"] for row in rows}
    assert by_id["ptb-good:tiny"] == by_id["ptb-rival:tiny"] == by_id["ptb-lenet:lenet"] == "conflict"
    assert by_id["pytorch-basics:lenet"] == "ok"
    assert by_id["ptb-needy:needy"] == "needs no-such-package>=2"


def test_a_bad_day_changes_no_weight(ptb, bad_day):
    run = ("run", "--model", "lenet", "--epochs", 1, "--json")
    alone, among = ptb(*run, "--no-plugins"), ptb(*run, site=bad_day.path)
    assert among.returncode == 0, among.stderr
    assert json.loads(alone.stdout)["weights_sha256"] == json.loads(among.stdout)["weights_sha256"]
    assert among.stderr.count("model 'lenet' is the built-in one; the name is also that of 'ptb-lenet:lenet'") == 1


def test_a_name_of_two_strangers_is_settled_by_its_id_or_in_a_config_file(ptb, bad_day, tmp_path):
    torn = ptb("check", "--model", "tiny", site=bad_day.path)
    assert torn.returncode == 2
    assert "'ptb-good:tiny' (ptb-good 1.0), 'ptb-rival:tiny' (ptb-rival 1.0)" in torn.stderr
    assert '[resolve] model.tiny = "ptb-good:tiny"' in torn.stderr
    assert ptb("check", "--model", "ptb-rival:tiny", site=bad_day.path).returncode == 0
    (tmp_path / "settled.toml").write_text('[resolve]\nmodel.tiny = "ptb-rival:tiny"\n')
    shown = ptb("run", "-c", "settled.toml", "--model", "tiny", "--dry-run", "--json", site=bad_day.path)
    assert json.loads(shown.stdout)["config"]["model"]["name"] == "ptb-rival:tiny"


def test_resolve_may_give_a_built_in_name_to_a_stranger_and_then_nothing_is_warned_of(ptb, bad_day):
    settled = ptb(
        *("run", "--model", "lenet", "--dry-run", "--json", "resolve.model.lenet=ptb-lenet:lenet"), site=bad_day.path
    )
    assert json.loads(settled.stdout)["config"]["model"]["name"] == "ptb-lenet:lenet"
    assert "built-in one" not in settled.stderr
    kept = ptb(
        *("run", "--model", "lenet", "--dry-run", "--json", "resolve.model.lenet=pytorch-basics:lenet"),
        site=bad_day.path,
    )
    assert json.loads(kept.stdout)["config"]["model"]["name"] == "pytorch-basics:lenet"
    assert "built-in one" not in kept.stderr


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("resolve.model.lenet=ptb-lenets:lenet", "did you mean"),
        ("resolve.model.lenet=ptb-lenet", 'must be KIND.NAME = "DISTRIBUTION:NAME"'),
        ("resolve.model.lenet=ptb-good:tiny", "'ptb-good:tiny' is not called 'lenet'"),
        ("resolve.modell.lenet=ptb-lenet:lenet", "with a kind of dataset, model"),
        ("resolve=3", "is a section"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*lenet")
def test_a_resolution_that_settles_nothing_is_a_config_error(bad_day, override, told):
    with pytest.raises(ConfigError) as error:
        resolve(RunConfig.read(flags={"model": "lenet"}, overrides=[override]), bad_day.registry())
    assert told in str(error.value)


def test_using_a_component_with_a_missing_dependency_exits_7_with_the_line_to_type(ptb, bad_day):
    done = ptb("check", "--model", "needy", site=bad_day.path)
    assert done.returncode == 7
    assert f"{sys.executable} -m pip install 'no-such-package>=2'" in done.stderr


def test_what_lacks_a_dependency_is_shown_as_far_as_that_goes(ptb, bad_day):
    done = ptb("show", "model", "needy", site=bad_day.path)
    assert done.returncode == 0
    assert "status:    needs no-such-package>=2" in done.stdout
    assert f"{sys.executable} -m pip install 'no-such-package>=2'" in done.stdout
    assert json.loads(ptb("show", "model", "needy", "--json", site=bad_day.path).stdout)["settings"] is None
    assert ptb("show", "model", "needy", "--schema", site=bad_day.path).returncode == 7


@pytest.mark.parametrize("how", [("--strict-plugins",), ()])
def test_strict_makes_a_plugin_that_cannot_be_used_an_error(ptb, bad_day, monkeypatch, how):
    if not how:
        monkeypatch.setenv("PTB_STRICT_PLUGINS", "1")
    done = ptb(*how, "list", site=bad_day.path)
    assert (done.returncode, done.stdout) == (7, "")
    assert "'ptb-raises 2.1': RuntimeError: boom" in done.stderr
    assert "'ptb-future 1.0'" in done.stderr


IMPORTED = "import pathlib; pathlib.Path('imported').touch()\n"


@pytest.mark.parametrize(
    ("before", "after", "environment"),
    [
        (("-p", "no:ptb-marks"), (), {}),
        ((), ("-p", "no:Ptb_Marks"), {}),
        (("--no-plugins",), (), {}),
        ((), (), {"PTB_PLUGINS": "ptb-other"}),
    ],
)
def test_a_plugin_that_is_left_out_is_never_imported(ptb, site, tmp_path, monkeypatch, before, after, environment):
    site.add("ptb-marks", IMPORTED)
    site.add("ptb-other", GOOD)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    done = ptb(*before, "list", *after, "--json", site=site.path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "imported").exists()
    assert done.stderr == ""
    listed = plugins(ptb, site, *before, *after) if not before else None
    assert listed is None or listed["ptb-marks"]["status"] == "disabled"


def test_a_config_file_leaves_plugins_out_and_says_so_to_the_run_made_of_it(ptb, site, tmp_path):
    site.add("ptb-marks", IMPORTED)
    (tmp_path / "run.toml").write_text('[plugins]\ndisable = ["ptb-marks"]\n[model]\nname = "linear"\n')
    done = ptb("run", "-c", "run.toml", "--epochs", 1, "--output", "out", site=site.path)
    assert done.returncode == 0, done.stderr
    assert ptb("check", "-c", "out/config.toml", site=site.path).returncode == 0
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("lines", "code", "told"),
    [
        ('disable = ["ptb-mark"]', 2, "unknown plugin 'ptb-mark' (did you mean 'ptb-marks'?)"),
        ('require = ["ptb-marks>=2"]', 7, "ptb-marks>=2: installed is 1.0"),
        ('require = ["ptb-mark"]', 7, "ptb-mark: not installed as a plugin (did you mean 'ptb-marks'?)"),
    ],
)
def test_wishes_that_cannot_be_met_are_told(ptb, site, tmp_path, lines, code, told):
    site.add("ptb-marks", IMPORTED)
    (tmp_path / "run.toml").write_text(f'[plugins]\n{lines}\n[model]\nname = "linear"\n')
    done = ptb("run", "-c", "run.toml", "--dry-run", site=site.path)
    assert done.returncode == code
    assert told in done.stderr
    if code == 2:
        assert "run.toml:2" in done.stderr
        assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("value", ["acme", "no:"])
def test_p_takes_no_name_only(ptb, value):
    done = ptb("list", "-p", value)
    assert done.returncode == 2
    assert "must be a file such as ./mynet.py, or no:NAME, got" in done.stderr


def test_listing_by_pattern_and_by_plugin(ptb, bad_day):
    def names(*arguments):
        done = ptb("list", *arguments, "--json", site=bad_day.path)
        return [row["id"] for row in json.loads(done.stdout)["components"]]

    assert names("model", "le*net") == names("le*net") == ["ptb-lenet:lenet", "pytorch-basics:lenet"]
    assert names("ptb-*:*") == ["ptb-lenet:lenet", "ptb-needy:needy", "ptb-good:tiny", "ptb-rival:tiny"]
    assert names("--plugin", "Ptb_Good") == ["ptb-good:tiny"]
    assert names("loss", "--plugin", "ptb-good") == []
    unknown = ptb("list", "--plugin", "ptb-god", site=bad_day.path)
    assert unknown.returncode == 2
    assert "did you mean 'ptb-good'" in unknown.stderr


def test_what_a_stranger_wrote_cannot_steer_the_terminal(ptb, site):
    site.add("ptb-good", GOOD.replace("A tiny one", "\\x1b[31mred\\tline\\x07"))
    shown = ptb("list", "--plugin", "ptb-good", site=site.path).stdout
    assert "red line" in shown
    assert not {"\x1b", "\x07"} & set(shown)


def test_what_a_plugin_prints_does_not_reach_standard_output(ptb, site):
    site.add("ptb-good", GOOD + "\n    print('hello')\n")
    done = ptb("list", "--json", site=site.path)
    json.loads(done.stdout)
    assert "hello" in done.stderr


def test_the_order_of_plugins_does_not_hang_on_a_hash_seed(ptb, bad_day, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    names = [name for name in plugins(ptb, bad_day) if name.startswith("ptb-")]
    assert names == sorted(names)


@pytest.fixture
def recorded(ptb, site):
    """A run with a model of a plugin, in the directory ``first``."""
    site.add("ptb-good", GOOD, version="1.2")
    site.add("ptb-idle", GOOD.replace('"tiny"', '"idle"'))
    site.write("ptb_tiny_parts.py", TINY)
    (site.path / "ptb_good-1.2.dist-info" / "RECORD").write_text("ptb_good.py,,\nptb_tiny_parts.py,,\n")
    done = ptb("run", "--model", "tiny", "--epochs", 1, "--output", "first", site=site.path)
    assert done.returncode == 0, done.stderr
    return site


def test_the_manifest_names_the_plugins_that_were_used_and_those_that_were_not(recorded, tmp_path):
    manifest = json.loads((tmp_path / "first" / "manifest.json").read_text())
    (model,) = [plugin for plugin in manifest["plugins"] if plugin.get("section") == "model"]
    assert (model["id"], model["version"], model["used"]) == ("ptb-good:tiny", "1.2", True)
    assert model["target"] == "ptb_tiny_parts:Tiny"
    assert model["sha256"] == manifest["plugin_files"]["ptb-good"]["sha256"]
    assert set(manifest["plugin_files"]["ptb-good"]["files"]) == {"ptb_good.py", "ptb_tiny_parts.py"}
    unused = [plugin for plugin in manifest["plugins"] if not plugin["used"]]
    assert {plugin["distribution"]: plugin["status"] for plugin in unused}["ptb-idle"] == "ok"
    assert "ptb-idle" not in manifest["plugin_files"]


def test_a_locked_run_repeats_what_has_not_changed(ptb, recorded, tmp_path):
    recorded.add("ptb-new", GOOD.replace('"tiny"', '"new"'))
    again = ptb("run", "-c", "first/config.toml", "--locked", "--output", "again", site=recorded.path)
    assert again.returncode == 0, again.stderr
    first, second = (json.loads((tmp_path / run / "summary.json").read_text()) for run in ("first", "again"))
    assert first["weights_sha256"] == second["weights_sha256"]


def test_a_locked_run_refuses_plugins_that_changed_and_says_what(ptb, recorded, tmp_path):
    recorded.write("ptb_tiny_parts.py", TINY + "    # changed\n")
    refused = ptb("run", "-c", "first/config.toml", "--locked", "--dry-run", site=recorded.path)
    assert refused.returncode == 7
    assert "ptb-good: its files differ: ptb_tiny_parts.py" in refused.stderr
    assert ptb("run", "-c", "first/config.toml", "--dry-run", site=recorded.path).returncode == 0
    gone = ptb("run", "-c", "first/config.toml", "--locked")
    assert gone.returncode == 7
    assert "ptb-good: not used or not installed any more" in gone.stderr
    (tmp_path / "plain.toml").write_text("seed = 1\n")
    alone = ptb("run", "-c", "plain.toml", "--model", "mlp", "--locked")
    assert alone.returncode == 2
    assert "-c RUN/config.toml" in alone.stderr


def test_a_locked_run_uses_no_plugin_that_the_run_did_not_use(ptb, recorded):
    other = ptb("run", "-c", "first/config.toml", "--locked", "--model", "idle", "--dry-run", site=recorded.path)
    assert other.returncode == 7
    assert "does not record the plugin of model 'idle' (ptb-idle 1.0); choose a component of the run" in other.stderr
    built_in = ptb("run", "-c", "first/config.toml", "--locked", "--model", "mlp", "--dry-run", site=recorded.path)
    assert built_in.returncode == 0, built_in.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda facts: facts.pop("plugin_files"), "does not say which files the plugins of the run had"),
        (lambda facts: facts["plugin_files"].pop("ptb-good"), "does not record the plugin of model 'tiny'"),
        (
            lambda facts: facts["plugin_files"]["ptb-good"].pop("files"),
            "ptb-good: the manifest does not list its files",
        ),
    ],
    ids=["no-records", "one-left-out", "no-files"],
)
def test_a_locked_run_refuses_a_manifest_from_which_something_was_taken(ptb, recorded, tmp_path, change, told):
    file = tmp_path / "first" / "manifest.json"
    facts = json.loads(file.read_text())
    change(facts)
    file.write_text(json.dumps(facts))
    done = ptb("run", "-c", "first/config.toml", "--locked", "--dry-run", site=recorded.path)
    assert done.returncode == 7
    assert told in done.stderr


def test_the_id_of_a_component_of_a_disabled_plugin_says_what_to_leave_out(ptb, bad_day):
    done = ptb("check", "--model", "ptb-good:tiny", "-p", "no:ptb-good", site=bad_day.path)
    assert done.returncode == 2
    assert "model 'ptb-good:tiny' cannot be used: plugin 'ptb-good 1.0' is disabled by -p no:ptb-good" in done.stderr


def test_freeze_prints_what_pip_installs_again_and_imports_nothing(ptb, bad_day):
    (bad_day.path / "ptb_rival-1.0.dist-info" / "direct_url.json").write_text(
        '{"url": "https://example.org/rival", "vcs_info": {"vcs": "git", "commit_id": "abc"}}'
    )
    done = ptb("plugins", "freeze", site=bad_day.path)
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if "ptb-" in line]
    assert "ptb-raises==2.1" in lines
    assert "ptb-rival @ git+https://example.org/rival@abc" in lines
    assert not [line for line in lines if "pytorch-basics" in line]


def test_a_thousand_plugins_are_listed_in_little_memory(site, tmp_path):
    for number in range(1000):
        source = GOOD.replace('"tiny"', f'f"n{number}-{{i}}"').replace('one")]', 'one") for i in range(10)]')
        site.add(f"ptb-n{number}", source)
    program = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', 'ptb', 'list', '--json'], capture_output=True)\n"
        "print(done.stdout.count(b'\"kind\"'), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(site.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120
    )
    components, kilobytes = map(int, done.stdout.split())
    assert components > 10_000
    assert kilobytes < 200 * 1024


SPAWNING = """
import multiprocessing

import cv2
import numpy as np
import ptb

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    for name in ("a", "b"):
        for number in range(8):
            cv2.imwrite(f"pictures/{name}/{number}.png", np.full((8, 8), 30 * number, np.uint8))
    dataset = {"name": "image-folder", "root": "pictures", "size": [8, 8]}
    config = ptb.RunConfig(
        model={"name": "linear"}, dataset=dataset, loader={"num_workers": 1}, trainer={"epochs": 1}, device="cpu"
    )
    ptb.train(config, output="out")
"""


@pytest.mark.slow
def test_a_process_that_reads_samples_imports_no_plugin_that_the_run_does_not_use(site, tmp_path):
    site.add("ptb-marks", "import os, pathlib\npathlib.Path(f'imported-{os.getpid()}').touch()")
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
    (tmp_path / "train.py").write_text(SPAWNING)
    environment = os.environ | {"PYTHONPATH": str(site.path)}
    done = subprocess.run(
        [sys.executable, "train.py"], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("imported-*"))) == 1
