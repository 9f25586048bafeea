"""What a component of any kind owes."""

import importlib
import inspect
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from ptb.config.sections import SHARED_SECTIONS
from ptb.errors import PluginError, listing, one_line
from ptb.kinds import KINDS
from ptb.registry.discovery import LoadedPlugin, load_plugin, normalize
from ptb.registry.settings import SettingsError, derive_model, describe, plain_values, validate
from ptb.seeding import seed_global
from ptb_testing.case import Case, Check
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.state import changes, differences, generators, guarded, identical, switches
from ptb_testing.subject import Folder

HEAVY = ("torch", "numpy", "cv2", "pandas", "sklearn")
SUMMARY_LENGTH = 120
TWICE = """
import json, os, sys
sys.path[:], points, packages = json.loads(sys.stdin.read())
from ptb_testing.checks.common import imported_twice
print(json.dumps(imported_twice(points, packages)), file=sys.__stdout__, flush=True)
os._exit(0)  # a plugin may have left a thread that never ends
"""
PROBE = """
import importlib, json, os, sys, time
sys.path[:], heavy, points, settings = json.loads(sys.stdin.read())
import pydantic
from pathlib import Path
from ptb.registry.discovery import LoadedPlugin, load_plugin
from ptb_testing.subject import Folder
found = Folder("plugin", "0", points, Path()).found()
began = time.perf_counter()
loaded = load_plugin(found)
answer = {"seconds": time.perf_counter() - began, "registration": [name for name in heavy if name in sys.modules]}
if not isinstance(loaded, LoadedPlugin):
    answer["reason"] = loaded.reason
elif settings:
    importlib.import_module(settings)
    answer["settings"] = [name for name in heavy if name in sys.modules]
print(json.dumps(answer), file=sys.__stdout__, flush=True)
os._exit(0)  # a plugin may have left a thread that never ends
"""


def registration_is_light(case: Case) -> str:
    """The entry point, its hooks and the settings model import no torch, NumPy, cv2, pandas or scikit-learn."""
    points = tuple((point.name, point.value) for point in case.entry.found.entry_points)
    settings = (case.entry.component.settings or "").partition(":")[0]
    answer = _registered_elsewhere(points, settings, tuple(sys.path))
    if "reason" in answer:
        raise CheckFailed(f"in a fresh process it cannot be loaded: {answer['reason']}")
    for stage, what in (("registration", f"registering {points[0][1]}"), ("settings", f"importing {settings}")):
        if answer.get(stage):
            raise CheckFailed(
                f"{what} imports {listing(answer[stage])}, which every `ptb` command then waits for; import it in the "
                "module that the component names as its target"
            )
    return f"in {1000 * answer['seconds']:.0f} ms"


def importing_changes_nothing(case: Case) -> None:
    """Importing the plugin's modules draws nothing, and leaves what the process shares as it is."""
    points = {point.name: point.value for point in case.entry.found.entry_points}
    packages = {value.partition(":")[0].partition(".")[0] for value in points.values()}
    if _is_own(case):
        packages.add(case.entry.target.partition(":")[0].partition(".")[0])
    told = _imported_elsewhere(tuple(points.items()), tuple(sorted(packages)), tuple(sys.path))
    modules = {case.entry.target, case.entry.component.settings or ""}
    for module in ("", *(name.partition(":")[0] for name in modules)):
        if changed := told.get(module):
            what = f"importing {module or listing(sorted(points.values()))}"
            raise CheckFailed(
                f"{what} changes {changed[0]}, for the whole process: do it in the function or class that needs it, "
                "and put it back"
            )


def has_a_summary(case: Case) -> None:
    """The component says in one line what it is for, as `ptb list` shows it."""
    summary = case.entry.summary
    if not summary.strip() or "\n" in summary or len(summary) > SUMMARY_LENGTH:
        raise CheckFailed(f"summary must be one line of up to {SUMMARY_LENGTH} characters, got {summary!r}")


def target_can_be_imported(case: Case) -> None:
    """The target is there, and can be called."""
    try:
        _ = case.target
    except PluginError as error:
        raise CheckFailed(str(error)) from error.__cause__


def settings_can_be_read(case: Case) -> None:
    """The settings make a pydantic model, and none of them has a name that the core keeps for itself."""
    try:
        fields = case.model.model_fields
    except PluginError as error:
        raise CheckFailed(str(error)) from error.__cause__
    if case.entry.kind in SHARED_SECTIONS:
        kept = set(fields) & set(SHARED_SECTIONS[case.entry.kind].model_fields)
        if kept:
            raise CheckFailed(f"a setting of an {case.entry.kind} cannot be called {listing(sorted(kept))}: rename it")


def target_takes_the_call(case: Case) -> None:
    """The target takes the core's arguments by position and every setting by keyword."""
    parameters = _parameters(case)
    if parameters is None:
        return
    runtime = [object() for _ in KINDS[case.entry.kind].runtime]
    signature = inspect.signature(case.target)
    try:
        signature.bind(*runtime, **dict.fromkeys(case.model.model_fields))
    except TypeError as error:
        raise CheckFailed(
            f"the core calls it with {len(runtime)} argument{'s' * (len(runtime) != 1)} by position and with "
            f"{listing([f'{name}=' for name in case.model.model_fields]) or 'no settings'}, which "
            f"{case.entry.target}{signature} does not take: {error}"
        ) from error


def settings_agree_with_target(case: Case) -> str | None:
    """Settings model and target have the same names, and the same defaults where both state one."""
    parameters = _parameters(case)
    if case.entry.component.settings is None or parameters is None:
        return "the settings are read from the target"
    fields = case.model.model_fields
    for name, parameter in parameters.items():
        if name not in fields and parameter.default is parameter.empty:
            raise CheckFailed(f"the target's parameter '{name}' has no default, and is no setting: add it to the model")
    if _is_own(case):  # a library's target may have more options than are worth showing
        settable = derive_model(case.entry.kind, f"'{case.entry.id}'", case.target).model_fields
        left_out = [name for name in settable if name not in fields]
        if left_out:
            raise CheckFailed(
                f"the target's {listing(left_out)} cannot be set: add to the settings model, or remove it"
            )
    for name, field in fields.items():
        if name not in parameters or parameters[name].default is inspect.Parameter.empty:
            continue
        stated = parameters[name].default
        ours = "required" if field.is_required() else field.get_default(call_default_factory=True)
        if not _same_default(stated, ours):
            raise CheckFailed(f"the default of '{name}' is {ours!r} in the settings model and {stated!r} in the target")
    return None


def settings_are_described(case: Case) -> None:
    """Every setting has a description, as `ptb show` prints it."""
    if case.entry.component.settings is None and not _is_own(case):
        raise Skipped(f"they are read from {case.entry.target}, which this plugin did not write")
    bare = [name for name, field in case.model.model_fields.items() if not (field.description or "").strip()]
    if bare:
        raise CheckFailed(
            f"{listing(bare)} has no description: write Field(..., description=...), in the settings model or as "
            "Annotated[TYPE, Field(...)] in the signature"
        )


def schema_is_json(case: Case) -> None:
    """The settings have a JSON Schema and a table, as `ptb show` prints them."""
    try:
        schema = case.model.model_json_schema()
        describe(case.model)
        read = json.loads(json.dumps(schema, allow_nan=False))
    except Exception as error:
        raise CheckFailed(f"the settings have no JSON Schema: {one_line(error)}") from error
    if read != schema:
        raise CheckFailed("the JSON Schema of the settings is another one after it was written and read")


def settings_survive_a_config_file(case: Case) -> None:
    """The defaults are valid, and the same once they were written to a config file and read again."""
    settings = case.settings
    try:
        text = tomlkit.dumps({"settings": plain_values(settings)})
        again = validate(case.model, tomllib.loads(text)["settings"])
    except SettingsError as error:
        raise CheckFailed(f"its own settings are refused when they are read from a file: {error}") from error
    except Exception as error:
        raise CheckFailed(f"the settings cannot be written to a config file: {one_line(error)}") from error
    if again != settings:
        raise CheckFailed(f"{settings!r} was written to a config file and read again as {again!r}")


def builds_from_its_settings(case: Case) -> None:
    """It is built from its defaults or the settings given for it, and is what the core needs."""
    case.built = case.kit.build(case)


@dataclass(frozen=True)
class Observation:
    """One building and use of a component, and the state of the process around it."""

    outcome: Any
    generators: tuple[dict[str, Any], dict[str, Any]]
    switches: tuple[dict[str, Any], dict[str, Any]]


def can_be_used(case: Case) -> None:
    """Building it and using it once raises nothing."""
    observations = []
    for seed in (1, 1, 2):
        with guarded():
            seed_global(seed, "conformance")
            before = generators(), switches()
            outcome = case.kit.use(case)
            after = generators(), switches()
            observations.append(Observation(outcome, (before[0], after[0]), (before[1], after[1])))
    case.observed = tuple(observations)


def same_seed_same_result(case: Case) -> None:
    """With the same seed it gives the same result, to the last bit."""
    first, again, _ = case.observed
    if not identical(first.outcome, again.outcome):
        raise CheckFailed(
            f"two uses with the same seed differ{_where(first.outcome, again.outcome)}: draw from torch's, NumPy's or "
            "Python's generators alone, and from none that seeds itself"
        )


def random_state_is_left_alone(case: Case) -> None:
    """It never seeds the global generators, and only models and initializers draw from them."""
    _, *observed = case.observed  # the first use may import a library that draws while it is imported
    for seen in observed:
        moved = differences(*seen.generators)
        if moved and not case.kit.may_draw:
            raise CheckFailed(
                f"it draws from, or seeds, the global generator of {listing(moved)}: it, or what comes after it, then "
                "depends on the seed of the run; make a torch.Generator of its own"
            )
    ends = [seen.generators[1] for seen in observed]
    seeded = [name for name in ends[0] if identical(ends[0][name], ends[1][name])]
    if seeded:
        raise CheckFailed(
            f"it seeds the global generator of {listing(seeded)}: whatever the run's seed, all that comes after is the "
            "same; draw without seeding, or make a torch.Generator of its own"
        )


def switches_are_left_alone(case: Case) -> None:
    """It leaves what the process shares as it is: torch's modes, environment, folder, signals, streams, threads."""
    for seen in case.observed[1:]:  # the first use may import a library that sets its own variables
        if changed := changes(*seen.switches):
            raise CheckFailed(f"it changes {changed[0]}, for the whole process: put it back, or leave it")


# Without these, what comes after them could only fail for the same reason.
GATES: tuple[Check, ...] = (
    target_can_be_imported,
    settings_can_be_read,
    target_takes_the_call,
    builds_from_its_settings,
    can_be_used,
)
CHECKS: tuple[Check, ...] = (
    registration_is_light,
    importing_changes_nothing,
    has_a_summary,
    target_can_be_imported,
    settings_can_be_read,
    target_takes_the_call,
    settings_agree_with_target,
    settings_are_described,
    schema_is_json,
    settings_survive_a_config_file,
    builds_from_its_settings,
    can_be_used,
    same_seed_same_result,
    random_state_is_left_alone,
    switches_are_left_alone,
)
OPTIONAL: tuple[Check, ...] = (settings_are_described,)


def imported_twice(points: Mapping[str, str], packages: Sequence[str]) -> dict[str, list[str]]:
    """What importing the modules of a plugin changes in this process, in words, by the module; by ``""`` registering.

    The modules of its packages are imported, forgotten, and imported again, which is what counts: what the libraries
    under them do when they are first imported is none of the plugin's doing. It is for a process that ends after it.
    """
    _imported(points, packages)
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]
    return _imported(points, packages)


def _imported(points: Mapping[str, str], packages: Sequence[str]) -> dict[str, list[str]]:
    found = Folder("plugin", "0", points, Path()).found()
    loaded, registering = _observed(load_plugin, found)
    records = loaded.components if isinstance(loaded, LoadedPlugin) else ()
    references = [reference for _, each in records for reference in (each.target, each.settings or "")]
    modules = sorted({reference.partition(":")[0] for reference in references})
    own = [module for module in modules if module.partition(".")[0] in packages]
    return {"": registering} | {module: _observed(importlib.import_module, module)[1] for module in own}


def _observed(action: Callable[[Any], Any], argument: Any) -> tuple[Any, list[str]]:
    """What it gives, None where it raises, and what it changes."""
    result = None
    with guarded():
        before = switches(), generators()
        with suppress(BaseException):  # other checks tell why it cannot be imported
            result = action(argument)
        drawn = [f"the global generator of {name}" for name in differences(before[1], generators())]
        return result, changes(before[0], switches()) + drawn


@cache
def _imported_elsewhere(
    points: tuple[tuple[str, str], ...], packages: tuple[str, ...], path: tuple[str, ...]
) -> dict[str, list[str]]:
    """What a fresh process tells of importing the plugin twice; nothing where it does not get to the end."""
    answer = _asked(TWICE, [path, dict(points), packages])
    return {} if "reason" in answer else answer


@cache
def _registered_elsewhere(points: tuple[tuple[str, str], ...], settings: str, path: tuple[str, ...]) -> dict[str, Any]:
    """What a fresh process tells of loading the plugin."""
    return _asked(PROBE, [path, HEAVY, dict(points), settings])


def _asked(code: str, question: list[Any]) -> dict[str, Any]:
    """What a fresh process says last, or the reason why it does not."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=json.dumps(question), capture_output=True, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"reason": f"the process ended with {done.returncode}: {' '.join(done.stderr.split())[-300:]}"}
    return answer


def _parameters(case: Case) -> dict[str, inspect.Parameter] | None:
    """The target's parameters that settings may fill, by name; None where Python cannot tell."""
    try:
        parameters = list(inspect.signature(case.target).parameters.values())
    except (TypeError, ValueError):  # some classes written in C
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p for p in parameters[len(KINDS[case.entry.kind].runtime) :] if p.kind in named}


def _is_own(case: Case) -> bool:
    """Whether no other distribution brought the target's package."""
    package = case.entry.target.partition(":")[0].partition(".")[0]
    owners = {normalize(name) for name in _owners().get(package, ())}
    return not owners or case.entry.plugin in owners


@cache
def _owners() -> Mapping[str, list[str]]:
    return packages_distributions()  # reads the metadata of all that is installed


def _same_default(one: Any, other: Any) -> bool:
    plain = [
        value.model_dump(mode="json") if isinstance(value, BaseModel) else to_jsonable_python(value, fallback=repr)
        for value in (one, other)
    ]
    return bool(plain[0] == plain[1])


def _where(one: Any, other: Any) -> str:
    """At which keys two outcomes differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping) and list(one) == list(other):
        return f" in {listing(differences(one, other), 5)}"
    return ""
