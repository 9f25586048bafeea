import ast
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ptb_testing.kit import KITS, checks_of, minimum, summaries
from ptb_testing.scaffold import write_plugin

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
WRITE, CHECK = (PAGES / name for name in ("write-a-plugin.md", "check-a-plugin.md"))
# Neither needs the compiler of torch, whose import takes as long as what they do.
WITHOUT_COMPILER = "from ptb.internals import put_off_dynamo; put_off_dynamo()\n"
PYTEST = f"{WITHOUT_COMPILER}import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
MASKS = ((r"(loss|accuracy) [\d.]+", r"\1 #"), (r"^  \S+ -m pip", "  python -m pip"))


def blocks(page):
    """What stands in the page in order: files to write, files that are there, and console commands with their lines."""
    text = page.read_text(encoding="utf-8")
    pattern = r"^(?:`([\w./]+)`(, as written)?:\n\n)?```(\w+)\n(.*?)^```$"
    for file, written, language, body in re.findall(pattern, text, re.S | re.M):
        if file:
            yield ("there" if written else "write", file, body)
        elif language == "console":
            for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
                command, *shown = part.splitlines()
                yield ("run", command, shown)


def masked(line):
    for pattern, mask in MASKS:
        line = re.sub(pattern, mask, line)
    return line.rstrip()


@pytest.fixture
def shell(tmp_path, run_python):
    """Runs a command of the page; what pip leaves of an editable installation is written by hand, without a network."""
    folder, site = tmp_path / "ptb-acme", tmp_path / "site"
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{folder}", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    environment["CUDA_VISIBLE_DEVICES"] = ""

    def run(command):
        if command.startswith("python -m pip install"):
            info = site / "ptb_acme-0.1.0.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ptb-acme\nVersion: 0.1.0\n")
            (info / "entry_points.txt").write_text("[ptb]\nacme = ptb_acme\n")
            return subprocess.CompletedProcess(command, 0, "", "")
        words = shlex.split(command)
        if words[0] == "ptb":
            words = [sys.executable, "-m", *words]
        elif words[:3] == ["python", "-m", "pytest"]:
            words = [sys.executable, "-c", PYTEST, "-p", "no:hypothesispytest", *words[3:]]
        elif words[0] == "python":
            words[0] = sys.executable
        return run_python(words, cwd=tmp_path, env=environment)

    return run


def follow(page, shell, folder):
    """Does what the page says, and holds what happens against what it shows."""
    for kind, name, body in blocks(page):
        if kind == "write":
            (folder / name).write_text(body, encoding="utf-8")
        elif kind == "there":
            assert (folder / name).read_text(encoding="utf-8") == body, name
        else:
            done = shell(name)
            refused = any(line.startswith("error:") for line in body)
            assert (done.returncode != 0) == refused, f"{name}\n{done.stdout}{done.stderr}"
            printed = {masked(line) for line in (done.stdout + done.stderr).splitlines()}
            for line in body:
                assert line in ("", "...") or masked(line) in printed, (
                    f"{name}\nshows: {line}\n{done.stdout}{done.stderr}"
                )


def rows(heading):
    """The cells of the first table under a heading."""
    text = CHECK.read_text(encoding="utf-8").split(f"# {heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\|\n)+", text, re.M)[0].splitlines()[2:]
    return [tuple(line[2:-2].split(" | ")) for line in lines]


def test_the_page_shows_every_command_and_file_that_it_needs():
    kinds = [kind for kind, *_ in blocks(WRITE)]
    assert (kinds.count("there"), kinds.count("write")) == (2, 4)
    commands = [name.split()[:3] for kind, name, _ in blocks(WRITE) if kind == "run"]
    assert commands[0] == ["ptb", "plugins", "new"]
    assert ["ptb", "plugins", "check"] in commands
    assert commands.count(["python", "-m", "pytest"]) == 2


def test_one_file_goes_as_the_page_shows(tmp_path, shell):
    section = WRITE.read_text(encoding="utf-8").split("## A package")[0]
    file, notebook = re.findall(r"^```python\n(.*?)^```$", section, re.S | re.M)
    (tmp_path / "mynet.py").write_text(file)
    (tmp_path / "notebook.py").write_text(WITHOUT_COMPILER + "import ptb\n" + file.partition("@hookimpl")[0] + notebook)
    commands = "".join(re.findall(r"^```sh\n(.*?)^```$", section, re.S | re.M)).splitlines()
    assert [command.split()[3] for command in commands] == ["run", "show", "resume"]
    commands[0] += " --epochs 1 --output RUN"
    for command in (*commands, "python notebook.py"):
        done = shell(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert "model.width" in shell(commands[1]).stdout


def test_the_tree_is_what_is_written(tmp_path):
    folder, _ = write_plugin("ptb-acme", "model", tmp_path)
    (tree,) = re.findall(r"^ptb-acme/\n(.*?)^```$", WRITE.read_text(encoding="utf-8"), re.S | re.M)
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert sorted(re.findall(r"^    (\S+)", tree, re.M)) == sorted(files)


@pytest.mark.slow
def test_writing_a_plugin_goes_as_the_page_shows(tmp_path, shell):
    follow(WRITE, shell, tmp_path / "ptb-acme")


@pytest.mark.slow
def test_checking_a_plugin_goes_as_the_page_shows(tmp_path, shell):
    folder, _ = write_plugin("ptb-acme", "dataset", tmp_path)
    follow(CHECK, shell, folder)
    text = CHECK.read_text(encoding="utf-8")
    assert (
        (folder / "tests" / "test_contract.py")
        .read_text()
        .endswith(re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M)[0])
    )
    settings, specs, expected = re.findall(r"^```toml\n(.*?)^```$", text, re.S | re.M)
    project = (folder / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(project + settings)
    assert shell("ptb plugins check ./ptb-acme").returncode == 0
    for table in (specs, expected):  # they are read, and are those of another plugin
        (folder / "pyproject.toml").write_text(project + table)
        refused = shell("ptb plugins check ./ptb-acme")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "'model/acme-model' is no component of ptb-acme 0.1.0" in refused.stderr


def test_every_check_and_no_other_is_described():
    titles = ("Of every kind of component", "Data sets", "Models", "Initializers", "Losses", "Optimizers", "Schedulers")
    titles += ("Metrics", "Callbacks", "Plots", "Commands")
    for title, checks in zip(titles, summaries().values(), strict=True):
        assert rows(title) == [(f"`{name}`", text) for name, text in checks.items()], title


def test_the_callback_and_the_command_of_the_page_work(site, ptb):
    text = WRITE.read_text(encoding="utf-8")
    shown = re.findall(
        r"^`ptb_watch/(\w+)\.py`.*?:\n\n<!-- executed: callback -->\n```python\n(.*?)^```$", text, re.S | re.M
    )
    files = dict(shown)
    assert list(files) == ["__init__", "slowest", "command"]
    site.add("ptb-watch", "")
    (site.path / "ptb_watch").mkdir()
    for name, source in files.items():
        site.write(f"ptb_watch/{name}.py", source)
    done = ptb("run", "--model", "mlp", "--epochs", "1", "--callback", "slowest-step", site=site.path)
    assert re.search(r"slowest: step \d+, \d\.\d{3} s", done.stderr), done.stderr
    assert (done.returncode, "slowest" in done.stdout) == (0, False)
    done = ptb("labels", "--metric", "accuracy", "--metric", "top-k", "--json", site=site.path)
    assert done.stdout == '["accuracy", "top-k"]\n', done.stderr


def test_every_minimum_is_told():
    assert rows("How many checks must run") == [(kind, str(minimum(kind)), str(len(checks_of(kind)))) for kind in KITS]


def forms():
    """The file of the page's examples of forms, its commands, and the lines that its table counts for each example."""
    section = WRITE.read_text(encoding="utf-8").split("\n## Forms of data\n")[1].split("\n## ")[0]
    source = "\n\n".join(re.findall(r"^<!-- executed: forms -->\n```python\n(.*?)^```$", section, re.S | re.M))
    commands = "".join(re.findall(r"^```sh\n(.*?)^```$", section, re.S | re.M)).splitlines()
    table = section.split("\n### ")[0]
    return source, commands, {name: int(lines) for name, lines in re.findall(r"`(\w+)` (\d+)", table)}


def own_lines(source, definition):
    """How many lines a function or class has, without empty ones and docstrings of one line."""
    lines = source.splitlines()[definition.lineno - 1 : definition.end_lineno]
    return sum(bool(line.strip()) and not line.strip().startswith('"""') for line in lines)


def write_shards(folder):
    folder.mkdir()
    for shard in range(4):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for number in range(30):
                inputs = torch.randn(4, generator=torch.Generator().manual_seed(30 * shard + number))
                array = io.BytesIO()
                np.save(array, inputs.numpy())
                files = {"npy": array.getvalue(), "cls": str(int(inputs[:3].argmax())).encode()}
                for ending, data in files.items():
                    member = tarfile.TarInfo(f"{number:06}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def test_the_table_counts_the_lines_of_the_examples_of_forms():
    source, _, counted = forms()
    definitions = {node.name: node for node in ast.parse(source).body if hasattr(node, "name")}
    assert counted == {name: own_lines(source, definitions[name]) for name in counted}
    assert len(counted) > 10


def each_form():
    """Each command of the page, and whether its run is stopped and resumed as well."""
    for command in forms()[1]:
        name = command.partition(" run ")[2]
        resumed = any(word in name for word in ("picture-and-row", "shards", "arcface", "sam"))
        yield pytest.param(command, resumed, id=name)
        if not resumed:
            yield pytest.param(command, True, id=f"{name} resumed", marks=pytest.mark.matrix)


@pytest.mark.parametrize(("command", "resumed"), [*each_form()])
def test_each_form_trains_and_resumes_to_the_same_bits(tmp_path, shell, command, resumed):
    (tmp_path / "forms.py").write_text(forms()[0])
    write_shards(tmp_path / "shards")
    command += " --epochs 2"
    whole, part = (f"{command} --output {name}" for name in ("whole", "part"))
    for each in (whole, *((f"{part} --stop-after 5", "ptb -p ./forms.py resume part") if resumed else ())):
        done = shell(each)
        assert done.returncode == 0, f"{each}\n{done.stdout}{done.stderr}"
    if resumed:
        summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "part")]
        assert summaries[0]["weights_sha256"] == summaries[1]["weights_sha256"]
        assert summaries[0]["metrics"] == summaries[1]["metrics"]
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["values"]["loss"] for row in rows if row["split"] == "train"]
    assert losses[-1] < losses[0]
