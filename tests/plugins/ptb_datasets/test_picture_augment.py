import numpy as np
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from ptb import SampleGenerator
from ptb.data.loader import BatchLoader
from ptb.data.sources import make_sources
from ptb_datasets.images import Normalize
from ptb_datasets.picture_augment import Augment
from ptb_datasets.picture_mix import Mix, beta

CPU = torch.device("cpu")
NORMALIZE = Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


class Listed(torch.utils.data.Dataset):
    """Samples that are not in memory."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index][0], int(self.samples[index][1])


def split(count=23, channels=3, size=(8, 10)):
    random = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (count + 4, channels, *size), generator=random, dtype=torch.uint8)
    return Subset(TensorDataset(pictures, torch.arange(count + 4) % 3), torch.arange(count) + 2)


def generator(count=5, epoch=1):
    return SampleGenerator(3, epoch, torch.arange(count))


CHANGES = {
    "flip": {"flip": True},
    "shift": {"pad_crop": 3},
    "rotate": {"rotate": 30.0},
    "colour": {"colour_jitter": 0.4},
    "all": {"flip": True, "pad_crop": 2, "rotate": 10.0, "colour_jitter": 0.2},
}


def made(changes, samples, mixing):
    mix = Mix(samples, NORMALIZE, 3, **mixing) if mixing else None
    return Augment(NORMALIZE, **changes, mix=mix)


def epoch_of(samples, augment, batch_size, placement):
    sources = make_sources({"train": samples}, CPU, num_workers=0, placement=placement)
    loader = BatchLoader(
        sources["train"], batch_size=batch_size, seed=1, shuffle=True, transform=NORMALIZE, augment=augment
    )
    return [torch.cat(parts) for parts in zip(*(batch[:2] for batch in loader.epoch(2)), strict=True)]


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.3}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}], ids=str)
def test_a_sample_comes_out_the_same_in_whatever_batch_it_is_and_wherever_it_is_kept(changes, mixing):
    samples = split()
    wanted = epoch_of(samples, made(changes, samples, mixing), 23, "host")
    listed = Listed([samples[row] for row in range(len(samples))])
    for other, batch_size, placement in ((samples, 4, "device"), (samples, 1, "host"), (listed, 7, "workers")):
        got = epoch_of(other, made(changes, other, mixing), batch_size, placement)
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_samples_and_epochs_differ(changes):
    inputs = NORMALIZE(split()[3][0].expand(5, 3, 8, 10))
    augment = Augment(NORMALIZE, **changes)
    first, targets = augment(inputs, torch.arange(5), generator())
    assert targets.tolist() == [0, 1, 2, 3, 4]
    assert first.shape == inputs.shape
    assert first.dtype == torch.float32
    assert len(first.flatten(1).unique(dim=0)) > 1
    assert not torch.equal(first, augment(inputs, targets, generator(epoch=2))[0])
    assert torch.equal(first, augment(inputs, targets, generator())[0])


def test_a_flip_is_left_to_right():
    inputs = NORMALIZE(torch.stack([split()[row][0] for row in range(20)]))
    got = Augment(NORMALIZE, flip=True).alone(inputs, generator(20))
    same = [torch.equal(a, b) for a, b in zip(got, inputs, strict=True)]
    turned = [torch.equal(a, b.flip(-1)) for a, b in zip(got, inputs, strict=True)]
    assert all(a != b for a, b in zip(same, turned, strict=True))
    assert 4 < sum(turned) < 16


def test_a_shift_is_a_crop_of_the_padded_picture():
    inputs = NORMALIZE(torch.stack([split()[row][0] for row in range(20)]))
    background = (250, 128, 0)
    got = Augment(NORMALIZE, pad_crop=2, background=background).alone(inputs, generator(20))
    edge = NORMALIZE(torch.tensor(background).view(3, 1, 1))
    padded = torch.nn.functional.pad(inputs - edge, (2,) * 4) + edge
    seen = set()
    for each, whole in zip(got, padded, strict=True):
        places = [(y, x) for y in range(5) for x in range(5) if torch.equal(whole[:, y : y + 8, x : x + 10], each)]
        assert len(places) == 1
        seen |= set(places)
    assert len(seen) > 8


def test_a_rotation_is_about_the_centre():
    cv2 = pytest.importorskip("cv2")
    pixels = np.zeros((21, 21, 3), np.uint8)
    pixels[4:10, 6:16] = (200, 100, 50)
    inputs = NORMALIZE(torch.from_numpy(pixels).permute(2, 0, 1).expand(6, 3, 21, 21))
    got = NORMALIZE.undo(Augment(NORMALIZE, rotate=90.0).alone(inputs, generator(6))) * 255
    angles = (generator(6).uniform(1, 1) * 2 - 1) * 90
    for each, angle in zip(got, angles.flatten().tolist(), strict=True):
        turn = cv2.getRotationMatrix2D((10, 10), -angle, 1)
        wanted = cv2.warpAffine(pixels.astype(np.float32), turn, (21, 21), flags=cv2.INTER_LINEAR)
        assert np.abs(each.permute(1, 2, 0).numpy() - wanted).mean() < 2


def test_colours_change_by_the_formula_and_stay_in_range():
    inputs = NORMALIZE(torch.stack([split()[row][0] for row in range(6)]))
    got = NORMALIZE.undo(Augment(NORMALIZE, colour_jitter=0.5).alone(inputs, generator(6)))
    factors = 1 + (generator(6).uniform(3, 1, 1) * 2 - 1) * 0.5
    values = (NORMALIZE.undo(inputs) * factors[:, :1] - 0.5) * factors[:, 1:2] + 0.5
    grey = (values * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    wanted = ((values - grey) * factors[:, 2:] + grey).clamp(0, 1)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
    assert got.min() >= -1e-6
    assert got.max() <= 1 + 1e-6


def test_grey_pictures_change_too():
    plain = Normalize(0.5, 0.5)
    inputs = plain(torch.stack([split(channels=1)[row][0] for row in range(6)]))
    augment = Augment(plain, True, 2, 20.0, 0.3, (255, 255, 255))
    assert augment.alone(inputs, generator(6)).shape == inputs.shape


@pytest.mark.parametrize("mixing", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}], ids=str)
def test_mixed_targets_are_probabilities_of_the_classes_of_both(mixing):
    samples = split(60)
    inputs = NORMALIZE(torch.stack([samples[row][0] for row in range(20)]))
    targets = torch.tensor([int(samples[row][1]) for row in range(20)])
    mix = Mix(samples, NORMALIZE, 3, **mixing)
    pictures, mixed = mix(inputs, targets, generator(20), lambda pictures, generator: pictures)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed.sum(1), torch.ones(20))
    assert pictures.shape == inputs.shape
    chosen = generator(20).integers(0, 60, 1).flatten().tolist()
    for row, partner in enumerate(chosen):
        other, label = samples[partner]
        own = mixed[row, targets[row]] if label != targets[row] else None
        if own is None:
            continue
        if "cutmix" not in mixing:
            wanted = inputs[row] * own + NORMALIZE(other) * (1 - own)
            torch.testing.assert_close(pictures[row], wanted, atol=1e-5, rtol=0)
        elif "mixup" not in mixing:
            kept = (pictures[row] == inputs[row]).all(0).float().mean()
            assert abs(float(kept) - float(own)) < 0.02


def test_partners_come_from_the_whole_split_and_belong_to_the_sample():
    chosen = SampleGenerator(0, 1, torch.arange(4000)).integers(0, 50, 1).flatten()
    assert chosen.bincount(minlength=50).min() > 40


@pytest.mark.parametrize("a", [0.1, 0.2, 1.0, 2.0, 8.0])
def test_shares_are_from_the_beta_distribution(a):
    shares = beta(a, SampleGenerator(0, 1, torch.arange(20_000))).flatten().double()
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert abs(shares.mean() - 0.5) < 0.01
    assert abs(shares.var() - 1 / (4 * (2 * a + 1))) < 0.006
