import random
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import Dataset, TensorDataset

from ptb import DataBundle, DataSpec, Preprocessor, Sample

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


def fits_a_run():
    return TensorDataset(*samples())


def fits_a_run_2():
    class Broken(Listed):
        def __getitem__(self, place):
            raise RuntimeError("the disk is gone")

    return DataBundle(SPEC, Broken())


def resumes_exactly():
    inputs, targets = samples()
    return DataBundle(SPEC, TensorDataset(inputs + random.SystemRandom().random(), targets))


def fits_a_run_3():
    inputs, targets = samples()
    return DataBundle(SPEC, TensorDataset(inputs, targets.int()))


def fits_a_run_4():
    inputs, targets = samples()
    return DataBundle(SPEC, TensorDataset(inputs, targets + 1))


def inputs_have_usual_types():
    inputs, targets = samples()
    return DataBundle(SPEC, TensorDataset(inputs.byte(), targets))


def fits_a_run_5():
    return DataBundle(SPEC, TensorDataset(*samples()), augment=lambda inputs, targets, draws: (inputs[:, :2], targets))


def resumes_exactly_2():
    class Jittered(Listed):
        reads = 0

        def __getitem__(self, place):
            Jittered.reads += 1
            return self.inputs[place] + Jittered.reads % 7, self.targets[place]

    Jittered.reads = 0
    return DataBundle(SPEC, Jittered())


def pickles_for_workers():
    class Local(Listed):
        pass

    return DataBundle(SPEC, Local())


def transform_is_a_function():
    return DataBundle(SPEC, TensorDataset(*samples()), transform=lambda inputs: inputs.add_(1))


def transform_is_a_function_2():
    return DataBundle(SPEC, TensorDataset(*samples()), transform=lambda inputs: inputs + torch.rand(()))


def augment_belongs_to_the_sample():
    return DataBundle(SPEC, TensorDataset(*samples()), augment=lambda x, y, draws: (x + torch.rand(()), y))


def class_counts_are_those_of_train():
    spec = DataSpec((3,), "vector", "class", 2, class_counts=(5, 7))
    return DataBundle(spec, TensorDataset(*samples()))


def transform_is_a_function_3():
    return DataBundle(SPEC, TensorDataset(*samples()), transform=lambda inputs: inputs - inputs.mean(0))


def works_on_a_device():
    mean = samples()[0].mean(0)
    return DataBundle(SPEC, TensorDataset(*samples()), transform=lambda inputs: inputs - mean)


def works_on_a_device_2():
    scale = torch.ones(3)

    def augment(inputs, targets, draws):
        return inputs + draws.uniform(3) * scale, targets

    return DataBundle(SPEC, TensorDataset(*samples()), augment=augment)


def augment_belongs_to_the_sample_2():
    def augment(inputs, targets, draws):
        own = torch.Generator().manual_seed(0)
        return inputs + torch.rand(inputs.shape, generator=own).to(inputs.device), targets

    return DataBundle(SPEC, TensorDataset(*samples()), augment=augment)


def augment_belongs_to_the_sample_3():
    def augment(inputs, targets, draws):
        torch.manual_seed(0)
        return inputs + torch.rand(inputs.shape).to(inputs.device), targets

    return DataBundle(SPEC, TensorDataset(*samples()), augment=augment)


def augment_belongs_to_the_sample_4():
    def augment(inputs, targets, draws):
        return inputs + torch.initial_seed() % 7, targets

    return DataBundle(SPEC, TensorDataset(*samples()), augment=augment)


def augment_belongs_to_the_sample_5():
    def augment(inputs, targets, draws):
        return inputs + draws.uniform(3).mean(0), targets

    return DataBundle(SPEC, TensorDataset(*samples()), augment=augment)


def random_state_is_left_alone():
    inputs, targets = samples()
    order = torch.randperm(len(inputs))
    splits = [TensorDataset(inputs[part], targets[part]) for part in (order[4:], order[:4])]
    return DataBundle(SPEC, splits[0], splits[1])


def same_in_another_process():
    names = tuple({"cat", "dog"})
    numbers = torch.tensor([names.index("cat"), names.index("dog")])
    inputs, targets = samples()
    return DataBundle(DataSpec((3,), "vector", "class", 2, names), TensorDataset(inputs, numbers[targets]))


def same_in_another_process_2():
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"]
    numbers = {word: number for number, word in enumerate(set(words))}
    inputs = torch.tensor([[numbers[word] for word in words[:3]] for _ in range(12)]).float()
    return DataBundle(SPEC, TensorDataset(inputs, samples()[1]))


class Scaled(Preprocessor):
    """Good: the mean and the standard deviation of the training samples."""

    def __init__(self):
        self.mean, self.std = 0.0, 1.0

    def transform(self, inputs):
        return (inputs - self.mean) / self.std

    def read(self, sources):
        for source in sources:
            for number, row in enumerate(samples()[0]):
                yield Sample(f"{source}:{number}", row)


def scaled(kind=Scaled, spec=SPEC, targets=None, **attributes):
    inputs, classes = samples()
    preprocessor = kind()
    vars(preprocessor).update({"spec": spec, "mean": float(inputs.mean())} | attributes)
    split = TensorDataset(inputs, classes if targets is None else targets)
    return DataBundle(spec, split, transform=preprocessor.transform, preprocessor=preprocessor)


class Forgetful(Scaled):
    def state_dict(self):
        return {}


class Deaf(Scaled):
    def load_state_dict(self, state):
        pass


class Eager(Scaled):
    def __init__(self, mean):
        self.mean, self.std = mean, 1.0


def preprocessor_keeps_its_state():
    return scaled(Forgetful)


def preprocessor_keeps_its_state_2():
    return scaled(Deaf)


def preprocessor_keeps_its_state_3():
    return scaled(lambda: Eager(0.0))


def preprocessor_keeps_its_state_4():
    return replace(scaled(), spec=DataSpec((3,), "vector", "class", 2, ("a", "b")))


def preprocessor_keeps_its_state_5():
    return replace(scaled(), transform=None)


def preprocessor_keeps_its_state_6():
    class Local(Scaled):
        pass

    return scaled(Local)


class Short(Scaled):
    def decode(self, scores):
        return {"prediction": scores[1:, 0]}


class Wordless(Scaled):
    def decode_targets(self, targets):
        return ["a"]


class Misnamed(Scaled):
    def decode_targets(self, targets):
        return ["a"] * len(targets)


class Unscaled(Scaled):
    def decode_targets(self, targets):
        return targets[:, 0]


def preprocessor_decodes():
    return scaled(Short)


def preprocessor_decodes_2():
    return scaled(Wordless)


def preprocessor_decodes_3():
    return scaled(Misnamed, DataSpec((3,), "vector", "class", 2, ("no", "yes")))


def preprocessor_decodes_4():
    spec = DataSpec((3,), "vector", "real", 1, target_mean=(7.0,), target_std=(2.0,))
    return scaled(Unscaled, spec, torch.arange(12.0)[:, None])


class Rounding(Scaled):
    def read(self, sources):
        for sample in super().read(sources):
            yield sample._replace(inputs=sample.inputs + 0.1)


class Unhelpful(Scaled):
    def read(self, sources):
        for source in sources:
            yield Sample(str(source), error="it is no table")


class Mistaken(Scaled):
    def read(self, sources):
        for sample in super().read(sources):
            yield sample._replace(targets=torch.tensor(1))


class Unread(Scaled):
    read = Preprocessor.read


def preprocessor_reads_training_samples(*, path: Path):
    return scaled(Rounding)


def preprocessor_reads_training_samples_2(*, path: str):
    return scaled(Unhelpful)


def preprocessor_reads_training_samples_3(*, path: str):
    return scaled(Mistaken)


def preprocessor_reads_training_samples_4(*, path: str):
    return scaled(Unread)
