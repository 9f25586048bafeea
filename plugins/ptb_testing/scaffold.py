"""Writes a new plugin package: one component or command that works, and the tests that its kind owes."""

import keyword
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from ptb import ConfigError, StorageError
from ptb.internals import BUILT_IN, KINDS, normalize, own_version

# A distribution's name after PEP 508.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class Sample:
    """What the component of a template is.

    Args:
        summary: of the component.
        first: the command that uses it, with ``{}`` for its name; where it needs another one before, a line each.
        function: whether its target is a function, not a class.
        more: further arguments of its record.
    """

    summary: str
    first: str
    function: bool = False
    more: str = ""


SAMPLES = {
    "dataset": Sample("Points on rings in the plane", "run --model mlp --dataset {}", function=True),
    "model": Sample("One hidden layer, for pictures and vectors", "run --model {}"),
    "initializer": Sample("Normal, with the variance of 1 / inputs of a unit", "run --model lenet --init {}", True),
    "loss": Sample(
        "Cross-entropy that looks away from easy samples", "run --model lenet --loss {}", more='accepts=("class",)'
    ),
    "optimizer": Sample("Steps along the sign of the mean gradient", "run --model lenet --optimizer {}"),
    "scheduler": Sample("Falls to 0 along a power of the time left", "run --model lenet --scheduler {}", True),
    "metric": Sample(
        "Mean of 1 / rank of the true class",
        "run --model lenet --metric {}",
        more='accepts=("class",),\n            better="higher"',
    ),
    "callback": Sample(
        "Keeps all weights within limits after each step", "run --model lenet --callback {}", more='role="actor"'
    ),
    "plot": Sample(
        "The loss of training and validation over the steps",
        "run --model lenet --output runs/mine\nplot {} runs/mine",
        function=True,
        more='needs=("history",),\n            requires=("matplotlib>=3.9",)',
    ),
    "command": Sample("Counts what the options of ptb run set", "{} --model lenet", function=True),
}
COMMON = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "tests/test_contract.py": "test_contract.py",
}


def write_plugin(name: str, kind: str, parent: Path) -> tuple[Path, list[str]]:
    """Writes the package into ``parent / name``.

    Args:
        name: of the distribution, such as ``"ptb-acme"``.
        kind: of its component, or ``"command"``.
        parent: the folder that gets a new one.

    Returns:
        That folder, and the commands that use the component, in their order.

    Raises:
        ConfigError: the name cannot be that of a distribution and of a module, or the folder holds something already.
        StorageError: a file cannot be written.
    """
    words = _words(name, kind)
    folder = parent / name
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already, and is not empty; choose another name, or another place")
    texts = dict(_texts(kind, words))
    try:
        for file, text in texts.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {error.filename}: {error.strerror}") from error
    return folder, first_commands(kind, words["component"])


def _texts(kind: str, words: dict[str, str]) -> Iterator[tuple[str, str]]:
    package, module = words["package"], words["module"]
    named = COMMON | {f"{package}/__init__.py": "__init__.py", f"{package}/{module}.py": f"{kind}.py"}
    for file, template in named.items():
        text = files("ptb_testing").joinpath("templates", f"{template}.txt").read_text(encoding="utf-8")
        yield file, Template(text).substitute(words)


def _words(name: str, kind: str) -> dict[str, str]:
    """What the templates leave open."""
    package = _package(name)
    short = normalize(name).removeprefix("ptb-").removesuffix(f"-{kind}")
    component = f"{short}-{kind}"
    # An identifier cannot begin with a digit, as the name of a component can.
    identifier = f"{short if not short[0].isdigit() else normalize(name)}-{kind}".replace("-", "_")
    sample, is_command = SAMPLES[kind], kind == "command"
    return {
        "distribution": name,
        "package": package,
        "module": kind,
        "entry_point": short,
        "component": component,
        "target": identifier if sample.function else "".join(part.capitalize() for part in identifier.split("_")),
        "kind": {"dataset": "data set"}.get(kind, kind),
        "Article": "An" if kind[0] in "aeiou" else "A",
        "Record": "Command" if is_command else "Component",
        "hook": "ptb_provide_commands" if is_command else KINDS[kind].hook,
        "settings": "options are those of its function"
        if is_command
        else "settings are the keyword parameters of its target",
        "summary": sample.summary,
        "more": f"\n            {sample.more}," if sample.more else "",
        "version": own_version().partition("+")[0],  # ">=" takes no local version
        "first_command": first_commands(kind, component)[-1],
        "first_commands": "\n".join(f"$ {command}" for command in first_commands(kind, component)),
    }


def first_commands(kind: str, component: str) -> list[str]:
    """What to type to use a component of this kind."""
    return [f"ptb {command.format(component)}" for command in SAMPLES[kind].first.splitlines()]


def _package(name: str) -> str:
    """The import package of a distribution of this name."""
    package = normalize(name).replace("-", "_")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"'{name}' cannot name a distribution: it may have letters, digits, '-', '_' and '.', and begins and ends "
            "with a letter or digit; for example ptb-acme"
        )
    if not package.isidentifier() or keyword.iskeyword(package):
        raise ConfigError(f"'{name}' would be imported as '{package}', which is no module name; try ptb-{name}")
    if normalize(name) == BUILT_IN:
        raise ConfigError(f"'{name}' is ptb itself: to install a plugin of that name would replace it; try ptb-acme")
    there = None
    with suppress(ImportError, ValueError):
        there = find_spec(package)
    if there is not None:
        place = there.origin or "Python"
        raise ConfigError(
            f"'{name}' would be imported as '{package}', which is there already ({place}); try another name"
        )
    return package
