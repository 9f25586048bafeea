"""Plugins that break their contract in one way each: the check that is meant for it fails, and no other."""

import re
import sys
from pathlib import Path

import pytest

from ptb_testing.case import name_of
from ptb_testing.kit import KITS, cases_of, checks_of, report_of
from ptb_testing.subject import in_folder

BAD = Path(__file__).parent / "bad"
sys.path.insert(0, str(BAD))
CASES = cases_of(in_folder(BAD))
sys.path.remove(str(BAD))


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(BAD)


def meant(case):
    """The check that it fails: its name, of a command that of its function, without a number at the end."""
    name = case.record.target.partition(":")[2].replace("_", "-") if case.kind == "command" else case.record.name
    return re.sub(r"-\d$", "", name)


BROKEN = [case for case in CASES if meant(case) != "settings-are-described"]


def test_a_setting_without_description_is_a_note_and_no_failure():
    (case,) = (case for case in CASES if case not in BROKEN)
    report = report_of(case)
    assert [(result.check, result.status) for result in report.results if result.status != "passed"] == [
        ("settings-are-described", "note")
    ]
    assert report.green
    assert report.counts["notes"] == 1


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.label)
def test_exactly_the_check_fails_that_is_meant_for_it_and_says_why_in_one_line(case):
    report = report_of(case)
    failed = {result.check: result.message for result in report.results if result.status == "failed"}
    assert {check: message for check, message in failed.items() if check != meant(case)} == {}
    assert 20 < len(failed[meant(case)]) < 500
    assert "\n" not in failed[meant(case)]
    assert "Traceback" not in failed[meant(case)]
    assert not report.green


@pytest.mark.parametrize("kind", KITS)
def test_every_check_has_a_plugin_that_fails_it(kind):
    tried = {meant(case) for case in CASES if case.kind == kind}
    shared = {meant(case) for case in CASES}
    own = {name_of(check) for check in checks_of(kind)}
    assert own <= tried | shared
    assert tried <= own
