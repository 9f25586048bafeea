import gzip
import tempfile
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ptb import DataError
from ptb_datasets.idx import read_idx

MIB = 1 << 20
PICTURES = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)


def header(*sizes, magic=b"\0\0\x08"):
    return magic + bytes((len(sizes),)) + b"".join(size.to_bytes(4, "big") for size in sizes)


def encoded(array):
    return header(*array.shape) + array.tobytes()


def saved(folder, content, zipped=False):
    path = Path(folder) / ("pictures.gz" if zipped else "pictures")
    path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return path


def peak_while_refused(path, message):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message):
            read_idx(path, 3)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@given(arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, max_side=6)), st.booleans())
def test_what_was_written_is_read(array, zipped):
    with tempfile.TemporaryDirectory() as folder:
        read = read_idx(saved(folder, encoded(array), zipped), array.ndim)
    assert read.dtype == np.uint8
    assert read.flags.writeable
    assert np.array_equal(read, array)


def test_files_larger_than_a_chunk_are_read_whole(tmp_path):
    array = np.random.RandomState(0).randint(0, 256, (3, 1000, 1000)).astype(np.uint8)
    assert np.array_equal(read_idx(saved(tmp_path, encoded(array)), 3), array)


HOSTILE = {
    "empty": (b"", "begins with nothing"),
    "text": (b"hello there", "not an IDX file"),
    "floats": (header(1, 1, 1, magic=b"\0\0\x0d") + b"\0\0\0\0", "begins with 00 00 0d 03"),
    "other-dimensions": (encoded(PICTURES[0]), "begins with 00 00 08 02, expected 00 00 08 03"),
    "magic-cut": (b"\0\0", "begins with 00 00, expected"),
    "header-cut": (header(2, 3, 5)[:9], "ends inside its header"),
    "values-cut": (encoded(PICTURES)[:-1], r"\(2, 3, 5\), that is 30 bytes"),
    "no-values": (header(2, 3, 5), r"\(2, 3, 5\), that is 30 bytes"),
    "one-too-many": (encoded(PICTURES) + b"\0", "more follow"),
    "none-but-huge": (header(0, 2**32 - 1, 2**32 - 1), "holds no values"),
    "none-but-more": (header(0, 3, 5) + b"\0", "holds no values"),
}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_damaged_files_are_data_errors_that_name_the_file(tmp_path, content, message, zipped):
    path = saved(tmp_path, content, zipped)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_a_header_that_claims_too_much_is_refused_before_anything_is_allocated(tmp_path, zipped):
    path = saved(tmp_path, header(2**31, 28, 28) + bytes(1000), zipped)
    assert peak_while_refused(path, r"1,683,627,180,032 bytes; (the file has|there are) [\d,]+") < MIB


def test_a_zipped_claim_that_could_be_true_is_not_believed_either(tmp_path):
    path = saved(tmp_path, header(1, 1, 40_000) + np.random.RandomState(0).bytes(100), zipped=True)
    assert path.stat().st_size * 1032 > 40_000
    assert peak_while_refused(path, "cut short.*40,000 bytes; there are 100") < MIB


def test_a_bomb_is_not_unpacked(tmp_path):
    path = saved(tmp_path, header(1, 2, 5) + bytes(64 * MIB), zipped=True)
    assert peak_while_refused(path, "10 bytes of values, and more follow") < MIB


def test_a_bomb_that_tells_its_size_is_not_unpacked_either(tmp_path, monkeypatch):
    monkeypatch.setattr("ptb_datasets.idx.SUSPECT_BYTES", MIB)
    path = saved(tmp_path, header(4, 1024, 1024) + bytes(4 * MIB), zipped=True)
    assert peak_while_refused(path, r"would unpack to 4,194,304, far more than pictures do; .*\(gunzip\)") < MIB
    assert read_idx(saved(tmp_path, header(4, 1024, 1024) + bytes(4 * MIB)), 3).shape == (4, 1024, 1024)


def test_large_pictures_that_shrink_as_pictures_do_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("ptb_datasets.idx.SUSPECT_BYTES", MIB)
    values = np.random.RandomState(0).randint(0, 4, (2, 1024, 1024)).astype(np.uint8)
    assert (read_idx(saved(tmp_path, encoded(values), zipped=True), 3) == values).all()


@pytest.mark.parametrize("left_out", [1, 8, 12, 1500, 3000])
def test_a_zipped_file_that_is_cut_is_a_data_error(tmp_path, left_out):
    path = saved(tmp_path, header(3, 10, 100) + np.random.RandomState(0).bytes(3000), zipped=True)
    assert len(read_idx(path, 3)) == 3
    path.write_bytes(path.read_bytes()[:-left_out])
    with pytest.raises(DataError, match=r"pictures\.gz: Compressed file ended"):
        read_idx(path, 3)


def test_a_zipped_file_with_a_wrong_checksum_is_a_data_error(tmp_path):
    path = saved(tmp_path, encoded(PICTURES), zipped=True)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        read_idx(path, 3)


def test_a_plain_file_named_gz_is_a_data_error(tmp_path):
    path = tmp_path / "pictures.gz"
    path.write_bytes(encoded(PICTURES))
    with pytest.raises(DataError, match=r"(?i)not a gzipped file"):
        read_idx(path, 3)


@pytest.mark.parametrize("name", ["folder", "folder.gz"])
def test_a_folder_is_a_data_error(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="Is a directory"):
        read_idx(tmp_path / name, 3)


def test_a_file_that_is_not_there_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_idx(tmp_path / "nothing", 3)


@given(st.dictionaries(st.integers(0, 15), st.integers(1, 255), min_size=1), st.booleans())
def test_flipped_bits_in_the_header_are_refused_or_read_the_same_bytes(flips, zipped):
    content = bytearray(encoded(PICTURES))
    for place, bits in flips.items():
        content[place] ^= bits
    with tempfile.TemporaryDirectory() as folder:
        path = saved(folder, bytes(content), zipped)
        with suppress(DataError):
            assert read_idx(path, 3).tobytes() == PICTURES.tobytes()


@given(st.binary(max_size=64), st.booleans())
def test_flipped_bits_in_a_zipped_file_raise_nothing_but_data_errors(noise, after_the_magic):
    content = gzip.compress(encoded(PICTURES), mtime=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.gz"
        path.write_bytes(content[:10] + noise if after_the_magic else content[:-8] + noise)
        with pytest.raises(DataError):
            read_idx(path, 3)
