import os
import random

import torch
from torch import nn


class good(nn.Module):
    """Good: what the others are made of."""

    def __init__(self, spec, *, width=None):
        super().__init__()
        if spec.inputs != "vector" and spec.input_shape[0] != 1:  # fewer runs, less time
            raise ValueError("it takes vectors, and pictures without colours that have a class")
        self.linear = nn.Linear(spec.input_size, spec.output_size)

    def forward(self, inputs):
        return self.linear(inputs.flatten(1))


class plain(good):
    """Good, without settings."""

    def __init__(self, spec):
        super().__init__(spec)


class fits_a_run(plain):
    """It has no setting ``width``."""


class settings_agree_with_target(good):
    def __init__(self, spec, *, width=3):
        super().__init__(spec)


class settings_agree_with_target_2(settings_agree_with_target):
    """Its ``width`` is not in the settings model."""


class settings_survive_a_config_file(settings_agree_with_target):
    pass


class settings_are_described(settings_agree_with_target):
    pass


def fits_a_run_2(spec):
    return lambda inputs: inputs


class fits_a_run_3(plain):
    def __init__(self, spec):
        super().__init__(spec)
        if spec.target == "similarity":
            raise TypeError("not that")


class fits_a_run_4(plain):
    def __init__(self, spec):
        raise ValueError("nothing is good enough")


class fits_a_run_5(plain):
    def __init__(self, spec):
        super().__init__(spec)
        if spec.target == "similarity":
            raise ValueError


class fits_a_run_6(plain):
    def forward(self, inputs):
        raise SystemExit("no")


class resumes_exactly_3(plain):
    def __init__(self, spec):
        super().__init__(spec)
        with torch.no_grad():
            self.linear.bias.fill_(random.SystemRandom().random())


class random_state_is_left_alone(plain):
    def __init__(self, spec):
        torch.manual_seed(0)
        super().__init__(spec)


class switches_are_left_alone(plain):
    def __init__(self, spec):
        super().__init__(spec)
        torch.use_deterministic_algorithms(True)


class switches_are_left_alone_2(plain):
    def __init__(self, spec):
        super().__init__(spec)
        os.environ["PTB_BAD"] = "1"


class fits_a_run_7(plain):
    def forward(self, inputs):
        return super().forward(inputs).squeeze(1)  # loses the dimension of a binary score


class fits_a_run_8(plain):
    def __init__(self, spec):
        super().__init__(spec)
        nn.init.constant_(self.linear.weight, torch.inf)


class eval_mode_is_a_function(plain):
    def forward(self, inputs):
        return nn.functional.dropout(super().forward(inputs), 0.5, training=True)


class scores_are_raw(plain):
    def forward(self, inputs):
        return super().forward(inputs).softmax(1)


class scores_are_raw_2(plain):
    def forward(self, inputs):
        return super().forward(inputs).relu()


class fits_a_run_9(plain):
    def __init__(self, spec):
        super().__init__(spec)
        self.unused = nn.Linear(2, 2)


class fits_a_run_10(plain):
    def forward(self, inputs):
        root = (self.linear.bias - self.linear.bias.detach()).abs().sqrt()  # its slope at 0 is infinite
        return super().forward(inputs) + root


class samples_do_not_mix(plain):
    def forward(self, inputs):
        scores = super().forward(inputs)
        return scores + 2 * scores.mean(0)


class inputs_are_left_alone(plain):
    def forward(self, inputs):
        return super().forward(inputs.clamp_(-1, 1))


class resumes_exactly(plain):
    def __init__(self, spec):
        super().__init__(spec)
        self.scale = 1 + random.random()

    def forward(self, inputs):
        return self.scale * super().forward(inputs)


class resumes_exactly_2(plain):
    """Its extra state is saved, and not loaded."""

    passes = 0

    def forward(self, inputs):
        self.passes += self.training
        return super().forward(inputs)

    def get_extra_state(self):
        return {"passes": self.passes}

    def set_extra_state(self, state):
        pass


class fits_a_run_11(plain):
    def get_extra_state(self):
        return {"no": object()}


class moves_to_a_device(plain):
    def __init__(self, spec):
        super().__init__(spec)
        self.ones = torch.ones(spec.output_size)

    def forward(self, inputs):
        return super().forward(inputs) + self.ones
