import json

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
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "  trainer.epochs", "  model.hidden"]


@pytest.mark.parametrize(("options", "shown"), [((), 6), (("-v",), 100)], ids=["plain", "verbose"])
def test_a_plugin_that_warns_a_hundred_times_is_cut_short(ptb, site, options, shown):
    noise = "import warnings\n    for n in range(100): warnings.warn(f'noise {n}: ' + 'x' * 5000)"
    site.add("ptb-own", PLUGIN.format(at_import=noise))
    site.add("ptb-other", PLUGIN.format(at_import="import warnings; warnings.warn('of another')"))
    done = ptb("list", "metric", *options, site=site.path)
    lines = done.stderr.splitlines()
    of_own = [line for line in lines if "noise" in line or "ptb_own.py gives more warnings" in line]
    assert len(of_own) == shown
    assert max(map(len, lines)) < 1100
    assert "warning: of another" in lines


@pytest.mark.parametrize(
    "writes",
    [
        "import os; os.write(1, b'noise\\n')",
        "import subprocess; subprocess.run(['echo', 'noise'])",
        "import ctypes; ctypes.CDLL(None).puts(b'noise')",
        "print('noise')",
        "import sys; sys.__stdout__.write('noise\\n')",
    ],
    ids=["descriptor", "child", "C-code", "print", "original-stream"],
)
def test_what_a_plugin_writes_while_it_is_imported_does_not_spoil_the_results(ptb, site, writes):
    site.add("ptb-own", PLUGIN.format(at_import=writes))
    done = ptb("list", "metric", "--json", site=site.path)
    assert [entry["name"] for entry in json.loads(done.stdout)["components"]][3:4] == ["own"]
    assert "noise" in done.stderr
    done = ptb("plugins", "list", site=site.path)
    assert "noise" not in done.stdout
    assert "ptb-own" in done.stdout
