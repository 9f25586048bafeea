import json

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import nn

from ptb.cli import main
from ptb_import_torch.command import SHOWN


def saved(path, value=None):
    torch.manual_seed(0)
    torch.save(nn.Linear(4, 3).state_dict() if value is None else value, path)
    return path


@pytest.fixture
def import_torch(tmp_path, monkeypatch):
    """Runs the command in this process, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["import-torch", *arguments])


def test_the_weights_are_written_beside_the_file_and_the_command_that_uses_them_works(ptb, tmp_path):
    state = {f"module.linear.{name}": value for name, value in nn.Linear(4, 3).state_dict().items()}
    saved(tmp_path / "my net.pt", {"epoch": 3, "state_dict": state})
    done = ptb("import-torch", "my net.pt")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "wrote my net.safetensors: 2 tensors, 15 values",
        "the weights were under 'state_dict'; ignored: epoch",
        "removed 'module.' from the beginning of every name",
        "NAME           DTYPE    SHAPE",
        "linear.bias    float32  [3]",
        "linear.weight  float32  [3, 4]",
        "to use them, with the model that they belong to:",
        "  ptb run --model MODEL --init weights-file 'initializer.path=my net.safetensors'",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my net.pt", "my net.safetensors"]
    written = load_file(tmp_path / "my net.safetensors")
    assert torch.equal(written["linear.weight"], state["module.linear.weight"])
    used = ("--model", "linear", "--dataset", "iris", "--init", "weights-file", "initializer.path=my net.safetensors")
    assert ptb("check", *used).returncode == 0


def test_json_has_every_tensor(import_torch, tmp_path):
    saved(tmp_path / "a.pt", {f"{number:02}": torch.ones(number) for number in range(SHOWN + 2)})
    facts = json.loads(import_torch("a.pt", "--output", "out.safetensors", "--json").stdout)
    tensors = facts.pop("tensors")
    assert len(tensors) == SHOWN + 2
    assert tensors[3] == {"name": "03", "dtype": "float32", "shape": [3]}
    about = {"output": "out.safetensors", "values": sum(range(SHOWN + 2)), "holder": "", "prefix": "", "ignored": []}
    assert facts == {"schema": 1, "status": "ok", **about}
    (tmp_path / "out.safetensors").unlink()
    assert "\nand 2 more; --json shows all\n" in import_torch("a.pt", "--output", "out.safetensors").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("missing.pt",), 5, "missing.pt does not exist"),
        (("a.pt", "--output", "b.pt"), 2, "--output b.pt must end in .safetensors"),
        (("a.pt", "--output", "kept.safetensors"), 2, "kept.safetensors exists already"),
        (("a.pt", "--output", "linked.safetensors"), 2, "linked.safetensors exists already"),
        (("a.pt", "--output", "no/b.safetensors"), 5, "there is no folder no to write b.safetensors to"),
        (("x" * 300 + ".pt",), 2, "cannot be used: [Errno 36] File name too long"),
        (("",), 2, "cannot be used"),
        (("kept.safetensors", "--output", "b.safetensors"), 5, "is not a zip archive"),
        (("a.pt", "--no-plugins"), 2, "No such option"),
    ],
    ids=["missing", "suffix", "overwrite", "overwrite-link", "folder", "long", "empty", "other", "option"],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(import_torch, tmp_path, arguments, code, message):
    saved(tmp_path / "a.pt")
    (tmp_path / "kept.safetensors").write_text("mine, and long enough to have a beginning")
    (tmp_path / "linked.safetensors").symlink_to("nowhere")
    before = sorted(tmp_path.iterdir())
    done = import_torch(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "kept.safetensors").read_text().startswith("mine")


def test_an_error_is_one_object_with_json(import_torch, tmp_path):
    saved(tmp_path / "a.pt", nn.Linear(2, 2))
    done = import_torch("a.pt", "--json")
    assert done.exit_code == 5
    error = json.loads(done.stdout)["error"]
    assert (error["type"], error["exit_code"]) == ("StorageError", 5)
    assert "it asks for torch.nn.modules.linear.Linear; save the weights alone" in error["message"]
