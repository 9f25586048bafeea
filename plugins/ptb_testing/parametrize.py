"""The conformance kit as parameters of a test of pytest, one for each check of each component."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptb import DataSpec
from ptb_testing.given import Given
from ptb_testing.outcome import CheckFailed, Result
from ptb_testing.report import ENOUGH
from ptb_testing.subject import Entry, subject_of

if TYPE_CHECKING:
    import pytest

    from ptb_testing.case import Case, Check


def parametrize_with_checks(
    plugin: str | Path | Iterable[Entry],
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    specs: Mapping[str, Sequence[DataSpec]] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> "pytest.MarkDecorator":
    """Decorates a test whose one argument ``check`` is called with nothing and raises where a contract is broken.

    ::

        @parametrize_with_checks("ptb-acme")
        def test_the_contract(check):
            check()

    The id of a test is ``KIND/NAME/CHECK``. The last one of each component, ``enough-checks-ran``, fails if fewer ran
    than the kind's minimum.

    Args:
        plugin: as in ``check_plugin``, like the others.
        settings: those a component is built from in place of its defaults, by ``"KIND/NAME"``.
        specs: those a model, loss or metric is tried on in place of the kit's, by ``"KIND/NAME"``.
        expected_failures: why a check is known to fail, by ``"KIND/NAME/CHECK"``; the test then fails if it passes.

    Raises:
        ConfigError: there is no such plugin, component or check.
        PluginError: the plugin cannot be loaded.
    """
    import pytest

    from ptb_testing.case import name_of
    from ptb_testing.kit import cases_of

    subject = subject_of(plugin).with_given(Given(settings or {}, specs or {}, expected_failures or {}))
    tests = []
    for case in cases_of(subject):
        for check in case.kit.checks:
            tests.append(pytest.param(partial(_checked, case, check), id=f"{case.label}/{name_of(check)}"))
        tests.append(pytest.param(partial(_enough, case), id=f"{case.label}/{ENOUGH}"))
    return pytest.mark.parametrize("check", tests)


def _checked(case: "Case", check: "Check") -> None:
    from ptb_testing.kit import run_check

    __tracebackhide__ = True
    _end(run_check(case, check))


def _enough(case: "Case") -> None:
    """Runs what this process has not run, so that it may be asked alone, or in another process than the others."""
    from ptb_testing.kit import report_of

    __tracebackhide__ = True
    if shortage := report_of(case).shortage:
        raise CheckFailed(shortage)


def _end(result: Result) -> None:
    import pytest

    __tracebackhide__ = True
    ends: dict[str, Callable[..., Any]] = {"skipped": pytest.skip, "expected failure": pytest.xfail}
    if result.status in ends:
        ends[result.status](result.message)
    if result.status == "failed":
        raise CheckFailed(result.message) from result.error
