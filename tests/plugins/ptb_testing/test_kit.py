import importlib
import os
import random
import re
import textwrap

import numpy as np
import pytest
import torch

from ptb.data.spec import DataSpec
from ptb.errors import UnknownNameError
from ptb_testing import check_plugin
from ptb_testing.case import name_of, summary_of
from ptb_testing.checks.common import GATES
from ptb_testing.given import Given
from ptb_testing.kit import KITS, cases_of, checks_of, minimum, report_of, run_check, summaries
from ptb_testing.process import Snapshot
from ptb_testing.subject import Subject

HOOKS = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_losses():
        return [Component({arguments})]
"""
LOSS = """
    from pathlib import Path
    from typing import Annotated

    from pydantic import Field
    from torch.nn.functional import mse_loss

    def half(spec, *, weight: Annotated[float, Field(gt=0, description="Factor")] = 0.5):
        if spec.target != "real":
            raise ValueError("it takes numbers")
        return lambda scores, targets: weight * mse_loss(scores, targets)

    def required(spec, *, file: Annotated[str, Field(description="Text")]):
        return half(spec, weight=float(Path(file).read_text()))

    def wrong(spec):
        return lambda scores, targets: mse_loss(scores.detach(), targets)

    def rooted(spec):
        return lambda scores, targets: mse_loss(scores, targets).sqrt()
"""


@pytest.fixture
def subject_of(site, monkeypatch):
    """The components of a plugin whose one hook provides a loss, described by these arguments.

    The fresh process that loads a plugin is started only where ``hooks`` are given, which are for its eyes.
    """

    def make(arguments='"half", "acme_losses:half", "Half"', given=None, hooks=""):
        if not hooks:
            light = {"seconds": 0.0, "registration": [], "settings": {}, "changes": []}
            monkeypatch.setattr("ptb_testing.checks.common.registered_elsewhere", lambda points, path: light)
        site.add("ptb-acme", textwrap.dedent(hooks) + textwrap.dedent(HOOKS.format(arguments=arguments)))
        site.write("acme_losses.py", LOSS)
        entries = [entry for entry in site.registry().components("loss") if entry.plugin == "ptb-acme"]
        return Subject("ptb-acme 1.0", tuple(entries), given or Given())

    return make


def reported(subject):
    (case,) = cases_of(subject)
    return report_of(case)


def of(report, check):
    return next(result for result in report.results if result.check == check)


@pytest.mark.parametrize("kind", KITS)
def test_checks_have_names_of_their_own_and_say_what_they_show(kind):
    names = [name_of(check) for check in checks_of(kind)]
    assert len(set(names)) == len(names)
    told = summaries()[""] | summaries()[kind]
    assert [name for name in told if name in names] == names
    assert kind in ("command", "plot") or len(told) == len(names)  # neither takes part in a run
    assert all(text.endswith((".", ":")) and len(text) < 120 for text in told.values())
    assert all(summary_of(check) in told.values() for check in checks_of(kind))


@pytest.mark.parametrize("kind", KITS)
def test_a_gate_or_an_optional_check_is_one_of_the_checks(kind):
    kit = KITS[kind]
    assert {*kit.gates, *kit.optional} <= set(checks_of(kind))
    assert not set(GATES) & set(kit.optional)


def test_a_good_component_is_green(subject_of):
    report = reported(subject_of(hooks="# loaded by a fresh process too\n"))
    assert report.green
    assert [r for r in report.results if r.status != "passed"] == []
    assert re.fullmatch(r"in \d+ ms", of(report, "registration-is-light").message)
    assert report.counts["run"] == len(checks_of("loss")) >= report.minimum == minimum("loss")


def test_a_check_runs_once(subject_of):
    (case,) = cases_of(subject_of())
    report = report_of(case)
    assert report_of(case).results == report.results
    assert all(one is other for one, other in zip(report.results, report_of(case).results, strict=True))


def test_one_check_alone_runs_behind_its_gates(subject_of):
    (case,) = cases_of(subject_of('"wrong", "acme_losses:wrong", "Wrong", accepts=("real",)'))
    (gradcheck,) = (check for check in checks_of("loss") if name_of(check) == "gradcheck")
    result = run_check(case, gradcheck)
    assert (result.status, result.message) == ("skipped", "not run: fits-a-run did not pass")
    assert case.results["fits-a-run"].status == "failed"
    assert "registration-is-light" not in case.results


def test_settings_that_must_be_given_leave_too_few_checks_and_it_says_what_to_write(subject_of):
    report = reported(subject_of('"required", "acme_losses:required", "Required"'))
    assert not report.green
    assert report.counts["failed"] == 0
    message = of(report, "fits-a-run").message
    assert '[tool.ptb.check.settings] "loss/required" = { file = ... }' in message
    assert report.shortage == (
        f"{report.counts['run']} checks ran, the minimum of the kind loss is {minimum('loss')}: see why "
        "others were skipped"
    )


def test_given_settings_are_used_and_paths_are_relative_to_the_folder(subject_of, tmp_path):
    (tmp_path / "weight.txt").write_text("2.5")
    given = Given({"loss/required": {"file": "weight.txt"}}, folder=tmp_path)
    before = os.getcwd()
    report = reported(subject_of('"required", "acme_losses:required", "Required", accepts=("real",)', given))
    assert [r for r in report.results if r.status != "passed"] == []
    assert os.getcwd() == before


def test_given_settings_that_are_refused_are_told(subject_of):
    report = reported(subject_of(given=Given({"loss/half": {"weight": -1}})))
    result = of(report, "fits-a-run")
    assert result.status == "failed"
    assert result.message.startswith("the settings {'weight': -1} are refused: weight: must be ")


@pytest.fixture
def picky(site):
    """A subject with one model, which takes pictures of 3x64x64 and nothing else."""
    hooks = """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_models():
            return [Component("picky", "acme_picky:Picky", "Takes one size")]
    """
    site.add("ptb-acme", hooks)
    site.write(
        "acme_picky.py",
        """
        from torch import nn

        class Picky(nn.Module):
            def __init__(self, spec):
                super().__init__()
                if spec.input_shape != (3, 64, 64):
                    raise ValueError("it takes 3x64x64")
                self.linear = nn.Linear(spec.input_size, spec.output_size)

            def forward(self, inputs):
                return self.linear(inputs.flatten(1))
        """,
    )
    entries = [entry for entry in site.registry().components("model") if entry.plugin == "ptb-acme"]
    return lambda **specs: Subject("ptb-acme 1.0", tuple(entries), Given(specs=specs))


def test_a_model_is_tried_on_the_specs_that_are_given(picky):
    built = of(reported(picky()), "fits-a-run")
    assert built.status == "failed"
    assert "on image float32 [B, 1, 28, 28], target class, scores [B, 5]: model 'picky' does not fit" in built.message
    assert "it takes 3x64x64" in built.message
    report = reported(picky(**{"model/picky": [DataSpec((3, 64, 64), "image", "class", 7)]}))
    assert report.green
    assert [result for result in report.results if result.status != "passed"] == []


def test_a_spec_that_is_given_must_be_taken(picky):
    specs = [DataSpec((3, 64, 64), "image", "class", 7), DataSpec((3, 32, 32), "image", "class", 7)]
    built = of(reported(picky(**{"model/picky": specs})), "fits-a-run")
    assert built.status == "failed"
    assert built.message.startswith("it refuses a spec that was given for it; on image float32 [B, 3, 32, 32]")


@pytest.mark.parametrize(("kind", "name"), [("loss", "mse"), ("metric", "mae")])
def test_a_loss_or_metric_is_tried_on_the_specs_that_are_given(built_in, kind, name):
    entries = [entry for entry in built_in.components(kind) if entry.name == name]
    spec = DataSpec((9,), "vector", "real", 11)
    (case,) = cases_of(Subject("this", tuple(entries), Given(specs={f"{kind}/{name}": [spec]})))
    assert report_of(case).green
    assert [trial.spec for trial in KITS[kind].trials(case)] == [spec]


def test_a_missing_dependency_is_a_reason_to_skip_and_then_too_few_run(subject_of):
    report = reported(subject_of('"half", "acme_losses:half", "Half", requires=("no-such-thing>=3",), extra="more"'))
    assert of(report, "target-can-be-imported").message == "needs no-such-thing>=3, which is not installed"
    assert of(report, "gradcheck").message == "not run: target-can-be-imported did not pass"
    assert not report.green
    assert report.shortage


def test_an_expected_failure_is_no_failure_and_lets_the_later_checks_run(subject_of):
    arguments = '"rooted", "acme_losses:rooted", "Rooted", accepts=("real",)'
    report = reported(subject_of(arguments, Given(expected_failures={"loss/rooted/batches-add-up": "it is a root"})))
    result = of(report, "batches-add-up")
    assert result.status == "expected failure"
    assert result.message.startswith(
        "it is a root: target real, scores float32 [B, 3], targets float32 [B, 3]: 34 samples"
    )
    assert of(report, "moves-to-a-device").ran
    assert report.counts["run"] == report.counts["passed"] + 1 == len(report.results)
    assert report.green


def test_what_cannot_be_built_is_not_used_even_if_that_is_expected(subject_of):
    given = Given(expected_failures={"loss/none/target-can-be-imported": "not yet written"})
    report = reported(subject_of('"none", "acme_losses:none", "None"', given))
    assert of(report, "target-can-be-imported").status == "expected failure"
    assert of(report, "gradcheck").message == "not run: target-can-be-imported did not pass"
    assert not report.green


def test_an_expected_failure_that_passes_is_one(subject_of):
    report = reported(subject_of(given=Given(expected_failures={"loss/half/gradcheck": "it was slow once"})))
    result = of(report, "gradcheck")
    assert result.status == "failed"
    assert result.message == "expected to fail (it was slow once), and it passed: expect it no longer"
    assert not report.green


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            Given({"loss/hlaf": {}}),
            "'loss/hlaf' is no component of ptb-acme 1.0 (did you mean 'loss/half'?); there are",
        ),
        (Given(expected_failures={"loss/half": "why"}), "'loss' is no component"),
        (
            Given(expected_failures={"loss/half/grad-check": "why"}),
            "'loss/half/grad-check' is no check (did you mean 'gradcheck'?); loss/half has registration-is-light, ",
        ),
    ],
)
def test_names_that_nothing_answers_to_are_refused(subject_of, given, message):
    with pytest.raises(UnknownNameError) as error:
        cases_of(subject_of(given=given))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "hooks",
    ["import numpy", "from ptb import hookimpl\n@hookimpl\ndef ptb_provide_models():\n    import numpy\n    return []"],
    ids=["at the top", "in a hook"],
)
def test_registering_with_a_heavy_import_is_worth_a_note(subject_of, hooks):
    report = reported(subject_of(hooks=f"{hooks}\n"))
    (noted,) = (result for result in report.results if result.status != "passed")
    assert (noted.check, noted.status) == ("registration-is-light", "note")
    assert noted.message.startswith("registering ptb_acme imports numpy, which")


def test_a_plugin_that_a_fresh_process_cannot_load_fails(subject_of):
    report = reported(subject_of(hooks="import os\nimport sys\nif 'pytest' not in sys.modules:\n    os._exit(9)\n"))
    message = of(report, "registration-is-light").message
    assert message.startswith("in a fresh process it cannot be loaded: the process ended with 9")


def test_what_changes_while_a_plugin_registers_is_seen(subject_of):
    report = reported(subject_of(hooks="import warnings\nwarnings.simplefilter('ignore')\n"))
    (noted,) = (result for result in report.results if result.status != "passed")
    assert (noted.check, noted.status) == ("importing-changes-nothing", "note")
    assert noted.message.startswith("importing ptb_acme changes warnings.filters (('ignore'")


@pytest.mark.parametrize("raised", ["RuntimeError('boom')", "SystemExit('boom')", "BaseException"])
def test_whatever_a_component_raises_is_told_with_its_place(subject_of, site, raised):
    subject = subject_of('"raising", "acme_raising:raising", "Raising"')
    site.write("acme_raising.py", f"def raising(spec):\n    raise {raised}\n")
    result = of(reported(subject), "fits-a-run")
    assert result.status == "failed"
    assert "boom" in result.message or "BaseException" in result.message
    assert result.message.endswith("(acme_raising.py, line 2)")


def test_a_stop_by_the_user_is_none_of_the_component_s(subject_of, site):
    subject = subject_of('"stopped", "acme_stopped:stopped", "Stopped"')
    site.write("acme_stopped.py", "def stopped(spec):\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        reported(subject)


def test_the_process_is_as_before_whatever_a_component_does(subject_of, site, tmp_path):
    subject = subject_of('"vandal", "acme_vandal:vandal", "Vandal"')
    site.write(
        "acme_vandal.py",
        f"""
        import io, os, random, signal, sys, warnings
        import numpy, torch
        from torch.nn.functional import mse_loss

        def vandal(spec):
            random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
            torch.set_default_dtype(torch.float64), torch.set_grad_enabled(False), torch.set_num_threads(3)
            torch.use_deterministic_algorithms(True), numpy.seterr(all="raise")
            torch.set_float32_matmul_precision("high"), torch.set_default_device("meta")
            os.environ["PTB_VANDAL"] = "1"
            os.chdir({str(tmp_path)!r})
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.umask(0o7), sys.path.append("elsewhere"), warnings.simplefilter("ignore")
            sys.stdout, torch.backends.cudnn.benchmark = io.StringIO(), True
            torch.nn.modules.module.register_module_forward_hook(print)
            return mse_loss
        """,
    )
    importlib.import_module("torch._dynamo")  # a model's hooks want it, and it registers functions with atexit
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = Snapshot.take()
    report = reported(subject)
    after = Snapshot.take()
    assert (before.moved_generators(after), before.changed_switches(after)) == ([], {})
    assert {result.check for result in report.results if result.status in ("failed", "note")} & {
        "fits-a-run",
        "random-state-is-left-alone",
        "switches-are-left-alone",
    }


def test_a_library_that_draws_while_it_is_first_imported_is_no_fault(subject_of, site):
    subject = subject_of('"late", "acme_late:late", "Late", accepts=("real",)')
    site.write("acme_drawing.py", "import os, random\nrandom.random()\nos.environ['PTB_LATE'] = '1'\n")
    site.write(
        "acme_late.py",
        """
        from torch.nn.functional import mse_loss

        def late(spec):
            def loss(scores, targets):
                import acme_drawing
                return mse_loss(scores, targets)
            return loss
        """,
    )
    assert [result for result in reported(subject).results if result.status == "failed"] == []


def test_check_plugin_gives_the_report_of_all_components(built_in):
    entries = [entry for entry in built_in.components("loss") if entry.name in ("mse", "l1")]
    report = check_plugin(entries, settings={"loss/l1": {"reduction": "sum"}})
    assert report.green
    assert [component.label for component in report.components] == ["loss l1", "loss mse"]
    facts = report.as_json()
    assert (facts["schema"], facts["status"]) == (1, "ok")
    assert facts["run"] == sum(component["run"] for component in facts["components"])
    keys = "kind name id status minimum run passed failed notes skipped expected_failures checks"
    assert facts["components"][0].keys() == set(keys.split())
    assert facts["components"][0]["checks"][0].keys() == {"check", "status", "message"}
