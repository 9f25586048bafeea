"""What a component of any kind owes. A command owes the first of these checks too."""

import inspect
import sys
import tomllib
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from importlib.metadata import packages_distributions
from typing import Any, NamedTuple

import tomlkit
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from ptb import ConfigError, PluginError, PtbError
from ptb.internals import (
    KINDS,
    SHARED_SECTIONS,
    count,
    derive_model,
    listing,
    normalize,
    one_line,
    plain_values,
    seed_global,
    validate,
)
from ptb_testing.case import Case, Check
from ptb_testing.checks.support import on
from ptb_testing.imports import changes_of_importing, registered_elsewhere
from ptb_testing.outcome import CheckFailed, Noted, Skipped
from ptb_testing.process import Snapshot, differing, guarded


def registration_is_light(case: Case) -> str:
    """The entry point, its hooks and the settings model import no torch, NumPy, cv2, pandas or scikit-learn."""
    if case.found.source is not None:
        return "a plugin file is run by the commands that name it only, and may import what it likes"
    answer, settings = _registered_elsewhere(case), _module(getattr(case.record, "settings", None) or "")
    if "reason" in answer:
        raise CheckFailed(f"in a fresh process it cannot be loaded: {answer['reason']}")
    imported = {f"registering {case.found.entry_points[0].value}": answer["registration"]}
    imported[f"importing {settings}"] = answer["settings"].get(settings)
    for what, heavy in imported.items():
        if heavy:
            raise Noted(
                f"{what} imports {listing(heavy)}, which every `ptb` command then waits for; import it in the module "
                "that the component names as its target"
            )
    return f"in {1000 * answer['seconds']:.0f} ms"


def importing_changes_nothing(case: Case) -> None:
    """Importing the plugin's modules uses no random numbers, and leaves what the process shares as it is."""
    points = listing(sorted(point.value for point in case.found.entry_points))
    changed = {points: _registered_elsewhere(case).get("changes", [])}
    for reference in (case.record.target if _is_own(case) else "", getattr(case.record, "settings", None) or ""):
        if reference:
            changed[_module(reference)] = changes_of_importing(_module(reference))
    for module, changes in changed.items():
        if changes:
            raise CheckFailed(
                f"importing {module} changes {changes[0]}, for the whole process: do it in the function or class that "
                "needs it, and put it back"
            )


def has_a_summary(case: Case) -> None:
    """It says in one line what it is for, as `ptb list` or `ptb --help` shows it."""
    if not case.record.summary.strip():
        raise CheckFailed("it has no summary: `ptb list` and `ptb --help` show one line about it")


def target_can_be_imported(case: Case) -> None:
    """The target is there, and can be called."""
    try:
        _ = case.target
    except PluginError as error:
        raise CheckFailed(str(error)) from error.__cause__


def settings_can_be_read(case: Case) -> None:
    """The settings make a pydantic model with a JSON Schema, and none has a name that the core keeps for itself."""
    try:
        case.model.model_json_schema()
        for field in case.model.model_fields.values():
            if not field.default_factory_takes_validated_data:
                field.get_default(call_default_factory=True)
    except PluginError as error:
        raise CheckFailed(str(error)) from error.__cause__
    except Exception as error:
        raise CheckFailed(f"`ptb show` cannot print the settings: {one_line(error)}") from error
    shared = SHARED_SECTIONS[case.kind].model_fields if case.kind in SHARED_SECTIONS else ()
    if kept := sorted(set(case.model.model_fields) & set(shared)):
        raise CheckFailed(f"a setting of an {case.kind} cannot be called {listing(kept)}: rename it")


def settings_agree_with_target(case: Case) -> str | None:
    """Settings model and target have the same names, and the same defaults where both state one."""
    parameters = _parameters(case)
    if case.component.component.settings is None or parameters is None:
        return "the settings are read from the target"
    fields = case.model.model_fields
    for name, parameter in parameters.items():
        if name not in fields and parameter.default is parameter.empty:
            raise CheckFailed(f"the target's parameter '{name}' has no default, and is no setting: add it to the model")
    if _is_own(case):  # a library's target may have more options than are worth showing
        settable = derive_model(case.kind, f"'{case.entry.id}'", case.target).model_fields
        left_out = [name for name in settable if name in parameters and name not in fields]
        if left_out:
            raise CheckFailed(
                f"the target's {listing(left_out)} cannot be set: add to the settings model, or remove it"
            )
    for name, field in fields.items():
        if name not in parameters or parameters[name].default is inspect.Parameter.empty:
            continue
        stated = parameters[name].default
        ours = "required" if field.is_required() else field.get_default(call_default_factory=True)
        if _plain(stated) != _plain(ours):
            raise CheckFailed(f"the default of '{name}' is {ours!r} in the settings model and {stated!r} in the target")
    return None


def settings_are_described(case: Case) -> None:
    """Every setting has a description, as `ptb show` prints it; a note where one has none."""
    if case.component.component.settings is None and not _is_own(case):
        raise Skipped(f"they are read from {case.record.target}, which this plugin did not write")
    bare = [name for name, field in case.model.model_fields.items() if not (field.description or "").strip()]
    if bare:
        raise Noted(
            f"{listing(bare)} has no description: write Field(..., description=...), in the settings model or as "
            "Annotated[TYPE, Field(...)] in the signature"
        )


def settings_survive_a_config_file(case: Case) -> None:
    """The defaults are valid, and the same once they were written to a config file and read again."""
    settings = case.settings
    try:
        text = tomlkit.dumps({"settings": plain_values(settings)})
        again = validate(case.model, tomllib.loads(text)["settings"])
    except ConfigError as error:
        raise CheckFailed(f"its own settings are refused when they are read from a file: {error}") from error
    except Exception as error:
        raise CheckFailed(f"the settings cannot be written to a config file: {one_line(error)}") from error
    if again != settings:
        raise CheckFailed(f"{settings!r} was written to a config file and read again as {again!r}")


def fits_a_run(case: Case) -> str | None:
    """Small runs with it are composed, checked, trained to their end and evaluated, by the code of `ptb run`."""
    case.tried = []
    refused: dict[str, PtbError] = {}
    for trial in case.kit.trials(case):
        with on(trial.what):
            try:
                trial.end = trial.run()
            except PtbError as error:  # as `ptb run` would end
                refused[trial.what] = error
                continue
        case.tried.append(trial)
    case.kit.check_tried(case)
    for what, refusal in refused.items():
        cause = refusal.__cause__ or refusal
        if case.specs:
            raise CheckFailed(f"it refuses a spec that was given for it; on {what} it says: {refusal}") from cause
        if not case.tried:
            several = "everything that it was tried on; on " if len(refused) > 1 else ""
            raise CheckFailed(f"a run refuses {several}{what}: {refusal}") from cause
        if not isinstance(cause, ValueError) or not str(cause).strip():
            advice = "for what does not fit, raise a ValueError with a text where it is built"
            raise Noted(f"{what}: {refusal}; {advice}") from cause
    if warned := [f"{trial.what}: {text}" for trial in case.tried for text in trial.warned]:
        raise Noted(warned[0])
    return f"{count(len(case.tried), 'run')}, such as {case.tried[0].what}"


def resumes_exactly(case: Case) -> None:
    """Stopped, saved, built anew and loaded, a run ends with the weights and figures of one that was not stopped."""
    for trial in case.tried:
        with on(trial.what):
            lost = {section: text for section, text in trial.lost.items() if section not in _observers(case)}
            if lost:
                text = lost.get(trial.section) or next(iter(lost.values()))
                raise CheckFailed(
                    f"{text}: keep it in state_dict(), in buffers of a module, or in plain attributes of an object "
                    "that has no state_dict()"
                )
            for stop in trial.stops:
                if changed := differing(trial.end, trial.run(stop)):
                    if differing(trial.end, trial.run()):
                        raise CheckFailed(
                            f"with the same seed, a run ends with other {' and '.join(changed)} each time: draw from "
                            "torch's, NumPy's or Python's generators alone, and from none that seeds itself"
                        )
                    raise CheckFailed(
                        f"stopped after step {stop} and resumed, the run ends with other {' and '.join(changed)}: keep "
                        "in state_dict(), or in plain attributes, what it needs to go on"
                    )
    trial = case.tried[0]
    if elsewhere := trial.lost.get(trial.section) or trial.lost_with_another_seed():
        raise Noted(f"loaded into a run that was built with another seed, {elsewhere}")


def random_state_is_left_alone(case: Case) -> None:
    """It never seeds the global generators, and only models, initializers and actors draw from them."""
    uses = observed(case)[-2:]  # a first use may import a library that draws while it is imported
    for use in uses:
        moved = use.before.moved_generators(use.after)
        if moved and not case.kit.may_draw:
            raise CheckFailed(
                f"it draws from, or seeds, the global generator of {listing(moved)}: it, or what comes after it, then "
                "depends on the seed of the run; make a torch.Generator of its own"
            )
    moved = uses[0].after.moved_generators(uses[1].after)
    if seeded := [name for name in uses[0].after.generators if name not in moved]:
        raise CheckFailed(
            f"it seeds the global generator of {listing(seeded)}: whatever the run's seed, all that comes after is the "
            "same; draw without seeding, or make a torch.Generator of its own"
        )


def switches_are_left_alone(case: Case) -> None:
    """It leaves what the process shares as it is: torch's modes, environment, folder, signals, streams, threads."""
    for use in observed(case)[-2:]:  # a first use may import a library that sets its own variables
        for changed in use.before.changed_switches(use.after).values():
            raise CheckFailed(f"it changes {changed}, for the whole process: put it back, or leave it")


OF_ANY_RECORD: tuple[Check, ...] = (
    registration_is_light,
    importing_changes_nothing,
    has_a_summary,
    target_can_be_imported,
)
CHECKS: tuple[Check, ...] = (
    *OF_ANY_RECORD,
    settings_can_be_read,
    settings_agree_with_target,
    settings_are_described,
    settings_survive_a_config_file,
    fits_a_run,
    resumes_exactly,
    random_state_is_left_alone,
    switches_are_left_alone,
)
# Without these, what comes after them could only fail for the same reason, even if their failure is expected.
GATES: tuple[Check, ...] = (
    target_can_be_imported,
    settings_can_be_read,
    fits_a_run,
)
OPTIONAL: tuple[Check, ...] = (settings_are_described,)
# What breaks no run is worth knowing, and no failure.
NOTES: tuple[Check, ...] = (
    importing_changes_nothing,
    has_a_summary,
    settings_agree_with_target,
    random_state_is_left_alone,
    switches_are_left_alone,
)


class Use(NamedTuple):
    """One building and use of a component, and the process before and after it."""

    outcome: Any
    before: Snapshot
    after: Snapshot


def observed(case: Case) -> list[Use]:
    """Uses of a component, the last one with another seed; one more before them where no run was one already."""
    if case.observed is None:
        uses = []
        for seed in (1, 1, 2) if case.kit.use else (1, 2):
            with guarded():
                seed_global(seed, "conformance")
                before = Snapshot.take()
                uses.append(Use((case.kit.use or _one_run)(case), before, Snapshot.take()))
        case.observed = uses
    return case.observed  # type: ignore[no-any-return]


def _one_run(case: Case) -> None:
    trial = case.tried[0]
    with closing(trial.compose()) as composed:
        trial.fit(composed.trainer)


def _observers(case: Case) -> list[str]:
    """The sections of what the core lets lose its state: an observer changes no training."""
    is_observer = case.kind == "callback" and case.component.component.role != "actor"
    return [case.tried[0].section] if is_observer else []


def _registered_elsewhere(case: Case) -> dict[str, Any]:
    points = tuple((point.name, point.value) for point in case.found.entry_points)
    return registered_elsewhere(points, tuple(sys.path))


def _parameters(case: Case) -> dict[str, inspect.Parameter] | None:
    """The target's parameters that settings may fill, by name; None where Python cannot tell."""
    try:
        parameters = list(inspect.signature(case.target).parameters.values())
    except (TypeError, ValueError):  # some classes written in C
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p for p in parameters[len(KINDS[case.kind].runtime) :] if p.kind in named}


def _is_own(case: Case) -> bool:
    """Whether no other distribution brought the target's package."""
    owners = {normalize(name) for name in _owners().get(_package(case), ())}
    return not owners or case.found.name in owners


@cache
def _owners() -> Mapping[str, list[str]]:
    return packages_distributions()  # reads the metadata of all that is installed


def _package(case: Case) -> str:
    return _module(case.record.target).partition(".")[0]


def _module(reference: str) -> str:
    return reference.partition(":")[0]


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else to_jsonable_python(value, fallback=repr)
