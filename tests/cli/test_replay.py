import json

import pytest

SHORT = ("--model", "mlp", "--dataset", "iris", "model.hidden=[8]", "--device", "cpu", "threads=1")


@pytest.fixture
def failed(ptb, tmp_path):
    """A replay file: weights grow until the loss is no number."""
    done = ptb("run", *SHORT, "--optimizer", "sgd", "optimizer.lr=1e18", "--epochs", "3", "--output", "out")
    assert done.returncode == 4, done.stderr
    (path,) = (tmp_path / "out").glob("replay-*.safetensors")
    assert f"`ptb replay out/{path.name}`" in done.stderr
    return path


def test_what_is_found_again_ends_with_4_and_is_the_result(ptb, failed):
    step = int(failed.name.split("-")[1])
    before = {path: path.stat().st_mtime_ns for path in failed.parent.rglob("*")}
    done = ptb("replay", failed)
    assert done.returncode == 4
    assert done.stdout.startswith("the loss is ")
    assert f"at step {step}" in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert {path: path.stat().st_mtime_ns for path in failed.parent.rglob("*")} == before
    done = ptb("replay", failed, "--json")
    assert done.returncode == 4
    facts = json.loads(done.stdout)
    assert facts.keys() == {
        *("schema", "status", "step", "message", "loss", "module", "parameters", "samples", "data", "again"),
    }
    assert (facts["schema"], facts["status"], facts["step"], facts["again"]) == (1, "found", step, True)
    assert facts["loss"] in ("nan", "inf")
    assert facts["samples"]


CHANCE = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_models():
        return [Component("once", "ptb_once:Once")]

    def __getattr__(name):
        import os
        from torch import nn

        class Once(nn.Module):
            def __init__(self, spec):
                super().__init__()
                self.last = nn.Linear(spec.input_shape[0], spec.output_size)

            def forward(self, inputs):
                broken = self.training and len(inputs) > 2 and "BROKEN" in os.environ
                return self.last(inputs) * (float("nan") if broken else 1)

        if name == "Once":
            return Once
        raise AttributeError(name)
    """


def test_what_is_not_found_again_ends_with_0_and_a_plain_sentence(ptb, site, tmp_path, monkeypatch):
    site.add("ptb-once", CHANCE)
    monkeypatch.setenv("BROKEN", "1")
    run = ("run", "--model", "once", "--dataset", "iris", "--epochs", "1", "--output", "out")
    assert ptb(*run, site=site.path).returncode == 4
    (path,) = (tmp_path / "out").glob("replay-*.safetensors")
    assert ptb("replay", path, site=site.path).returncode == 4
    monkeypatch.delenv("BROKEN")
    done = ptb("replay", path, site=site.path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("not found again: step 1 is finite here; in the run the loss is nan at step 1")
    done = ptb("replay", path, "--json", site=site.path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["status"] == "not found"
    done = ptb("replay", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown model 'ptb-once:once'" in done.stderr


def test_what_is_no_replay_file_is_refused(ptb, failed, tmp_path):
    done = ptb("replay", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: there is no file nowhere; a run writes replay-STEP-HASH.safetensors" in done.stderr
    (checkpoint, *_) = (tmp_path / "out" / "checkpoints").glob("*.safetensors")
    done = ptb("replay", checkpoint)
    assert done.returncode == 5
    assert "is no replay file" in done.stderr
    data = bytearray(failed.read_bytes())
    data[-1] ^= 1
    failed.write_bytes(bytes(data))
    done = ptb("replay", failed, "--json")
    assert done.returncode == 5
    assert "is damaged" in json.loads(done.stdout)["error"]["message"]
