import random

import torch
from torch import nn


def fill(module, value=0.1):
    for parameter in module.parameters():
        parameter.fill_(value)


def fits_a_run(module):
    raise KeyError("weight")


def random_state_is_left_alone(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.normal_()


def resumes_exactly(module):
    fill(module, random.SystemRandom().random())


def changes_values_only_2(module):
    fill(module)
    return module


def changes_values_only(module):
    for parameter in module.parameters():
        parameter.data = torch.full_like(parameter, 0.1)


def fits_a_run_4(module):
    for parameter in module.parameters():
        parameter.fill_(0.1).requires_grad_(False)


def changes_values_only_3(module):
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.fill_(1)


def changes_values_only_4(module):
    module.eval()


def fits_a_run_2(module):
    fill(module, float("nan"))


def fits_a_run_3(module):
    fill(module, 1e38)


def works_on_a_device(module):
    for parameter in module.parameters():
        parameter.copy_(parameter + torch.full(parameter.shape, 0.1))


def the_seed_has_an_effect(module):
    own = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=own))
