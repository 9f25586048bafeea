import json

import pytest

TINY = ("--model", "mlp", "dataset.size=8", "model.hidden=[4]", "--epochs", "2")
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


@pytest.mark.parametrize(
    ("batch_size", "stops", "last"),
    [(2000, (1,), 2), pytest.param(400, (1, 3, 4, 5), 6, marks=pytest.mark.reliability)],
    ids=["one step an epoch", "four steps an epoch"],
)
def test_a_run_of_built_ins_goes_on_exactly(ptb, batch_size, stops, last):
    done = ptb("verify", "resume", *TINY, "--batch-size", batch_size)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"STOPPED AFTER STEP  AT STEP {last}",
        *(f"{stop}                   the same bits" for stop in stops),
        "a run that is stopped and resumed ends with the same bits",
    ]


def test_state_that_nobody_can_see_is_found(ptb, site):
    site.add("ptb-keeping", MODEL)
    options = ("--model", "keeping", "dataset.size=8", "--batch-size", "400", "--epochs", "2")
    done = ptb("verify", "resume", *options, "--steps", "2", "--json", site=site.path)
    assert done.returncode == 5
    facts = json.loads(done.stdout.splitlines()[0])
    assert not facts["same"]
    assert [trial["stopped_after"] for trial in facts["trials"]] == [1]
    assert any(line.startswith("model.layer.weight: ") for line in facts["trials"][0]["differences"])
    assert "does not go on exactly when it is stopped after step 1:" in done.stderr


def test_a_run_that_cannot_be_made_is_told_with_its_own_code(ptb):
    assert ptb("verify", "resume", "--model", "lennet").returncode == 2
    done = ptb("verify", "resume", "--model", "lenet", "dataset.size=8")
    assert done.returncode == 3
    assert "`ptb check` of this configuration ended with exit status 3" in done.stderr
