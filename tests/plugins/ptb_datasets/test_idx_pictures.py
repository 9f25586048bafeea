import gzip
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch
from torch.utils.data import TensorDataset

from ptb import ConfigError, DataError
from ptb.data.loader import BatchLoader
from ptb.data.sources import InMemorySamples, make_sources
from ptb.runs.fingerprint import fingerprint
from ptb_datasets import idx_pictures
from ptb_datasets.fashion_mnist import FASHION_MNIST, fashion_mnist
from ptb_datasets.mnist import MNIST, mnist
from ptb_datasets.splits import stratified_split

CLASS_NAMES, MEAN, STD = FASHION_MNIST.class_names, FASHION_MNIST.mean, FASHION_MNIST.std
DEBIAN_FOLDER = FASHION_MNIST.package[0]
every_set = pytest.mark.parametrize(
    ("build", "data"), [(mnist, MNIST), (fashion_mnist, FASHION_MNIST)], ids=["mnist", "fashion"]
)


def encoded(array):
    return bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def pair(count, seed):
    random = np.random.RandomState(seed)
    return random.randint(0, 256, (count, 28, 28)).astype(np.uint8), random.permutation(count).astype(np.uint8) % 10


def write(folder, train=None, test=None):
    for prefix, (pictures, labels) in (("train", train or pair(60, 0)), ("t10k", test or pair(20, 1))):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(encoded(pictures))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(encoded(labels)))
    return str(folder)


def tensors(split):
    held = InMemorySamples.of(split)
    return held.take(torch.arange(held.size))


@every_set
def test_samples_have_the_shapes_and_dtypes_of_the_spec(tmp_path, build, data):
    bundle = build(root=write(tmp_path), val_size=20)
    assert bundle.spec.input_shape == (1, 28, 28)
    assert (bundle.spec.inputs, bundle.spec.target, bundle.spec.output_size) == ("image", "class", 10)
    assert bundle.spec.class_names == data.class_names
    assert bundle.spec.class_counts == (4,) * 10
    assert {name: len(split) for name, split in bundle.splits.items()} == {"train": 40, "val": 20, "test": 20}
    for split in bundle.splits.values():
        inputs, targets, _ = tensors(split)
        assert (inputs.dtype, inputs.shape[1:]) == (torch.uint8, (1, 28, 28))
        assert (targets.dtype, targets.ndim) == (torch.int64, 1)


def test_without_validation_the_files_come_as_they_are(tmp_path):
    train, test = pair(60, 0), pair(20, 1)
    bundle = fashion_mnist(root=write(tmp_path, train, test), val_size=0)
    assert bundle.val is None
    for split, (pictures, labels) in ((bundle.train, train), (bundle.test, test)):
        assert np.array_equal(tensors(split)[0].squeeze(1).numpy(), pictures)
        assert np.array_equal(tensors(split)[1].numpy(), labels)


def test_validation_is_drawn_from_training_as_many_of_each_class(tmp_path):
    train = pair(60, 0)
    bundle = fashion_mnist(root=write(tmp_path, train), val_size=20)
    assert tensors(bundle.val)[1].bincount().tolist() == [2] * 10
    together = torch.cat((tensors(bundle.train)[0], tensors(bundle.val)[0])).flatten(1)
    assert sorted(together.tolist()) == sorted(train[0].reshape(60, -1).tolist())


def test_the_split_depends_on_its_seed_alone(tmp_path):
    root = write(tmp_path)
    first, again, other = (fashion_mnist(root=root, val_size=20, split_seed=seed) for seed in (0, 0, 1))
    assert torch.equal(tensors(first.val)[0], tensors(again.val)[0])
    assert not torch.equal(tensors(first.val)[0], tensors(other.val)[0])


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("val_size", [0, 20])
def test_batches_and_fingerprint_are_those_of_splits_that_are_copied(tmp_path, zipped, val_size):
    (pictures, labels), test = pair(60, 0), pair(20, 1)
    root = write(tmp_path, (pictures, labels), test)
    if zipped:
        for path in tmp_path.glob("*-images-*"):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    bundle = fashion_mnist(root=root, val_size=val_size, split_seed=3 if val_size else 0)
    parts = stratified_split(labels, (val_size,), 3) if val_size else [np.arange(60)]
    copied = {
        name: TensorDataset(torch.from_numpy(x[:, None].copy()), torch.from_numpy(y.astype(np.int64)))
        for name, (x, y) in zip(
            [*("train", "val")[: len(parts)], "test"],
            [*((pictures[part], labels[part]) for part in parts), test],
            strict=True,
        )
    }
    assert fingerprint(bundle.splits) == fingerprint(copied)
    for name, split in bundle.splits.items():
        ours, theirs = (
            list(
                BatchLoader(
                    make_sources({name: s}, torch.device("cpu"))[name], batch_size=7, seed=5, shuffle=True
                ).epoch(2)
            )
            for s in (split, copied[name])
        )
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert all(map(torch.equal, one.tensors(), other.tensors()))


def test_training_and_validation_share_their_pictures(tmp_path):
    bundle = fashion_mnist(root=write(tmp_path), val_size=20)
    assert InMemorySamples.of(bundle.train).tensors.inputs is InMemorySamples.of(bundle.val).tensors.inputs
    assert bundle.train.indices.dtype == torch.int64


def test_what_is_written_to_a_picture_does_not_reach_the_file(tmp_path):
    root = write(tmp_path)
    before = (tmp_path / "train-images-idx3-ubyte").read_bytes()
    inputs, _ = fashion_mnist(root=root, val_size=0).train[0]
    inputs += 1
    assert inputs.flatten()[0] == (before[16] + 1) % 256
    assert (tmp_path / "train-images-idx3-ubyte").read_bytes() == before


def test_plain_pictures_are_not_read_before_they_are_used(tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell how much memory was used")
    count, side = 3200, 256  # 200 MiB of zeros that take no place on the disk
    write(tmp_path, test=(np.zeros((20, side, side), np.uint8), np.zeros(20, np.uint8)))
    with (tmp_path / "train-images-idx3-ubyte").open("wb") as stream:
        stream.write(bytes((0, 0, 8, 3)) + b"".join(n.to_bytes(4, "big") for n in (count, side, side)))
        stream.truncate(16 + count * side * side)
    labels = gzip.compress(encoded((np.arange(count) % 10).astype(np.uint8)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(labels)
    code = (
        "import re, sys\nfrom pathlib import Path\nfrom ptb_datasets.mnist import mnist\n"
        "peak = lambda: 1024 * int(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = peak()\nbundle = mnist(root=sys.argv[1], val_size=1000)\nprint(peak() - before)\n"
        "copy = bundle.train.dataset.tensors[0].clone()\nprint(peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    loaded, read = map(int, done.stdout.split())
    assert loaded < 20 << 20
    assert read > 150 << 20  # what this measures is seen to grow


def test_prepare_normalises(tmp_path):
    bundle = fashion_mnist(root=write(tmp_path), val_size=0)
    inputs = tensors(bundle.train)[0]
    torch.testing.assert_close(bundle.transform(inputs), (inputs / 255 - MEAN) / STD)


def test_a_missing_file_is_named(tmp_path):
    root = write(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte is missing, and so is t10k-images-idx3-ubyte\.gz"):
        fashion_mnist(root=root, val_size=20)


def test_pictures_and_labels_must_be_as_many(tmp_path):
    root = write(tmp_path, train=(pair(60, 0)[0], pair(59, 0)[1]))
    with pytest.raises(DataError, match="do not belong together: pictures 60, labels 59"):
        fashion_mnist(root=root, val_size=20)


def test_a_label_above_9_is_told_with_its_place(tmp_path):
    pictures, labels = pair(20, 1)
    labels[7] = 10
    with pytest.raises(DataError, match="label 10 at place 7; valid are 0 to 9"):
        fashion_mnist(root=write(tmp_path, test=(pictures, labels)), val_size=20)


def test_files_without_pictures_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds no values"):
        fashion_mnist(root=write(tmp_path, train=pair(0, 0)), val_size=0)


@pytest.mark.parametrize("val_size", [60, 5000])
def test_validation_must_leave_something_to_train_on(tmp_path, val_size):
    with pytest.raises(
        DataError, match=f"dataset.val_size={val_size} leaves none of the training pictures in .*, 60 in all"
    ):
        fashion_mnist(root=write(tmp_path), val_size=val_size)


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No files but those in the folder that stands for the user's own."""
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name: tmp_path / "own" / name)
    for name, data in (("mnist", MNIST), ("fashion_mnist", FASHION_MNIST)):
        package = data.package and (tmp_path / "debian", data.package[1])
        monkeypatch.setattr(f"ptb_datasets.{name}.{name.upper()}", replace(data, package=package))
    return tmp_path / "own" / "ptb"


@every_set
def test_where_it_is_nowhere_the_message_tells_all_ways_to_get_it(nowhere, build, data):
    with pytest.raises(DataError) as caught:
        build()
    message = str(caught.value)
    assert "dataset.download=true" in message
    assert data.address in message
    assert str(nowhere / data.name) in message
    assert "dataset.root=" in message
    assert ("apt-get install dataset-fashion-mnist" in message) == (data is FASHION_MNIST)


@every_set
def test_download_fetches_what_is_missing_and_is_not_asked_for_more(nowhere, monkeypatch, tmp_path, build, data):
    published, fetched = tmp_path / "published", []
    published.mkdir()
    write(published)

    def fetch(url, sha256, size, path):
        archive = next(item for item in data.archives if f"{item.name}.gz" == path.name)
        assert (url, sha256, size) == (f"{data.address}{path.name}", archive.sha256, archive.size)
        fetched.append(path.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = next(published.glob(f"{archive.name}*")).read_bytes()
        path.write_bytes(content if content.startswith(b"\x1f\x8b") else gzip.compress(content))

    monkeypatch.setattr(idx_pictures, "fetch", fetch)
    assert len(build(download=True, val_size=0).train) == 60
    assert sorted(fetched) == sorted(f"{item.name}.gz" for item in data.archives)
    assert {path.name for path in (nowhere / data.name).iterdir()} == set(fetched)
    (nowhere / data.name / fetched.pop()).unlink()
    gone, fetched[:] = 4 - len(fetched), []
    assert len(build(download=True, val_size=0).train) == 60
    assert (gone, len(fetched)) == (1, 1)
    build(val_size=0)
    assert len(fetched) == 1


@every_set
def test_a_download_that_fails_leaves_the_folder_as_it_was(nowhere, monkeypatch, build, data):
    def fetch(url, sha256, size, path):
        raise DataError("no network")

    monkeypatch.setattr(idx_pictures, "fetch", fetch)
    with pytest.raises(DataError, match="no network"):
        build(download=True)
    assert not nowhere.exists()


@every_set
def test_addresses_are_https_and_the_files_are_pinned(build, data):
    assert data.address.startswith("https://")
    assert data.address.endswith("/")
    assert [item.name for item in data.archives] == [
        f"{prefix}-{kind}-ubyte" for prefix in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ]
    assert all(len(bytes.fromhex(item.sha256)) == 32 and item.size > 4000 for item in data.archives)


def test_the_user_s_own_files_come_before_debian_s_unless_some_are_missing(nowhere, tmp_path):
    own, debian = nowhere / "fashion-mnist", tmp_path / "debian"
    debian.mkdir()
    write(debian, train=pair(50, 0))
    assert len(fashion_mnist(val_size=0).train) == 50
    own.mkdir(parents=True)
    write(own)
    assert len(fashion_mnist(val_size=0).train) == 60
    (own / "t10k-images-idx3-ubyte").unlink()
    assert len(fashion_mnist(val_size=0).train) == 50


def test_the_fashion_archives_are_debian_s_with_the_name_that_debian_took_out_of_their_headers():
    if not DEBIAN_FOLDER.is_dir():
        pytest.skip(f"{DEBIAN_FOLDER} is not there: apt-get install dataset-fashion-mnist")
    modified = {"train": 1504176606, "t10k-images": 1504176627, "t10k-labels": 1504176627}
    for archive in FASHION_MNIST.archives:
        stripped = (DEBIAN_FOLDER / f"{archive.name}.gz").read_bytes()
        when = next(value for prefix, value in modified.items() if archive.name.startswith(prefix))
        head = b"\x1f\x8b\x08\x08" + when.to_bytes(4, "little") + stripped[8:10] + archive.name.encode() + b"\0"
        assert hashlib.sha256(head + stripped[10:]).hexdigest() == archive.sha256
        assert len(head + stripped[10:]) == archive.size


def test_the_real_files_are_those_of_the_paper():
    if not DEBIAN_FOLDER.is_dir():
        pytest.skip(f"{DEBIAN_FOLDER} is not there: apt-get install dataset-fashion-mnist")
    bundle = fashion_mnist(root=str(DEBIAN_FOLDER))
    assert {name: len(split) for name, split in bundle.splits.items()} == {"train": 55000, "val": 5000, "test": 10000}
    assert tensors(bundle.val)[1].bincount().tolist() == [500] * 10
    assert tensors(bundle.test)[1].bincount().tolist() == [1000] * 10
    pixels = torch.cat((tensors(bundle.train)[0], tensors(bundle.val)[0])).float() / 255
    assert pixels.mean().item() == pytest.approx(MEAN, abs=5e-5)
    assert pixels.std().item() == pytest.approx(STD, abs=5e-5)


def test_training_and_test_pictures_of_two_sizes_are_refused(tmp_path):
    small = (np.zeros((20, 20, 20), np.uint8), np.zeros(20, np.uint8))
    with pytest.raises(DataError, match=r"two sizes .*\(1, 28, 28\) for training, \(1, 20, 20\) for the test"):
        fashion_mnist(root=write(tmp_path, test=small), val_size=10)


def test_a_home_that_does_not_exist_is_a_data_error():
    with pytest.raises(DataError, match=r"dataset\.root=~no-such-user-here"):
        fashion_mnist(root="~no-such-user-here/x")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_a_seed_that_chooses_nothing_is_refused(built_in, name):
    with pytest.raises(
        ConfigError, match=r"dataset\.split_seed: chooses the pictures for validation, and val_size is 0"
    ):
        built_in.build("dataset", name, val_size=0, split_seed=1)
