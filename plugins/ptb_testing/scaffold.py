"""Writes a new plugin package: one component that works, and the tests that its kind owes."""

import keyword
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from ptb.errors import ConfigError, StorageError
from ptb.kinds import KINDS
from ptb.registry.discovery import BUILT_IN, normalize, own_version

# A distribution's name after PEP 508.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class Sample:
    """What the component of a template is.

    Args:
        summary: of the component.
        function: whether its target is a function, not a class.
        accepts: the target kind that it takes, if it takes one alone.
        command: the flags by which a run uses it.
    """

    summary: str
    function: bool = False
    accepts: str = ""
    command: str = ""


SAMPLES = {
    "dataset": Sample("Points on rings in the plane", function=True, command="--model mlp --dataset {}"),
    "model": Sample("One hidden layer, for pictures and vectors", command="--model {}"),
    "initializer": Sample(
        "Normal, with the variance of 1 / inputs of a unit", function=True, command="--model lenet --init {}"
    ),
    "loss": Sample(
        "Cross-entropy that looks away from easy samples", accepts="class", command="--model lenet --loss {}"
    ),
    "optimizer": Sample("Steps along the sign of the mean gradient", command="--model lenet --optimizer {}"),
    "scheduler": Sample(
        "Falls to 0 along a power of the time left", function=True, command="--model lenet --scheduler {}"
    ),
    "metric": Sample("Mean of 1 / rank of the true class", accepts="class", command="--model lenet --metric {}"),
}
COMMON = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "tests/test_contract.py": "test_contract.py",
}


def write_plugin(name: str, kind: str, parent: Path) -> tuple[Path, str]:
    """Writes the package into ``parent / name``.

    Args:
        name: of the distribution, such as ``"ptb-acme"``.
        kind: of its component.
        parent: the folder that gets a new one.

    Returns:
        That folder, and the command that uses the component.

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
    return folder, words["first_command"]


def _texts(kind: str, words: dict[str, str]) -> Iterator[tuple[str, str]]:
    package, module = words["package"], words["module"]
    named = COMMON | {f"{package}/__init__.py": "__init__.py", f"{package}/{module}.py": f"{kind}.py"}
    for file, template in named.items():
        text = files("ptb_testing").joinpath("templates", f"{template}.txt").read_text(encoding="utf-8")
        yield file, Template(text).substitute(words)


def _words(name: str, kind: str) -> dict[str, str]:
    """What the templates leave open."""
    package = _package(name)
    short = normalize(name).removeprefix("ptb-")
    component = f"{short}-{kind}"
    # An identifier cannot begin with a digit, as the name of a component can.
    identifier = f"{short if not short[0].isdigit() else normalize(name)}-{kind}".replace("-", "_")
    sample = SAMPLES[kind]
    target = identifier if sample.function else "".join(part.capitalize() for part in identifier.split("_"))
    return {
        "distribution": name,
        "package": package,
        "module": kind,
        "entry_point": short,
        "component": component,
        "target": target,
        "kind": {"dataset": "data set"}.get(kind, kind),
        "Article": "An" if kind[0] in "aeiou" else "A",
        "hook": KINDS[kind].hook,
        "summary": sample.summary,
        "accepts": f'\n            accepts=("{sample.accepts}",),' if sample.accepts else "",
        "version": own_version().partition("+")[0],  # ">=" takes no local version
        "first_command": f"ptb run {sample.command.format(component)}",
    }


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
