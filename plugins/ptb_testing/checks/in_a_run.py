"""What a component owes the runs that it takes part in: to pass the preflight, and to lose nothing at a stop."""

from ptb_testing.case import Case
from ptb_testing.checks.support import on
from ptb_testing.outcome import CheckFailed, Skipped


def fits_a_run(case: Case) -> None:
    """Small runs of all that it takes pass the checks that `ptb run` makes before the first step."""
    case.tried = []
    for what, trial in case.kit.trials(case):
        with on(what):
            case.tried.append((what, trial, trial.check()))


def state_survives_a_checkpoint(case: Case) -> None:
    """Saved after some steps and loaded into a new one, nothing of its state is missing."""
    if not case.tried:
        raise Skipped("no run takes it")
    for what, trial, trainer in case.tried:
        with on(what):
            for _ in range(2):
                trainer.try_step([trial.batch], begin=False)
            if lost := trial.lost(trainer):
                raise CheckFailed(
                    f"{lost}: keep it in state_dict(), in buffers of a module, or in plain attributes of an object "
                    "that has no state_dict()"
                )
