"""The commands that plugins provide: found by their records, and imported when somebody uses them."""

import json
import os
import subprocess
import sys

import pytest

ACME = """
    from ptb import Command, hookimpl

    @hookimpl
    def ptb_provide_commands():
        return [
            Command("greet", "acme_commands:greet", "Say hello."),
            Command("plugins tidy", "acme_commands:greet", "Tidy up."),
            Command("tools one", "acme_commands:greet", "The first tool."),
            Command("tree", "acme_commands:tree", "A group."),
            Command("fails", "acme_commands:fails", "Fail in some way."),
            Command("asks", "acme_commands:asks", "Take the options of a run."),
        ]
"""
TARGETS = """
    import json, subprocess, sys
    import click
    from ptb import DataError, json_option, run_options

    print("acme was imported")

    @click.command()
    def greet():
        "Say hello, and explain how."
        click.echo("hello")

    @click.group()
    def tree():
        "A group of another package."

    @tree.command()
    def leaf():
        print("a leaf", flush=True)
        subprocess.run([sys.executable, "-c", "print('a child')"])

    @click.command()
    @click.argument("how")
    @json_option
    def fails(how, as_json):
        errors = {
            "data": DataError("no such table"),
            "bug": KeyError("x"),
            "disk": OSError("full"),
            "click": click.ClickException("no such table"),
            "abort": click.Abort(),
            "exit": SystemExit("no such table"),
        }
        raise errors[how]

    @click.command()
    @run_options
    @json_option
    def asks(config, as_json):
        click.echo(json.dumps(config.values) if as_json else config.source("model", "name"))
"""
ONE = """
    from ptb import Command, hookimpl

    @hookimpl
    def ptb_provide_commands():
        return [Command("{name}", "{target}", "{name} of {owner}")]
"""


def provide(site, owner, name, target="other_commands:other"):
    """Installs a plugin with one command."""
    site.add(owner, ONE.format(name=name, target=target, owner=owner))
    site.write("other_commands.py", "import click\n@click.command()\ndef other():\n    click.echo('the other one')\n")


@pytest.fixture
def acme(site):
    site.add("ptb-acme", ACME, version="1.2")
    site.write("acme_commands.py", TARGETS)
    return site


def listed(done):
    """What ``--help`` lists, by the word to type, and the plugins that cannot be used."""
    assert done.returncode == 0, done.stderr
    commands, _, unusable = done.stdout.partition("\nCommands:\n")[2].partition("\nPlugins that cannot be used:\n")
    return {line.split()[0]: " ".join(line.split()[1:]) for line in commands.splitlines() if line}, unusable.strip()


# Found and used ------------------------------------------------------------------------------------------------------


def test_the_help_lists_a_command_with_its_plugin_and_does_not_import_it(ptb, acme):
    acme.write("acme_commands.py", "raise AssertionError('imported')")
    done = ptb("--help", site=acme.path)
    commands, unusable = listed(done)
    assert commands["greet"] == "Say hello. (ptb-acme 1.2)"
    assert commands["tools"] == "Commands of plugins: one."
    assert commands["bench"].endswith("by hand.")
    assert (unusable, done.stderr) == ("", "")
    assert listed(ptb("plugins", "--help", site=acme.path))[0]["tidy"] == "Tidy up. (ptb-acme 1.2)"


@pytest.mark.parametrize(
    "words", [("greet",), ("plugins", "tidy"), ("tools", "one"), ("ptb-acme:greet",)], ids=" ".join
)
def test_a_command_is_used_by_its_name_in_its_group(ptb, acme, words):
    if ":" in words[0]:
        provide(acme, "ptb-other", "greet")
    done = ptb(*words, site=acme.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "acme was imported\n")


def test_the_help_of_a_command_is_its_own(ptb, acme):
    assert "Say hello, and explain how." in ptb("greet", "-h", site=acme.path).stdout


def test_what_a_command_starts_writes_to_standard_output(ptb, acme):
    assert ptb("tree", "leaf", site=acme.path).stdout == "a leaf\na child\n"


def test_another_plugin_puts_a_command_into_a_group_of_a_plugin(ptb, acme):
    provide(acme, "ptb-other", "tree twig")
    provide(acme, "ptb-third", "bench mine")
    assert ptb("tree", "twig", site=acme.path).stdout == "the other one\n"
    assert ptb("bench", "mine", site=acme.path).stdout == "the other one\n"
    assert set(listed(ptb("tree", "--help", site=acme.path))[0]) == {"leaf", "twig"}
    assert {"mine", "loader", "train"} <= set(listed(ptb("bench", "--help", site=acme.path))[0])


def test_a_command_takes_the_options_of_a_run(ptb, acme):
    done = ptb("asks", "--model", "lenet", "--metric", "accuracy", "trainer.epochs=3", "--json", site=acme.path)
    assert json.loads(done.stdout) == {
        "model": {"name": "lenet"},
        "trainer": {"epochs": 3},
        "metrics": {"accuracy": {}},
    }
    assert ptb("asks", "--model", "lenet", site=acme.path).stdout == "--model lenet\n"


@pytest.mark.parametrize(
    ("how", "code", "told"),
    [
        ("data", 3, "error: no such table"),
        ("bug", 7, "error: command 'fails' (ptb-acme 1.2) raised KeyError: 'x'"),
        ("disk", 5, "error: reading or writing failed: OSError: full"),
        ("click", 1, "Error: no such table"),
        ("abort", 1, "Aborted!"),
        ("exit", 1, "error: no such table"),
    ],
)
def test_what_a_command_raises_ends_as_that_of_ptb_does(ptb, acme, how, code, told):
    done = ptb("fails", how, "--json", site=acme.path)
    assert (done.returncode, json.loads(done.stdout)["error"]["exit_code"]) == (code, code)
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_the_plugins_are_listed_with_the_number_of_their_commands(ptb, acme):
    infos = {
        plugin["name"]: plugin
        for plugin in json.loads(ptb("plugins", "list", "--json", site=acme.path).stdout)["plugins"]
    }
    assert (infos["ptb-acme"]["components"], infos["ptb-acme"]["commands"]) == (0, 6)
    assert infos["pytorch-basics"]["commands"] >= 7


# Names that are taken ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words", "id_words"),
    [
        ("run", ("run",), ("ptb-other:run",)),
        ("verify", ("verify",), ("ptb-other:verify",)),
        ("plugins check", ("plugins", "check"), ("plugins", "ptb-other:check")),
    ],
)
def test_a_built_in_name_cannot_be_taken(ptb, site, name, words, id_words):
    provide(site, "ptb-other", name)
    assert "the other one" not in ptb(*words, "--help", site=site.path).stdout
    assert ptb(*id_words, site=site.path).stdout == "the other one\n"
    helped = ptb(*words[:-1], "--help", site=site.path)
    assert id_words[-1] in listed(helped)[0]
    (line,) = helped.stderr.splitlines()
    assert line.startswith(f"warning: plugin 'ptb-other 1.0' has a command '{name}', whose name is taken")
    assert line.endswith(f"type: ptb {' '.join(id_words)}")


def test_two_plugins_with_one_name_are_reached_by_their_ids(ptb, acme):
    provide(acme, "ptb-other", "greet")
    commands, _ = listed(ptb("--help", site=acme.path))
    assert {"ptb-acme:greet", "ptb-other:greet"} <= set(commands)
    assert "greet" not in commands
    torn = ptb("greet", site=acme.path)
    assert torn.returncode == 2
    assert "'greet' is a command of 2 plugins; type one of ptb-acme:greet, ptb-other:greet" in torn.stderr
    assert ptb("ptb-other:greet", site=acme.path).stdout == "the other one\n"


def test_a_command_inside_one_that_is_no_group_is_told(ptb, site):
    provide(site, "ptb-other", "run fast")
    done = ptb("--help", site=site.path)
    assert "command 'run fast' (ptb-other 1.0) cannot be used: 'run' is a command, and no group" in done.stderr


# Broken ones ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('boom')", "failed to load: RuntimeError: boom"),
        (ONE.format(name="Odd Name", target="a:b", owner="x"), "the name 'Odd Name' must match"),
        (ONE.format(name="odd", target="a:b", owner="x").replace("[Command", "[object() or Command"), "got one object"),
    ],
    ids=["raises", "bad-name", "no-record"],
)
def test_a_plugin_that_cannot_be_loaded_is_listed_with_its_reason_and_breaks_nothing_else(ptb, acme, source, reason):
    acme.add("ptb-bad", source)
    done = ptb("--help", site=acme.path)
    commands, unusable = listed(done)
    assert {"run", "bench", "greet"} <= set(commands)
    assert unusable.startswith("ptb-bad 1.0")
    assert reason in " ".join(unusable.split())
    assert ptb("greet", site=acme.path).stdout == "hello\n"
    called = ptb("odd", "--json", site=acme.path)
    assert called.returncode == 2  # a plugin that failed does not make a word that is no command its fault
    assert "No such command 'odd'" in called.stderr
    assert "perhaps a plugin that cannot be used has it: 'ptb-bad 1.0' failed to load: " in called.stderr


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("no_such_module:odd", "importing no_such_module:odd failed: ModuleNotFoundError: No module named"),
        ("odd_commands:plain", "target 'odd_commands:plain' must be a click.Command, it is a function"),
        ("odd_at_exit:odd", "importing odd_at_exit:odd failed: SystemExit: 3"),
    ],
)
def test_a_command_whose_target_is_none_ends_with_7_when_it_is_called(ptb, site, target, told):
    provide(site, "ptb-other", "odd", target)
    site.write("odd_commands.py", "def plain(): ...\n")
    site.write("odd_at_exit.py", "raise SystemExit(3)\n")
    assert "odd" in listed(ptb("--help", site=site.path))[0]
    for arguments in (("odd",), ("odd", "--help")):
        done = ptb(*arguments, site=site.path)
        assert (done.returncode, done.stdout) == (7, "")
        assert f"error: command 'odd' (ptb-other 1.0): {told}" in done.stderr


def test_an_unknown_command_is_told_with_a_suggestion(ptb, acme):
    done = ptb("gret", site=acme.path)
    assert done.returncode == 2
    assert "No such command 'gret' (did you mean 'greet'?)" in done.stderr
    inside = ptb("plugins", "docter", site=acme.path)
    assert inside.returncode == 2
    assert "No such command 'docter' (did you mean 'doctor'?)" in inside.stderr
    option = ptb("--", "-x", site=acme.path)
    assert (option.returncode, "No such option '-x'" in option.stderr) == (2, True)


# Which plugins take part ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [("--no-plugins",), ("-p", "no:ptb-acme")], ids=" ".join)
def test_the_commands_of_a_plugin_that_is_left_out_are_not_there(ptb, acme, before):
    assert "greet" not in listed(ptb(*before, "--help", site=acme.path))[0]
    assert ptb(*before, "greet", site=acme.path).returncode == 2


def test_the_environment_leaves_plugins_out_too(ptb, acme, monkeypatch):
    monkeypatch.setenv("PTB_PLUGINS", "")
    assert "greet" not in listed(ptb("--help", site=acme.path))[0]


def test_strict_makes_a_broken_plugin_an_error_of_commands_and_not_of_the_help(ptb, acme):
    acme.add("ptb-bad", "raise RuntimeError('boom')")
    assert "greet" in listed(ptb("--strict-plugins", "--help", site=acme.path))[0]
    done = ptb("--strict-plugins", "greet", site=acme.path)
    assert (done.returncode, done.stdout) == (7, "")
    assert "'ptb-bad 1.0': RuntimeError: boom" in done.stderr


def test_a_plugin_to_leave_out_that_nobody_has_is_told_by_the_help_too(ptb, acme):
    done = ptb("-p", "no:ptb-acne", "--help", site=acme.path)
    assert done.returncode == 2
    assert "unknown plugin 'ptb-acne' (did you mean 'ptb-acme'?)" in done.stderr
    assert "Traceback" not in done.stderr


# What is imported ----------------------------------------------------------------------------------------------------

PROBE = """
import atexit, sys
atexit.register(lambda: print("LOADED:", *sorted(sys.modules), file=sys.stderr))
from ptb.cli import main
main(prog_name="ptb")
"""


def modules_of(site, *arguments):
    """The modules that a command line imports."""
    paths = [str(site.path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    return set(done.stderr.rpartition("LOADED:")[2].split())


def test_a_command_of_the_core_is_found_without_a_plugin_and_a_built_in_one_without_those_of_others(acme):
    for arguments in (("run", "--help"), ("resume", "--help")):
        loaded = modules_of(acme, *arguments)
        assert not {"ptb_acme", "ptb_bench", "ptb_models", "pluggy"} & loaded
    for words in ("plugins doctor", "verify resume", "bench loader", "plugins list", "show"):
        loaded = modules_of(acme, *words.split(), "--help")
        assert "ptb_doctor" in loaded
        assert "ptb_acme" not in loaded
    assert "ptb_acme" in modules_of(acme, "greet")  # this test can fail


def test_of_a_hundred_command_plugins_the_help_imports_the_hooks_alone(site):
    for number in range(100):
        site.add(f"ptb-n{number}", ONE.format(name=f"c{number}", target=f"target_{number}:run", owner="x"))
        site.write(f"target_{number}.py", "")
    loaded = modules_of(site, "--help")
    assert len([name for name in loaded if name.startswith("ptb_n")]) == 100
    assert not [name for name in loaded if name.startswith("target_")]
    assert not {"torch", "numpy", "pydantic", "ptb_doctor.command", "ptb_bench.command"} & loaded
    ours = {name for name in loaded if name.startswith("ptb")} - {f"ptb_n{number}" for number in range(100)}
    assert ours == {name for name in modules_of(site, "--no-plugins", "--help") if name.startswith("ptb")}
