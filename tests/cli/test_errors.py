import json
import os
import sys

import pytest

PLUGIN = """
    {at_import}
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_metrics():
        return [Component("own", "ptb_own:Own")]
    """


@pytest.mark.parametrize("options", [(), ("-v",)], ids=["plain", "verbose"])
def test_no_text_of_a_plugin_steers_the_terminal(ptb, site, options):
    site.add(
        "ptb-broken",
        "raise RuntimeError('\\x1b]0;title\\x07\\rerror: none\\x9b')",
        version="1.0\x1b]0;title\x07",
        module="ptb_broken",
    )
    site.add("ptb-own", PLUGIN.format(at_import="import warnings; warnings.warn('\\x1b]0;title\\x07')"))
    for arguments in (("list", "metric"), ("list", "--strict-plugins"), ("plugins", "list")):
        done = ptb(*arguments, *options, site=site.path)
        assert "RuntimeError" in done.stderr
        told = (done.stdout + done.stderr).replace("\n", "")
        assert [sign for sign in told if not sign.isprintable()] == []


@pytest.mark.parametrize("options", [(), ("-v",)], ids=["plain", "verbose"])
def test_no_text_of_a_configuration_steers_the_terminal(ptb, options):
    done = ptb("check", "--model", "mlp\x1b]0;title\x07", *options)
    assert done.returncode == 2
    assert "unknown model 'mlp ]0;title '" in done.stderr
    assert "\x1b" not in done.stderr


def test_an_error_keeps_its_lines(ptb):
    done = ptb("check", "--model", "mlp", "trainer.epochs=0", "model.hidden=0")
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "  model.hidden", "  trainer.epochs"]


def test_a_warning_is_shown_once_and_cut_where_it_is_long(ptb, site):
    noise = "import warnings\n    for n in range(9): warnings.warn(f'noise {n % 2}: ' + 'x' * 5000)"
    site.add("ptb-own", PLUGIN.format(at_import=noise))
    lines = ptb("list", "metric", site=site.path).stderr.splitlines()
    assert [line[:16] for line in lines] == ["warning: noise 0", "warning: noise 1"]
    assert max(map(len, lines)) < 1100


@pytest.mark.parametrize(
    "writes",
    [
        "import subprocess; subprocess.run(['echo', 'noise'])",
        "import ctypes; ctypes.CDLL(None).puts(b'noise')",
        "import sys; sys.__stdout__.write('noise\\n')",
    ],
    ids=["child", "C-code", "original-stream"],
)
def test_what_a_plugin_writes_while_it_is_imported_does_not_spoil_the_results(ptb, site, writes):
    site.add("ptb-own", PLUGIN.format(at_import=writes))
    done = ptb("list", "metric", "--json", site=site.path)
    names = [entry["name"] for entry in json.loads(done.stdout)["components"]]
    assert "own" in names
    assert names == sorted(names)
    assert "noise" in done.stderr


NOISY = """
    import math, sys, warnings
    from torch import nn
    from ptb import Component, hookimpl

    class Noisy(nn.Sequential):
        def __init__(self, spec):
            super().__init__(nn.Flatten(), nn.Linear(math.prod(spec.input_shape), spec.output_size))
            self.passes = 0

        def forward(self, inputs):
            self.passes += 1
            warnings.warn(f"pass {self.passes}")
            print("a pass", flush=True)
            return super().forward(inputs)

    @hookimpl
    def ptb_provide_models():
        return [Component("noisy", "ptb_noisy:Noisy")]
    """


def closed():
    os.close(2)


def unread():
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.close(reader)


def full(descriptor=2):
    os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)


needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only some systems have this device")
broken = pytest.mark.parametrize("broken", [closed, unread, pytest.param(full, marks=needs_full)])


@pytest.mark.parametrize(
    ("broken", "options"), [(closed, ("-v",)), (unread, ()), pytest.param(full, ("-q",), marks=needs_full)]
)
def test_a_run_does_not_need_a_standard_error(ptb, site, tmp_path, broken, options):
    site.add("ptb-noisy", NOISY)
    command = ("run", "--model", "noisy", "--epochs", "2", "--output", "out", "dataset.size=8", *options)
    done = ptb(*command, site=site.path, preexec_fn=broken)
    assert done.returncode == 0
    assert done.stdout.startswith("finished: 2 epochs")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"] == "finished"


@broken
def test_an_error_that_cannot_be_told_has_its_exit_code(ptb, broken):
    done = ptb("check", "--model", "nope", preexec_fn=broken)
    assert (done.returncode, done.stdout) == (2, "")


@needs_full
@pytest.mark.parametrize(
    ("command", "code"), [(("list",), 5), (("check", "--model", "nope", "--json"), 2)], ids=["result", "error"]
)
def test_a_result_that_cannot_be_written_has_one_message_and_its_exit_code(ptb, command, code):
    done = ptb(*command, preexec_fn=lambda: full(1))
    assert done.returncode == code
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error"]


@pytest.mark.parametrize("descriptor", [1, 2])
def test_what_is_written_to_a_closed_descriptor_goes_nowhere(ptb, site, descriptor):
    site.add("ptb-own", PLUGIN.format(at_import=f"import os; os.write({descriptor}, b'noise')"))
    done = ptb("list", "metric", "--strict-plugins", site=site.path, preexec_fn=lambda: os.close(descriptor))
    assert done.returncode == 0
    assert "noise" not in done.stdout + done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
def test_the_name_of_the_output_need_not_be_utf_8(ptb, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    command = ("run", "--model", "mlp", "--epochs", "1", "--output", "out\udcff", "dataset.size=8")
    done = ptb(*command, errors="surrogateescape")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "recorded in out\udcff")
    for file in ("config.toml", "manifest.json", "summary.json", "metrics.jsonl", "log.txt"):
        assert (tmp_path / "out\udcff" / file).read_bytes().decode()
    assert "run directory: out\\udcff\n" in (tmp_path / "out\udcff" / "log.txt").read_text()
    monkeypatch.delenv("PYTHONIOENCODING")
    assert ptb("eval", "out\udcff").returncode == 0
