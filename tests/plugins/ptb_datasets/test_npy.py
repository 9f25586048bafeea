import os
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ptb_datasets.npy import BadNpy, map_npy, read_npz

PLAIN = [np.bool_, *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8"]
NUMBERS = np.arange(24, dtype=np.float32).reshape(4, 6)


def saved(folder, array, **options):
    path = Path(folder) / "x.npy"
    np.save(path, array, **options)
    return path


@given(st.sampled_from(PLAIN).flatmap(lambda kind: arrays(kind, array_shapes(min_dims=1, max_dims=4, max_side=5))))
def test_what_numpy_saved_is_mapped(array):
    with tempfile.TemporaryDirectory() as folder:
        path = saved(folder, np.ascontiguousarray(array))
        mapped = map_npy(path)
        before = path.read_bytes()
        assert (mapped.dtype, mapped.shape) == (array.dtype, array.shape)
        assert mapped.tobytes() == array.tobytes()
        mapped[...] = 0
        assert path.read_bytes() == before


@given(
    st.sampled_from(["f2", "f4", "f8", "i2", "i4", "u8", "u1"]),
    st.sampled_from("<>"),
    st.sampled_from("CF"),
    array_shapes(min_dims=1, max_dims=4, max_side=4),
)
def test_an_array_in_another_order_is_copied_into_the_usual_one(kind, byte_order, order, shape):
    array = np.arange(np.prod(shape)).reshape(shape)
    with tempfile.TemporaryDirectory() as folder:
        read = map_npy(saved(folder, np.array(array, f"{byte_order}{kind}", order=order)))
    assert (read.dtype, read.flags.c_contiguous, read.flags.writeable) == (np.dtype(kind), True, True)
    assert np.array_equal(read, array)


def test_a_header_of_version_2_is_read(tmp_path):
    with (tmp_path / "x.npy").open("wb") as stream:
        np.lib.format.write_array(stream, NUMBERS, version=(2, 0))
    assert np.array_equal(map_npy(tmp_path / "x.npy"), NUMBERS)


def test_a_file_larger_than_the_memory_is_mapped(tmp_path):
    if not hasattr(os, "sysconf"):
        pytest.skip("this system does not tell how much memory there is")
    length = 2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with (tmp_path / "x.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (length,)})
        try:
            stream.truncate(stream.tell() + length)  # zeros that take no place on the disk
        except OSError as error:
            pytest.skip(f"no file of {length:,} bytes can be made: {error}")
    array = map_npy(tmp_path / "x.npy")
    array[-1] += 1
    assert (len(array), int(array[-1]), int(array[length // 2])) == (length, 1, 0)


def header(text, version=1):
    content = text.encode() + b"\n"
    return b"\x93NUMPY" + bytes((version, 0)) + len(content).to_bytes(2 if version == 1 else 4, "little") + content


def claim(shape="(4,)", kind="'<f4'", order="False"):
    return header(f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}}}")


HOSTILE = {
    "empty": (b"", "is not a .npy file: it begins with nothing"),
    "text": (b"hello there", "is not a .npy file: it begins with 68 65"),
    "pickle": (b"\x80\x04\x95\x00\x00", r"is not a .npy file.*save the array by numpy.save\(path, array\)"),
    "npz": (b"PK\x03\x04" + bytes(30), "is a .npz archive, and not a .npy file"),
    "magic-cut": (b"\x93NUMPY\x01", "is not a .npy file"),
    "version-3": (b"\x93NUMPY\x03\0" + bytes(60), "is of version 3 of the format"),
    "header-cut": (claim()[:20], "has a damaged header"),
    "no-header": (b"\x93NUMPY\x01\0", "has a damaged header"),
    "header-of-noise": (header("hello"), "has a damaged header"),
    "header-that-runs-code": (header("__import__('os').abort()"), "has a damaged header"),
    "header-nested": (header("(" * 9000), "has a damaged header"),
    "long-header": (header(" " * 70_000, 2), "has a damaged header"),
    "negative": (claim("(-4,)") + bytes(16), "holds no values"),
    "no-type": (claim(kind="'hello'"), "has a damaged header"),
    "objects": (claim(kind="'|O'") + bytes(16), "holds objects, which only a program can read; valid are"),
    "text-values": (claim(kind="'<U4'") + bytes(64), "holds values of type <U4; valid are"),
    "complex": (claim(kind="'<c8'") + bytes(32), "holds values of type complex64"),
    "dates": (claim(kind="'<M8[s]'") + bytes(32), "holds values of type datetime64"),
    "records": (claim(kind="[('a', '<f4')]") + bytes(16), "holds values of type"),
    "wide": (claim(kind="'<f16'") + bytes(64), "holds values of type float128|damaged header"),
    "no-values": (claim("(0, 5)"), r"holds no values: its shape is \(0, 5\)"),
    "cut": (claim() + bytes(15), r"is cut short: its header says float32 \[4\], that is 16 bytes; there are 15"),
    "huge": (claim("(2**40,)".replace("2**40", str(2**40))) + bytes(16), "is cut short.*4,398,046,511,104 bytes"),
    "overflow": (claim(f"({2**62}, {2**62})") + bytes(16), "is cut short"),
    "two-arrays": (claim() + bytes(17), "holds more than one array.*and 1 more follow"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_told_for_what_it_is(tmp_path, content, message):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(BadNpy, match=message) as caught:
        map_npy(tmp_path / "x.npy")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (claim("(2, 2)", kind="'>f4'") + bytes(16), r"in the byte order of other machines and .*newbyteorder\('='\)"),
        (claim("(2, 2)", order="True") + bytes(16), "is in Fortran order and too large .*ascontiguousarray"),
    ],
    ids=["byte-order", "fortran"],
)
def test_what_is_too_large_to_be_copied_is_refused_with_the_remedy(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr("ptb_datasets.npy.machine_memory", lambda: 60.0)
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(BadNpy, match=message):
        map_npy(tmp_path / "x.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_inputs_and_targets_are_read_from_an_archive(tmp_path, save):
    save(tmp_path / "x.npz", inputs=NUMBERS, targets=np.arange(4), more=np.arange(5))
    read = read_npz(tmp_path / "x.npz")
    assert read.keys() == {"inputs", "targets"}
    assert np.array_equal(read["inputs"], NUMBERS)
    save(tmp_path / "x.npz", inputs=NUMBERS)
    assert read_npz(tmp_path / "x.npz").keys() == {"inputs"}


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inputs.npy", bytes(2**20))


def objects(path):
    np.savez(path, inputs=np.array([{}], dtype=object))


ARCHIVES = {
    "text": (lambda path: path.write_text("hello"), "cannot be read: File is not a zip file"),
    "nothing": (lambda path: None, "cannot be read: No such file"),
    "cut": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(30)), "cannot be read"),
    "other-names": (lambda path: np.savez(path, x=NUMBERS), r"has no array 'inputs', but x; save it by numpy.savez"),
    "objects": (objects, "cannot be read: Object arrays"),
    "bomb": (bomb, "unpacks to 1,048,576 bytes, more than a quarter of the memory"),
}


@pytest.mark.parametrize(("make", "message"), ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_that_cannot_be_used_is_said(tmp_path, monkeypatch, make, message):
    monkeypatch.setattr("ptb_datasets.npy.machine_memory", lambda: 2.0**20)
    make(tmp_path / "x.npz")
    with pytest.raises(BadNpy, match=message):
        read_npz(tmp_path / "x.npz")


def test_what_to_type_for_an_archive_works_in_a_shell(tmp_path):
    np.savez(tmp_path / "it's all.npz", x_train=NUMBERS, y=np.arange(4))
    with pytest.raises(BadNpy, match=r"is a .npz archive with the arrays x_train, y, and not a .npy file") as caught:
        map_npy(tmp_path / "it's all.npz")
    command = str(caught.value).partition("save each by itself: ")[2]
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, cwd=tmp_path, check=True)
    assert np.array_equal(map_npy(tmp_path / "x_train.npy"), NUMBERS)


def test_values_that_begin_at_an_odd_place_are_refused(tmp_path):
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}"
    lengths = {len(text + " " * more) + 11: header(text + " " * more) for more in range(4)}
    for place, start in lengths.items():
        (tmp_path / "x.npy").write_bytes(start + bytes(16))
        if place % 4:
            with pytest.raises(BadNpy, match=f"its values begin at byte {place}; save it again"):
                map_npy(tmp_path / "x.npy")
        else:
            assert map_npy(tmp_path / "x.npy").tolist() == [0] * 4


def make_fifo(path):
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [(Path.mkdir, "is not a file"), (make_fifo, "is not a file"), (lambda path: None, "cannot be read: No such file")],
    ids=["folder", "fifo", "nothing"],
)
def test_what_is_no_file_is_told(tmp_path, make, message):
    make(tmp_path / "x.npy")
    with pytest.raises(BadNpy, match=message):
        map_npy(tmp_path / "x.npy")


def test_a_name_that_cannot_be_is_told():
    with pytest.raises(BadNpy, match=r"cannot be read: .*null"):
        map_npy(Path("nul\0byte"))


@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")
@given(st.dictionaries(st.integers(0, 127), st.integers(1, 255), min_size=1))
def test_flipped_bits_in_the_header_raise_nothing_else(flips):
    with tempfile.TemporaryDirectory() as folder:
        path = saved(folder, NUMBERS)
        content = bytearray(path.read_bytes())
        for place, bits in flips.items():
            content[place] ^= bits
        path.write_bytes(content)
        with suppress(BadNpy):
            assert map_npy(path).nbytes == NUMBERS.nbytes
