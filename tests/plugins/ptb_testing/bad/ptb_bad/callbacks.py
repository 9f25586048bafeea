import sys
from contextlib import contextmanager

import torch

from ptb import Callback


class has_an_event(Callback):
    """It overrides nothing."""


class has_an_event_2:
    def on_epoch_stop(self, trainer):
        """There is no such event."""


class has_an_event_3:
    def on_fit_start(self, trainer):
        pass

    def around_step(self, trainer, step):
        """Observers do not get this one."""


class fits_a_run:
    def on_step_end(self, trainer, output):
        raise KeyError("missing")


class fits_a_run_2:
    def on_epoch_end(self, trainer):
        raise KeyError("missing")


class fits_a_run_3:
    def around_step(self, trainer, step):
        """It forgets the step."""


class weights_stay_the_same:
    """It looks for the training itself on the stack."""

    def on_step_end(self, trainer, output):
        frame, real = sys._getframe(), trainer
        while real is trainer:
            frame = frame.f_back
            real = frame.f_locals.get("trainer", trainer)
        with torch.no_grad():
            for parameter in real.model.parameters():
                parameter.mul_(0.99)


class survives_an_error:
    def on_exception(self, trainer, error):
        raise OSError("the log is gone")


class survives_an_error_2(survives_an_error):
    pass


class random_state_is_left_alone:
    def on_step_end(self, trainer, output):
        torch.manual_seed(0)


class Count:
    steps = 0


class resumes_exactly:
    """How far it came is not in its state."""

    def __init__(self):
        self.steps = 0

    def on_epoch_end(self, trainer):
        self.steps += 1
        for group in trainer.optimizer.param_groups:
            group["weight_decay"] = 0.1 * self.steps

    def state_dict(self):
        return {"steps": 0}

    def load_state_dict(self, state):
        pass


class resumes_exactly_2:
    """What it counts is in an object of its own."""

    def __init__(self):
        self.count = Count()

    def on_step_end(self, trainer, output):
        self.count.steps += 1


class step_is_taken_once:
    def around_step(self, trainer, step):
        step()
        step()


class resumes_exactly_3:
    @contextmanager
    def evaluation_weights(self, trainer):
        weight = next(trainer.model.parameters()).data
        weight.mul_(0.5)
        yield
        weight.div_(0.499)


class evaluation_weights_are_put_back:
    @contextmanager
    def evaluation_weights(self, trainer):
        weight = next(trainer.model.parameters()).data
        before = weight.clone()
        weight.zero_()
        yield
        weight.copy_(before)


class saves_what_is_evaluated:
    """It changes the weights between their evaluation and the checkpoint."""

    def on_epoch_end(self, trainer):
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter.mul_(0.9)
