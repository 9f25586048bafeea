"""Plugins that break their contract in one way each: the check that is meant for it fails, and no other.

What trains and resumes right is no failure: there the check has a note.
"""

import re
import sys
from pathlib import Path

import pytest

from ptb_testing.case import name_of
from ptb_testing.checks import common
from ptb_testing.kit import KITS, cases_of, checks_of, report_of
from ptb_testing.subject import in_folder

BAD = Path(__file__).parent / "bad"
# Of checks that may fail: a run takes some forms of inputs or targets, or resumes with the seed that it has.
NOTED = {
    "model/fits-a-run-3",
    "model/fits-a-run-5",
    "model/fits-a-run-7",
    "model/fits-a-run-9",
    "model/resumes-exactly",
    "model/registration-is-light",
    "model/settings-are-described",
    "scheduler/fits-a-run-2",
    "scheduler/fits-a-run-3",
}
sys.path.insert(0, str(BAD))
CASES = cases_of(in_folder(BAD))
sys.path.remove(str(BAD))


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(BAD)


def meant(case):
    """The check that it fails: its name, of a command that of its function, without a number at the end."""
    name = case.record.target.partition(":")[2].replace("_", "-") if case.kind == "command" else case.record.name
    return re.sub(r"-\d+$", "", name)


def first_of_each_check():
    """Marks all but one of the plugins that fail the same check of a kind, or a check of all kinds that only notes."""
    found = set()
    for case in CASES:
        noted_of_all = meant(case) in map(name_of, common.NOTES)
        check = (meant(case), "" if noted_of_all else case.kind)
        marks = [pytest.mark.matrix] if check in found else []
        found.add(check)
        yield pytest.param(case, id=case.label, marks=marks)


@pytest.mark.parametrize("case", [*first_of_each_check()])
def test_exactly_the_check_fails_that_is_meant_for_it_and_says_why_in_one_line(case):
    report = report_of(case)
    noted = case.label in NOTED or meant(case) in map(name_of, (*common.NOTES, *case.kit.notes))
    status = "note" if noted else "failed"
    said = {result.check: result.message for result in report.results if result.status == status}
    failed = {result.check: result.message for result in report.results if result.status == "failed"}
    assert {check: message for check, message in failed.items() if check != meant(case)} == {}
    assert 20 < len(said[meant(case)]) < 500
    assert "\n" not in said[meant(case)]
    assert "Traceback" not in said[meant(case)]
    assert report.green == noted


@pytest.mark.parametrize("kind", KITS)
def test_every_check_has_a_plugin_that_fails_it(kind):
    tried = {meant(case) for case in CASES if case.kind == kind}
    shared = {meant(case) for case in CASES}
    own = {name_of(check) for check in checks_of(kind)}
    assert own <= tried | shared
    assert tried <= own
