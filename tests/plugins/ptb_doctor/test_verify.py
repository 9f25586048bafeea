import json

import pytest
from click.testing import CliRunner

from ptb.cli import main
from ptb_doctor.processes import Ended

TINY = ("--dataset", "random", "dataset.samples=8", "--epochs", "2")
MODEL = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_models():
        return [Component("keeping", "ptb_keeping:Keeping")]

    from itertools import count

    COUNTED = count(1)

    def Keeping(spec):
        from math import prod

        from torch import nn

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(prod(spec.input_shape), spec.output_size)
            def forward(self, inputs):
                return self.layer(inputs.flatten(1)) / next(COUNTED)

        return Model()
"""


@pytest.fixture
def verify(site, monkeypatch):
    """Runs the command, and those that it starts, in this process."""

    def run(command, environment=None):
        done = CliRunner().invoke(main, command[command.index("ptb") + 1 :])
        return Ended(done.exit_code, done.stdout, done.stderr)

    monkeypatch.setattr("ptb_doctor.processes.run", run)
    monkeypatch.syspath_prepend(str(site.path))
    return lambda *arguments: CliRunner().invoke(main, ["verify", "resume", *arguments])


@pytest.mark.reliability
def test_a_run_of_built_ins_resumes_exactly_in_other_processes(ptb):
    done = ptb("verify", "resume", "--model", "linear", *TINY, "--batch-size", "8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "STOPPED AFTER STEP  AT STEP 2",
        "1                   the same bits",
        "a run that is stopped and resumed ends with the same bits",
    ]


def test_a_run_is_stopped_after_the_first_step_half_of_them_the_epoch_and_the_last_but_one(verify):
    done = verify("--model", "linear", *TINY, "--batch-size", "2", "--json")
    trials = [{"stopped_after": stop, "same": True, "differences": []} for stop in (1, 3, 4, 5)]
    assert json.loads(done.stdout) == {"schema": 1, "step": 6, "same": True, "trials": trials}


@pytest.mark.filterwarnings("ignore")
def test_state_outside_of_every_component_is_found_before_a_resume(verify, site):
    site.add("ptb-keeping", MODEL)
    done = verify("--model", "keeping", *TINY, "--batch-size", "8", "--steps", "2", "--json")
    assert done.exit_code == 7
    assert "model 'keeping' keeps state that is in no state_dict" in done.stderr


def test_a_run_that_cannot_be_made_ends_with_its_own_code(verify):
    done = verify("--model", "lennet")
    assert done.exit_code == 2
    assert (
        "`ptb check` failed with this configuration: exit status 2, model.name: unknown model 'lennet'" in done.stderr
    )
