import random

import torch
from torch.utils.data import Dataset, TensorDataset

from ptb import DataBundle, DataSpec

SPEC = DataSpec((3,), "vector", "class", 2)


def samples(count=12):
    return torch.arange(3.0 * count).reshape(count, 3), torch.arange(count) % 2


class Listed(Dataset):
    """Good: samples that are read one by one."""

    def __init__(self):
        self.inputs, self.targets = samples()

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, place):
        return self.inputs[place], self.targets[place]


def builds_from_its_settings():
    return TensorDataset(*samples())


def can_be_used():
    class Broken(Listed):
        def __getitem__(self, place):
            raise RuntimeError("the disk is gone")

    return DataBundle(SPEC, Broken())


def same_seed_same_result():
    inputs, targets = samples()
    return DataBundle(SPEC, TensorDataset(inputs + random.SystemRandom().random(), targets))


def samples_fit_the_spec():
    inputs, targets = samples()
    return DataBundle(SPEC, TensorDataset(inputs, targets.int()))


def samples_fit_the_spec_2():
    inputs, targets = samples()
    return DataBundle(SPEC, TensorDataset(inputs, targets + 1))


def inputs_suit_a_model():
    inputs, targets = samples()
    return DataBundle(SPEC, TensorDataset(inputs.byte(), targets))


def reading_again_gives_the_same():
    class Jittered(Listed):
        reads = 0

        def __getitem__(self, place):
            Jittered.reads += 1
            return self.inputs[place] + Jittered.reads % 7, self.targets[place]

    Jittered.reads = 0
    return DataBundle(SPEC, Jittered())


class Drawing(Listed):
    def __getitem__(self, place):
        random.random()
        return super().__getitem__(place)


def reading_draws_nothing():
    return DataBundle(SPEC, Drawing())


def pickles_for_workers():
    class Local(Listed):
        pass

    return DataBundle(SPEC, Local())


def prepare_is_a_function():
    return DataBundle(SPEC, TensorDataset(*samples()), prepare=lambda inputs: inputs.add_(1))


def prepare_is_a_function_2():
    return DataBundle(SPEC, TensorDataset(*samples()), prepare=lambda inputs: inputs + torch.rand(()))


def augment_draws_from_its_generator():
    return DataBundle(SPEC, TensorDataset(*samples()), augment=lambda inputs, generator: inputs + torch.rand(()))


def class_counts_are_those_of_train():
    spec = DataSpec((3,), "vector", "class", 2, class_counts=(5, 7))
    return DataBundle(spec, TensorDataset(*samples()))
