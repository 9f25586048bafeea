"""The conformance kit: which checks there are for which kind, and how one is run."""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from traceback import extract_tb
from types import TracebackType
from typing import Any

from ptb import DataSpec, UnknownNameError
from ptb.internals import cpu_threads, did_you_mean, listing, one_line, seed_global
from ptb_testing.case import Case, Check, Kit, name_of, summary_of
from ptb_testing.checks import (
    callback,
    command,
    common,
    dataset,
    initializer,
    loss,
    metric,
    model,
    optimizer,
    plot,
    scheduler,
)
from ptb_testing.given import Given
from ptb_testing.outcome import CheckFailed, Noted, Result, Skipped, Status
from ptb_testing.process import guarded
from ptb_testing.report import ComponentReport, Report
from ptb_testing.subject import Entry, Subject, kind_of, label_of, subject_of

KITS: dict[str, Kit] = {
    "dataset": dataset.KIT,
    "model": model.KIT,
    "initializer": initializer.KIT,
    "loss": loss.KIT,
    "optimizer": optimizer.KIT,
    "scheduler": scheduler.KIT,
    "metric": metric.KIT,
    "callback": callback.KIT,
    "plot": plot.KIT,
    "command": command.KIT,
}
NOT_RUN = "not run:"


def checks_of(kind: str) -> tuple[Check, ...]:
    """The checks for one kind, in the order in which they run."""
    return KITS[kind].checks


def minimum(kind: str) -> int:
    """How many checks must run: all but those that a component in good order may skip."""
    optional = (*common.OPTIONAL, *KITS[kind].optional)
    return sum(check not in optional for check in checks_of(kind))


def summaries() -> dict[str, dict[str, str]]:
    """What each check of each kind shows, by its name; under ``""`` those that all kinds of components share."""
    shared = {name_of(check): summary_of(check) for check in common.CHECKS}
    return {"": shared} | {
        kind: {name_of(check): summary_of(check) for check in kit.checks if check not in common.CHECKS}
        for kind, kit in KITS.items()
    }


def cases_of(subject: Subject) -> list[Case]:
    """One case for each component.

    Raises:
        UnknownNameError: a failure is expected of a check that there is not.
    """
    given = subject.given
    expected: dict[str, dict[str, str]] = {}
    kinds = {label_of(entry): kind_of(entry) for entry in subject.entries}
    for key, reason in given.expected_failures.items():
        label, _, check = key.rpartition("/")
        names = [name_of(check) for check in checks_of(kinds[label])]
        if check not in names:
            raise UnknownNameError(f"'{key}' is no check{did_you_mean(check, names)}; {label} has {listing(names, 40)}")
        expected.setdefault(label, {})[check] = reason
    return [_case(entry, given, expected) for entry in subject.entries]


def run_check(case: Case, check: Check) -> Result:
    """Runs one check, once, behind the gates that stand before it; whatever a component raises becomes its result."""
    name = name_of(check)
    if name not in case.results:
        case.results[name] = _behind_gates(case, check)
    return case.results[name]


def report_of(case: Case) -> ComponentReport:
    """Runs what has not been run yet, and lets go of what was built."""
    results = tuple(run_check(case, check) for check in case.kit.checks)
    case.observed, case.tried = None, []
    return ComponentReport(case.kind, case.record.name, case.entry.id, minimum(case.kind), results)


def check_plugin(
    plugin: str | Path | Iterable[Entry],
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    specs: Mapping[str, Sequence[DataSpec]] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Report:
    """Runs the conformance kit on every component of a plugin.

    Args:
        plugin: the name of an installed distribution; a source folder with a ``pyproject.toml``, whose modules can be
            imported, and whose ``[tool.ptb.check]`` counts; or entries of a registry.
        settings: those a component is built from in place of its defaults, by ``"KIND/NAME"``.
        specs: those a model, loss or metric is tried on in place of the kit's, by ``"KIND/NAME"``.
        expected_failures: why a check is known to fail, by ``"KIND/NAME/CHECK"``; it must not pass.

    Raises:
        ConfigError: there is no such plugin, component or check.
        PluginError: the plugin cannot be loaded.
    """
    subject = subject_of(plugin).with_given(Given(settings or {}, specs or {}, expected_failures or {}))
    return Report(subject.label, tuple(map(report_of, cases_of(subject))))


def _case(entry: Entry, given: Given, expected: dict[str, dict[str, str]]) -> Case:
    label = label_of(entry)
    settings, specs = given.settings.get(label, {}), given.specs.get(label, ())
    return Case(entry, KITS[kind_of(entry)], settings, specs, expected.get(label, {}), given.folder)


def _behind_gates(case: Case, check: Check) -> Result:
    name = name_of(check)
    for earlier in case.kit.checks:
        if earlier is check:
            break
        if earlier in common.GATES + case.kit.gates:
            gate = run_check(case, earlier)
            tolerated = {"expected failure": case.kit.gates, "skipped": case.kit.optional}.get(gate.status, ())
            if gate.status not in ("passed", "note") and earlier not in tolerated:
                return Result(name, "skipped", _not_run(gate))
    reason = case.expected.get(name)
    try:
        with guarded(), cpu_threads(1), contextlib.chdir(case.folder or "."):
            seed_global(0, "conformance")
            remark = check(case) or ""
    except Skipped as error:
        return Result(name, "skipped", str(error), error)
    except Noted as error:
        return Result(name, "note" if reason is None else "expected failure", _explained(str(error), reason), error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a component may raise anything, or call sys.exit()
        message = str(error) if isinstance(error, CheckFailed) else f"it raised {one_line(error)}"
        message += _place(case, error)
        failed: Status = "note" if check in (*common.NOTES, *case.kit.notes) else "failed"
        return Result(name, failed if reason is None else "expected failure", _explained(message, reason), error)
    if reason is not None:
        return Result(name, "failed", f"expected to fail ({reason}), and it passed: expect it no longer")
    return Result(name, "passed", remark)


def _not_run(gate: Result) -> str:
    """The reason of a check behind a gate; that of the first one that did not pass."""
    return gate.message if gate.message.startswith(NOT_RUN) else f"{NOT_RUN} {gate.check} did not pass"


def _explained(message: str, reason: str | None) -> str:
    return message if reason is None else f"{reason}: {message}"


def _place(case: Case, error: BaseException) -> str:
    """Where in the plugin's own code an exception came from, if it did."""
    package = case.record.target.partition(":")[0].partition(".")[0]
    folder = getattr(sys.modules.get(package), "__file__", None)
    cause: BaseException | None = error
    while isinstance(cause, CheckFailed):
        cause = cause.__cause__
    if cause is None or folder is None:
        return ""
    own = [frame for frame in _frames(cause.__traceback__) if Path(frame[0]).is_relative_to(Path(folder).parent)]
    return f" ({Path(own[-1][0]).name}, line {own[-1][1]})" if own else ""


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, int]]:
    for frame in extract_tb(traceback):
        yield frame.filename, frame.lineno or 0
