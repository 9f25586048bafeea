"""Files from others, through the commands that read them: nothing in them runs, hangs, or fills the memory.

In the quick part each file goes through one of the commands that read its kind, in turn; in the long part through all.
"""

import ast
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from gzip import compress
from importlib.metadata import entry_points
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save

import ptb

MEGABYTES = 300  # above what the same command needs for a harmless file
SECONDS = 100  # a machine may be busy; what hangs does so for ever
# cv2 is not among them: image-folder sets its limits before it is imported.
PRELOADED = (
    *(
        "ptb.runs.start",
        "ptb.runs.evaluate",
        "ptb_import_torch.torch_file",
        "sklearn.datasets",
        "rich.progress",
        "ptb_models.linear",
        "ptb_losses.cross_entropy",
    ),
    *(
        "ptb_initializers.weights_file",
        "ptb_datasets.shipped_tables",
        "ptb_schedulers.constant",
        "ptb_metrics.accuracy",
    ),
    *(f"ptb_{kind}s.settings" for kind in ("dataset", "model", "initializer", "optimizer", "scheduler", "metric")),
    *("ptb_losses.settings", "ptb_datasets.mnist", "ptb_datasets.arrays", "ptb_datasets.csv_table"),
    *("ptb_predict.evaluate", "ptb_report.observer", "pyecharts.charts", "jinja2", "torch.profiler"),
    *("ptb_schedulers.cosine", "packaging.requirements"),
    *(point.module for point in entry_points(group="ptb") if point.dist.name == "pytorch-basics"),
)
ROOT = Path(__file__).parents[1]

# Runs jobs, each in a fork of one process that has imported what they need, and notes what each of them does.
HARNESS = """
import gc, hashlib, json, os, resource, signal, sys, time

CODE = tuple({os.path.realpath(path) for path in [*sys.path, sys.prefix, sys.base_prefix, *sys.argv[1:]] if path})
EVENTS, FREE = None, ()
RUNS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn", "subprocess.Popen",
        "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "urllib.Request", "ctypes.dlopen",
        "pickle.find_class"}
WRITES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
          "os.chown", "shutil.rmtree", "shutil.move", "shutil.copyfile", "shutil.unpack_archive"}
FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

def within(path, folders):
    path = os.path.realpath(os.fsdecode(path))
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)

def told(code):  # without the addresses that repr has
    return [told(part) if hasattr(part, "co_consts") else repr(part) for part in (*code.co_names, *code.co_consts)]

def hook(event, arguments):
    if EVENTS is None:
        return
    detail = None
    if event in RUNS:
        detail = repr(arguments[:2])
    elif event == "exec":
        code = arguments[0]
        if not code.co_filename.startswith("<frozen") and not within(code.co_filename, CODE):
            detail = f"{code.co_filename} {told(code)}"
    elif event == "compile":
        source, name = arguments
        if name is not None and os.fsdecode(name) != "<unknown>" and not within(name, CODE):  # <unknown>: ast.parse
            detail = repr((source, name))[:300]
    elif event == "open":
        path, mode, flags = arguments
        if isinstance(path, (str, bytes)) and (flags or 0) & FLAGS and not within(path, FREE):
            detail = repr(path)
    elif event in WRITES:
        names = [name for name in arguments[:2] if isinstance(name, (str, bytes))]
        follows = event in ("os.truncate", "os.chmod", "os.chown", "shutil.copyfile")
        if not all(within(name if follows else os.path.dirname(os.fsdecode(name)) or ".", FREE) for name in names):
            detail = repr(names)
    if detail is not None:
        EVENTS.append([event, detail])

sys.addaudithook(hook)

def pwned(path):
    import builtins, ctypes, pickle, socket, subprocess
    kind, argument = path.split(":", 1)
    if kind == "pickle":
        pickle.loads(b"cbuiltins\\nlen\\n.")
    elif kind == "system":
        os.system("true")
    elif kind == "popen":
        subprocess.run(["true"])
    elif kind == "exec":
        builtins.exec("harmless = 1")
    elif kind == "module":
        sys.path.insert(0, argument); import of_the_data
    elif kind == "write":
        builtins.open(argument, "w").close()
    elif kind == "os.open":
        os.close(os.open(argument, os.O_WRONLY | os.O_CREAT))
    elif kind == "remove":
        os.path.exists(argument) and os.remove(argument)
    elif kind == "socket":
        try: socket.create_connection(("127.0.0.1", 9), 0.1)
        except OSError: pass
    elif kind == "dlopen":
        ctypes.CDLL(None)
    elif kind == "memory":
        b"x" * (int(argument) << 20)
    elif kind == "hang":
        time.sleep(600)
    elif kind == "raise":
        raise ValueError("planted")

from ptb.cli import main
from ptb.registry.discovery import find_plugins
from ptb.runs.provenance import content_hashes
content_hashes(next(found for found in find_plugins() if found.built_in))  # read once, not in each fork

def child(job, folder):
    global EVENTS
    os.chdir(job["cwd"])
    os.environ["HOME"] = os.path.join(folder, "home")
    null, out, err = os.open(os.devnull, os.O_RDONLY), *(
        os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in ("out", "err"))
    os.dup2(null, 0), os.dup2(out, 1), os.dup2(err, 2)
    code, EVENTS = 0, []
    try:
        pwned(job["planted"]) if "planted" in job else main(job["argv"], prog_name="ptb")
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        import traceback
        traceback.print_exc()
        code = 99
    found, EVENTS = EVENTS, None
    sys.stdout.flush(), sys.stderr.flush()
    with open(os.path.join(folder, "events"), "w") as stream:
        json.dump(found, stream)
    os._exit(code)

def carry_out(job, folder):
    pid = os.fork()
    if not pid:
        try:
            child(job, folder)
        finally:
            os._exit(98)
    begun, done = time.monotonic(), 0
    end = begun + job["seconds"]
    while not done and time.monotonic() < end:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        done or time.sleep(0.005)
    hung = not done
    if hung:
        os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
    texts = {}
    for name in ("out", "err", "events"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, errors="surrogateescape") as stream:
                texts[name] = stream.read()
            os.remove(path)
    print(json.dumps({**job, "hung": hung, "code": os.waitstatus_to_exitcode(status), "rss": usage.ru_maxrss,
        "out": texts.get("out", ""), "err": texts.get("err", ""), "events": json.loads(texts.get("events") or "[]")}),
        file=sys.__stdout__, flush=True)
for line in sys.stdin:
    request = json.loads(line)
    FREE = tuple(request["writable"])
    for name in request["preload"]:
        __import__(name)
    gc.freeze()  # otherwise a collection in a fork copies all of torch
    for job in request["jobs"]:
        carry_out(job, request["folder"])
"""


@pytest.fixture(scope="module")
def carried_out(tmp_path_factory):
    """Tells what became of each job, in order."""
    errors = tmp_path_factory.mktemp("harness") / "errors"
    # sys.path as the console script has it: without the folder in which it is started
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    with errors.open("w") as stream:
        harness = subprocess.Popen(
            [sys.executable, "-P", "-c", HARNESS, str(ROOT / "core"), str(ROOT / "plugins")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )

    def outcome():
        line = harness.stdout.readline()
        assert line, errors.read_text()
        return json.loads(line)

    def carry_out(jobs, folder, preload):
        (folder / "home").mkdir(parents=True, exist_ok=True)
        writable = [os.path.realpath(folder / name) for name in ("work", "home")]
        request = {"jobs": jobs, "folder": str(folder), "writable": writable, "preload": preload}
        harness.stdin.write(json.dumps(request) + "\n")
        harness.stdin.flush()
        return [outcome() for _ in jobs]

    yield carry_out
    harness.communicate(timeout=60)


def faults(outcome, harmless, may_succeed=False):
    """What is wrong with what a command did with a file, beside what it did with a harmless one."""
    extra = [event for event in outcome["events"] if event not in harmless["events"]]
    yield from (f"event {event}: {detail[:200]}" for event, detail in extra)
    if outcome["hung"]:
        yield "it hangs"
        return
    if outcome["code"] in (1, 98, 99) or outcome["code"] < 0:
        yield f"it ends with {outcome['code']}"
    if outcome["code"] == 0 and not may_succeed:
        yield "it is taken for good"
    if "Traceback" in outcome["err"]:
        yield "a traceback"
    if re.search(r"[\0-\x09\x0b-\x1f\x7f-\x9f]", outcome["out"] + outcome["err"]):
        yield "signs that steer a terminal"
    grown = (outcome["rss"] - harmless["rss"]) >> 10
    if grown >= MEGABYTES:
        yield f"{grown} MB more memory"


# --- what the files are made of ---------------------------------------------------------------------------------------


class Command:
    """A pickle of it runs a shell."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def payload(folder):
    return pickle.dumps(Command(f"touch {folder / 'outside' / 'pwned'}"), protocol=2)


def state():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)).state_dict()


def torch_saved(value, **options):
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def zipped(entries, method=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return stream.getvalue()


TORCH_PARTS = [("archive/version", b"3\n"), ("archive/byteorder", b"little"), ("archive/data/0", bytes(64))]


def torch_zip(description, *more):
    """What torch.save writes, around a pickle of one's own."""
    return zipped([("archive/data.pkl", description), *TORCH_PARTS, *more])


def rebuilt(key="0", numel=16, sizes=(4, 4), strides=(4, 1), name="w"):
    """The pickle of a state_dict with one tensor, its parts as one likes."""

    def number(value):
        return b"J" + struct.pack("<i", value) if value < 2**31 else b"\x8a\x08" + struct.pack("<q", value)

    def text(value):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(numel) + b"tQ"
    shape = b"".join(b"(" + b"".join(map(number, values)) + b"t" for values in (sizes, strides))
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(0) + shape + b"\x89ccollections\nOrderedDict\n)RtR"
    )
    return b"\x80\x02}" + text(name) + tensor + b"s."


def header(tensors, metadata=None, length=None, data=b""):
    """A safetensors file whose header says what one likes."""
    text = json.dumps(tensors | ({"__metadata__": metadata} if metadata is not None else {})).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def deep(signs, depth=200_000):
    return signs[0] * depth + signs[1] * depth


def one(shape, offsets, dtype="F32"):
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def png(width, height, body=b"", before=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + before + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def text_bomb():
    content = b"Comment\0\0" + zlib.compress(bytes(400 << 20), 9)
    return struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))


def jpeg(width, height):
    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes((1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0))
    return (
        b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xda\x00\x02" + bytes(64) + b"\xff\xd9"
    )


def tiff(width, height):
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 2**31)]
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 8)  # the next directory is this one


def good_picture(suffix=".png"):
    values = np.random.RandomState(0).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    return cv2.imencode(suffix, values)[1].tobytes()


def idx(shape, values, kind=8):
    return bytes((0, 0, kind, len(shape))) + b"".join(struct.pack(">I", size) for size in shape) + values


def npy(text, values=b"", length=None, version=1):
    form = "<H" if version == 1 else "<I"
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack(form, size) + text.encode() + values


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def tarred(name, content):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def no_file(kind, path):
    """Something that is not a plain file."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"zeros": "/dev/zero", "nothing": "missing", "loop": path.name, "passwd": "/etc/passwd"}[kind])


FIFO, FOLDER, ZEROS, LOOP = (partial(no_file, kind) for kind in ("fifo", "folder", "zeros", "loop"))


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    content(path) if callable(content) else path.write_bytes(content)
    return path


# --- where commands get them from -------------------------------------------------------------------------------------

SHORT = {"model": {"name": "linear"}, "trainer": {"epochs": 1}, "metrics": {}}


def run_of(work, case, **sections):
    """A run directory whose config names the files of this case; it was made with the harmless ones."""
    trained = work / "trained"
    if not trained.exists():
        assert case == "harmless"
        ptb.train(ptb.RunConfig(**SHORT, device="cpu", **sections), output=trained)
    own = work / case / "run"
    shutil.copytree(trained, own)
    config = own / "config.toml"
    config.write_text(config.read_text().replace(f"{work}/harmless", f"{work}/{case}"))
    return own


def as_torch(work, case, content):
    file = put(work / case / "weights.pt", content)
    return {
        "import-torch": ["import-torch", file],
        "check": ["check", *INIT, f"initializer.path={file}"],
    }


INIT = ["--model", "linear", "--dataset", "iris", "--epochs", "1", "--init", "weights-file"]


def as_weights(work, case, content):
    file = put(work / case / "weights.safetensors", content)
    return {
        "check": ["check", *INIT, f"initializer.path={file}"],
        "run": ["run", *INIT, f"initializer.path={file}", "--output", work / case / "out"],
        "import-torch": ["import-torch", file, "--output", work / case / "other.safetensors"],
    }


def as_checkpoint(work, case, content):
    """The only checkpoint of a run, under the name that a file of these bytes has."""
    folder = work / case
    folder.mkdir(parents=True)
    own = run_of(work, case, dataset={"name": "iris"})
    kept = max((own / "checkpoints").glob("ckpt-*"), key=lambda path: int(path.name.split("-")[1]))
    if case != "harmless":
        for path in (own / "checkpoints").iterdir():
            path.unlink()
        digest = hashlib.sha256(b"" if callable(content) else content).hexdigest()
        kept = put(own / "checkpoints" / f"ckpt-9-{digest[:32]}.safetensors", content)
    return {
        "eval": ["eval", own],
        "resume": ["resume", own],
        "check": ["check", *INIT, f"initializer.path={kept}"],
    }


def as_data(dataset, name, settings, work, case, content):
    """A file of a data set; ``settings`` say in words with ``{}`` where it is."""
    file = put(work / case / name, content)
    told = {key: value.format(work / case) if isinstance(value, str) else value for key, value in settings.items()}
    for other, companion in COMPANIONS.get(dataset, {}).items():
        if not (file.parent / other).exists() and not (file.parent / other).is_symlink():
            put(file.parent / other, companion)
    own = run_of(work, case, dataset={"name": dataset, **told})
    chosen = ["--model", "linear", "--dataset", dataset, "--epochs", "1"]
    chosen += [f"dataset.{key}={value}" for key, value in told.items()]
    return {
        "check": ["check", *chosen],
        "run": ["run", *chosen, "--output", work / case / "out"],
        "eval": ["eval", own],
    }


def as_picture(work, case, content):
    """One more file in a folder of two classes; a pair is its name and content."""
    name, content = content if isinstance(content, tuple) else ("odd.png", content)
    for label in ("cat", "dog"):
        for number in range(8):
            put(work / case / "pictures" / label / f"{number}.png", good_picture())
    return as_data("image-folder", f"pictures/cat/{name}", {"root": "{}/pictures", "size": 8}, work, case, content)


def as_config(work, case, content):
    file = put(work / case / "run" / ("run.json" if content.startswith((b"{", b"[[")) else "config.toml"), content)
    return {
        "run": ["run", "-c", file, "--output", work / case / "out"],
        "check": ["check", "-c", file],
        "config": ["config", "show", "-c", file],
        "eval": ["eval", file.parent],
    }


def as_run(work, case, content):
    """A run directory of which one file is hostile: a pair is its name and content."""
    folder = work / case
    folder.mkdir(parents=True)
    own = run_of(work, case, dataset={"name": "iris"})
    name, content = content
    if (own / name).exists():
        (own / name).unlink()
    if content is not None:
        put(own / name, content)
    return {
        "resume": ["resume", own],
        "eval": ["eval", own],
        "run": ["run", "-c", own / "config.toml", "--output", folder / "out"],
        "locked": ["run", "-c", own / "config.toml", "--locked", "--output", folder / "locked"],
    }


# --- the files --------------------------------------------------------------------------------------------------------


def torch_files(folder):
    evil, good = payload(folder), torch_saved(state())
    flipped = bytearray(good)
    flipped[good.index(state()["0.weight"].numpy().tobytes())] ^= 1
    lying = torch_zip(rebuilt())
    override = b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\0\0\0itemsccollections\nCounter\nsb."
    overlap = bytearray(torch_zip(rebuilt(), ("data/1", bytes(40_000))))
    place = overlap.index(b"PK\x01\x02")
    while (place := overlap.find(b"PK\x01\x02", place)) >= 0:  # every entry is as large as the archive
        overlap[place + 20 : place + 28] = struct.pack("<II", 40_000, 40_000)
        place += 4
    tuples = b"\x80\x02})" + b"\x85" * 3_000_000 + b"K\1s."  # a key, nested so deep that to hash it ends the process
    encrypted = bytearray(good)
    encrypted[good.index(b"PK\x01\x02") + 8] |= 1
    script = zipped([("a/data.pkl", rebuilt()), ("a/constants.pkl", evil), ("a/code/__torch__.py", b"import os")])
    return {
        "reduce": evil,
        "reduce-in-zip": torch_zip(evil),
        "reduce-in-state": torch_saved({"state_dict": Command(f"touch {folder / 'outside' / 'pwned'}")}),
        "stack-global": torch_zip(pickle.dumps(Command("true"), protocol=4)),
        "eval": torch_zip(b"\x80\x02cbuiltins\neval\nX\x01\0\0\0" + b"1\x85R."),
        "exec": torch_zip(b"\x80\x02cbuiltins\nexec\nX\x01\0\0\0" + b"1\x85R."),
        "torch-load": torch_zip(b"\x80\x02ctorch.serialization\nload\nX\x01\0\0\0" + b"a\x85R."),
        "getattr": torch_zip(b"\x80\x02cbuiltins\ngetattr\nctorch\nFloatStorage\nX\x03\0\0\0mro\x86R."),
        "inst": torch_zip(b"(S'true'\nios\nsystem\n."),
        "module": torch_saved(torch.nn.Linear(2, 2)),
        "old": torch_saved(state(), _use_new_zipfile_serialization=False),
        "old-reduce": torch_saved(Command("true"), _use_new_zipfile_serialization=False),
        "tar": tarred("storages", evil),
        "parents": zipped([("archive/data.pkl", rebuilt()), ("archive/../../outside/pwned", b"x")]),
        "absolute": zipped([("/archive/data.pkl", rebuilt()), ("/archive/data/0", bytes(64))]),
        "backslash": zipped([("archive/data.pkl", rebuilt()), ("archive\\..\\x", bytes(64))]),
        "control-name": zipped([("archive/data.pkl", rebuilt()), ("archive/\x1b[31m\n", bytes(64))]),
        "two-folders": zipped([("a/data.pkl", rebuilt()), ("b/data.pkl", evil)]),
        "plain-zip": zipped([("notes.txt", b"x")]),
        "deflated": zipped(
            [("archive/data.pkl", rebuilt()), ("archive/data/0", bytes(400 << 20))], zipfile.ZIP_DEFLATED
        ),
        "overlapping": bytes(overlap),
        "encrypted": bytes(encrypted),
        "torchscript": script,
        "bytearray": torch_zip(b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."),
        "lists": torch_zip(b"\x80\x02(" + b"]" * 12_000_000 + b"l."),
        "deep": torch_zip(b"\x80\x02]" + b"\x85" * 200_000 + b"."),
        "tuples": torch_zip(tuples),
        "other-case": zipped([("archive/data.pkl", rebuilt()), ("archive/DATA.PKL", tuples), *TORCH_PARTS]),
        "tuples-by-memo": torch_zip(b"\x80\x02)q\0" + b"h\0\x85q\0" * 900_000 + b"}h\0K\1s."),
        "expanded": torch_zip(rebuilt(sizes=(40_000, 40_000), strides=(0, 0))),
        "many-expanded": torch_zip(rebuilt(sizes=(2**40,), strides=(0,))),
        "too-large": torch_zip(rebuilt(numel=2**40)),
        "beyond": torch_zip(rebuilt(sizes=(2**30,), strides=(1,))),
        "storage-path": torch_zip(rebuilt(key="../../../../etc/passwd")),
        "metadata-name": torch_zip(rebuilt(name="__metadata__")),
        "name": torch_zip(rebuilt(name="\x1b[2Jw")),
        "override": torch_zip(override),
        "flipped": bytes(flipped),
        "cut": good[:-30],
        "half": good[: len(good) // 2],
        "script-before": b"#!/bin/sh\ntouch pwned\n" + good,
        "more-behind": good + b"more",
        "comment": lying[:-2] + b"\x04\0more",
        "no-weights": torch_saved({"epoch": 3, "optimizer": {"lr": 0.1}}),
        "empty": b"",
        "text": b"hello",
        "html": b"<html>not found</html>",
        "fifo": FIFO,
        "folder": FOLDER,
        "zeros": ZEROS,
        "loop": LOOP,
    }


def safetensors_files(folder):
    good = save(linear())
    weight = linear()["linear.weight"]
    values = bytes(48 + 12)
    fits = {
        "linear.weight": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
        "linear.bias": {"dtype": "F32", "shape": [3], "data_offsets": [48, 60]},
    }
    empty = json.dumps(one([0], [0, 0])["w"])
    large = "{" + ", ".join(f'"{number}": {empty}' for number in range(600_000)) + "}"

    def marked(text):
        return header(fits, {"ptb": text}, data=values)

    def described(model, **metadata):
        return marked(json.dumps({"format": 3, "step": 9, "metadata": metadata, "state": {"model": model}}))

    return {
        "reduce": payload(folder),
        "torch": torch_zip(payload(folder)),
        "length-63": header(fits, length=2**63 + 1),
        "length-64": header(fits, length=2**64 - 1),
        "length-31": header(fits, length=2**31, data=values),
        "length-short": header(fits, length=20, data=values),
        "negative": header(one([2], [-8, 0]), data=bytes(8)),
        "overlapping": header(
            fits | {"linear.bias": {"dtype": "F32", "shape": [3], "data_offsets": [40, 52]}}, data=values
        ),
        "hole": header(
            fits | {"linear.bias": {"dtype": "F32", "shape": [3], "data_offsets": [52, 64]}}, data=bytes(64)
        ),
        "beyond": header(one([2**20], [0, 2**22]), data=bytes(16)),
        "overflow": header(one([2**62, 4], [0, 0])),
        "other-size": header(one([2], [0, 16]), data=bytes(16)),
        "dtype": header(one([2], [0, 8], dtype="PICKLE"), data=bytes(8)),
        "more-behind": header(fits, data=values + payload(folder)),
        "metadata-number": header(fits, {"ptb": 3}, data=values),
        "metadata-list": header(fits, [1], data=values),
        "metadata-no-json": marked("{" + payload(folder).decode("latin-1")),
        "metadata-deep": marked(deep("[]")),
        "metadata-deep-tables": marked(deep(['{"a":', "}"])),
        "metadata-other": marked("[]"),
        "metadata-step": marked('{"format": 3, "step": 1e999, "metadata": {}, "state": {}}'),
        "metadata-digits": marked('{"format": 3, "step": ' + "9" * 10_000 + "}"),
        "metadata-format": marked('{"format": "' + "\\u001b[2J" * 1000 + '"}'),
        "metadata-tensor": described({":tensor": "linear.bias"}),
        "metadata-object": described({":object": "os.system"}),
        "metadata-labels": described({}, labels={"best": [], "\x1b[2J": 9}),
        "deep": struct.pack("<Q", 400_000) + deep("[]").encode(),
        "no-json": struct.pack("<Q", 60) + b"{" + bytes(200),
        "twice": struct.pack("<Q", 114)
        + b'{"w":%b,"w":%b}' % ((b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}',) * 2),
        "large-header": struct.pack("<Q", len(large)) + large.encode(),
        "name": header({"../../\x1b[2J\n": one([1], [0, 4])["w"]}, data=bytes(4)),
        "shape": header(fits | {"linear.weight": one([4, 3], [0, 48])["w"]}, data=values),
        "nan": save({"linear.weight": weight * torch.nan, "linear.bias": torch.zeros(3)}),
        "cut": good[:-5],
        "empty": b"",
        "text": b"hello, world",
        "fifo": FIFO,
        "folder": FOLDER,
        "zeros": ZEROS,
    }


def linear():
    torch.manual_seed(0)
    return {f"linear.{name}": value for name, value in torch.nn.Linear(4, 3).state_dict().items()}


LABELS = bytes(number % 10 for number in range(60))
IMAGES = "train-images-idx3-ubyte"
COMPANIONS = {
    "mnist": {
        "train-labels-idx1-ubyte": idx((60,), LABELS),
        "t10k-labels-idx1-ubyte": idx((60,), LABELS),
        "t10k-images-idx3-ubyte": idx((60, 2, 2), bytes(range(240))),
    },
    "arrays": {"targets.npy": saved(np.arange(60) % 3)},
}


def idx_files(folder):
    return {
        "reduce": payload(folder),
        "images-31": idx((2**31, 2, 2), bytes(240)),
        "rows-31": idx((60, 2**31, 2**31), bytes(240)),
        "all-32": idx((2**32 - 1,) * 3, bytes(240)),
        "few-more": idx((61, 2, 2), bytes(240)),
        "other-type": idx((60, 2, 2), bytes(240), kind=0x0D),
        "dimensions": bytes((0, 0, 8, 255)) + bytes(2000),
        "none": idx((0, 2, 2), b""),
        "cut": idx((60, 2, 2), bytes(100)),
        "no-header": bytes((0, 0, 8, 3, 0)),
        "empty": b"",
        "fifo": FIFO,
        "zeros": ZEROS,
    }


def gzip_files(folder):
    bomb = compress(idx((60, 2, 2), bytes(600 << 20)), 9)
    return {
        "bomb": bomb,
        "bomb-twice": compress(bomb),
        "bomb-told": compress(idx((150 << 20, 2, 2), bytes(600 << 20)), 9),
        "images-31": compress(idx((2**31, 2, 2), bytes(240))),
        "reduce": compress(payload(folder)),
        "cut": compress(idx((60, 2, 2), bytes(range(240))))[:-12],
        "no-gzip": idx((60, 2, 2), bytes(240)),
        "checksum": compress(idx((60, 2, 2), bytes(range(240))))[:-8] + bytes(8),
        "fifo": FIFO,
    }


def npy_files(folder):
    def described(shape, descr="'<f4'"):
        return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"

    objects = np.array([Command(f"touch {folder / 'outside' / 'pwned'}")] * 60, dtype=object)
    return {
        "objects": saved(objects),
        "reduce": payload(folder),
        "call": npy("__import__('os').system('true')\n"),
        "lambda": npy("(lambda: 0)()\n"),
        "huge": npy(described(f"(60, {2**40})"), bytes(960)),
        "overflow": npy(described(f"({2**62}, 4)"), bytes(960)),
        "negative": npy(described("(-60, -4)"), bytes(960)),
        "deep": npy("(" * 60_000 + ")" * 5_000 + "\n"),
        "deep-large": npy(deep("()"), version=2),
        "minus": npy("-" * 60_000 + "1\n"),
        "length": npy(described("(60, 4)"), bytes(960), length=2**31, version=2),
        "version": npy(described("(60, 4)"), bytes(960), version=9),
        "fields": npy(described("(60,)", "[('a', '|O'), ('b', '<f4')]"), bytes(960)),
        "text": npy(described("(60, 4)", "'<U1000000'"), bytes(960)),
        "cut": npy(described("(60, 4)"), bytes(500)),
        "archive": zipped([("inputs.npy", saved(objects))]),
        "nan": saved(np.full((60, 4), np.nan, np.float32)),
        "fifo": FIFO,
        "zeros": ZEROS,
        "folder": FOLDER,
    }


def csv_files(folder):
    def table(header, row):
        return "\n".join([header, *[row.format(n=number, m=number % 3) for number in range(60)]]).encode()

    formula = "\"=cmd|'/C touch pwned'!A0\""
    return {
        "formulas": table("a,kind", f"{{n}},{formula}{{m}}"),
        "formula-cells": table("a,b,kind", f"{{n}},{formula},k{{m}}"),
        "nul": table("a,kind", "{n}\0,k{m}"),
        "columns": (",".join(f"c{n}" for n in range(1_000_000)) + ",kind\n" + "1," * 1_000_000 + "k\n").encode(),
        "commas": table("a,kind", "{n}" + "," * 100_000 + "k{m}"),
        "open-quote": table("a,kind", "{n},k{m}") + b'\n1,"' + b"x" * (20 << 20),
        "open-quote-short": table("a,kind", "{n},k{m}") + b'\n1,"k0\n2,k1\n',
        "control": table("a,\x1b[31mkind\x07", "{n},k{m}"),
        "control-values": table("a,kind", "\x1b[2J{n},k{m}") + b"\nx,\x1b]0;t\x07\n",
        "numbers": table("a,kind", "9" * 5000 + "{n},k{m}"),
        "infinite": table("a,kind", "1e999,k{m}"),
        "reduce": payload(folder),
        "archive": zipped([("table.csv", table("a,kind", "{n},k{m}"))]),
        "no-text": bytes(range(255, 127, -1)) * 100,
        "passwd": partial(no_file, "passwd"),
        "fifo": FIFO,
        "zeros": ZEROS,
        "empty": b"",
    }


def picture_files(folder):
    good = good_picture()
    outside = folder / "outside" / "cat.png"
    put(outside, good)

    def leads_out(path):
        path.symlink_to(outside)

    def folder_leads_out(path):
        path.symlink_to(outside.parent)

    return {
        "png": png(60_000, 60_000, zlib.compress(bytes(1000))),
        "png-31": png(2**31 - 1, 2**31 - 1, zlib.compress(bytes(1000))),
        "png-none": png(0, 0),
        "png-bomb": png(8, 8, zlib.compress(bytes(200 << 20), 9)),
        "png-text": png(8, 8, zlib.compress(bytes(200)), text_bomb()),
        "png-cut": good[: len(good) // 2],
        "png-flipped": good[:60] + bytes((good[60] ^ 255,)) + good[61:],
        "jpeg": ("odd.jpg", jpeg(65_535, 65_535)),
        "jpeg-cut": ("odd.jpg", good_picture(".jpg")[:-40]),
        "webp": ("odd.webp", b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2 + bytes(64)),
        "webp-lossless": ("odd.webp", b"RIFF\x40\0\0\0WEBPVP8L\x20\0\0\0\x2f\xff\xff\xff\xff" + bytes(64)),
        "bmp": ("odd.bmp", b"BM" + struct.pack("<IIIIiiHHIIIIII", 100, 0, 54, 40, 50_000, -50_000, 1, 24, *[0] * 6)),
        "bmp-31": ("odd.bmp", b"BM" + struct.pack("<IIIIiiHHIIIIII", 100, 0, 54, 40, -(2**31), 1, 1, 24, *[0] * 6)),
        "tiff": ("odd.tiff", tiff(60_000, 60_000)),
        "tiff-small": ("odd.tiff", tiff(8, 8)),
        "tiff-loop": ("odd.tiff", b"MM\0*\xff\xff\xff\xff"),
        "pnm": ("odd.ppm", b"P6\n99999 99999\n255\n" + bytes(99)),
        "zip": zipped([("cat.png", good)]),
        "tar": ("odd.jpg", tarred("cat.jpg", good)),
        "reduce": payload(folder),
        "svg": ("odd.png", b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><svg>&e;</svg>'),
        "text": b"hello",
        "empty": b"",
        "python": ("odd.py", b"import os; os.system('true')"),
        "link": leads_out,
        "link-to-folder": folder_leads_out,
        "link-to-nothing": partial(no_file, "nothing"),
        "control-name": ("\x1b[2J\nodd\x07.png", b"no picture"),
        "option-name": ("--help;$(touch pwned).png", b"no picture"),
        "fifo": FIFO,
        "zeros": ZEROS,
        "loop": LOOP,
        "folder": FOLDER,
    }


def config_files(folder):
    run = '[model]\nname = "linear"\n[dataset]\nname = "iris"\n[trainer]\nepochs = 1\n'
    lines = {
        "target": '[model]\n_target_ = "os.system"\ncommand = "true"\n',
        "class-path": '[model]\nclass_path = "subprocess.Popen"\ninit_args = {args = ["true"]}\n',
        "import-path": '[model]\nname = "os:system"\n',
        "import-path-of-ptb": '[model]\nname = "ptb_models.lenet:LeNet"\n',
        "path-name": '[model]\nname = "../../models/evil.py"\n',
        "no-such-section": f'{run}[python]\ncode = "import os"\n',
        "template": '[model]\nname = "{{ cycler.__init__.__globals__.os.system(1) }}"\n',
        "interpolated": f'device = "${{oc.env:HOME}}"\n{run}',
        "expression": run.replace("epochs = 1", "epochs = \"__import__('os').system('true')\""),
        "device": f'device = "cpu; touch pwned"\n{run}',
        "passwd": '[model]\nname = "linear"\n[dataset]\nname = "csv"\npath = "/etc/passwd"\ntarget = "root"\n',
        "passwd-weights": f'{run}[initializer]\nname = "weights-file"\npath = "/etc/passwd"\n',
        "zeros": '[dataset]\nname = "arrays"\ninputs = "/dev/zero"\ntargets = "/dev/zero"\n[model]\nname = "linear"\n',
        "terminal": '[dataset]\nname = "csv"\npath = "/dev/stdin"\ntarget = "a"\n[model]\nname = "linear"\n',
        "plugin": f'{run}[plugins]\nrequire = ["evil @ https://127.0.0.1/evil.tar.gz"]\n',
        "resolve": f'{run}[resolve]\nmodel.linear = "os:system"\n',
        "control": '[model]\nname = "\\u001b[2Jlinear"\n',
        "deep": "a = " + deep("[]", 50_000),
        "deep-keys": ".".join("a" * 100_000) + " = 1",
        "digits": f"{run}[optimizer]\nlr = " + "9" * 100_000 + "\n",
        "memory": run.replace("iris", "random") + "samples = 10_000_000_000\n",
        "wide": '[model]\nname = "mlp"\nhidden = [1_000_000_000, 1_000_000_000]\n[dataset]\nname = "iris"\n',
        "yaml": "!!python/object/apply:os.system ['true']\n",
    }
    nested = json.dumps({"model": {"name": "linear", "_target_": "os.system"}, "dataset": {"name": "iris"}})
    return {name: text.encode() for name, text in lines.items()} | {
        "reduce": payload(folder),
        "json": nested.encode(),
        "json-deep": deep("[]").encode(),
        "json-digits": b'{"seed": ' + b"9" * 100_000 + b"}",
        "nul": run.encode() + b"\0",
        "large": run.encode() + b"# " + b"x" * (5 << 20),
    }


def run_files(folder):
    facts = {"epoch": 1, "best_step": "../../../outside/canary", "metrics": {}}
    return {
        "manifest-no-json": ("manifest.json", b"{"),
        "manifest-list": ("manifest.json", b"[1]"),
        "manifest-deep": ("manifest.json", deep("[]").encode()),
        "manifest-digits": ("manifest.json", b'{"dataset_sha256": ' + b"9" * 100_000 + b"}"),
        "manifest-reduce": ("manifest.json", payload(folder)),
        "manifest-plugins": (
            "manifest.json",
            b'{"plugin_files": {"../../x": {"sha256": 1, "files": 3}}, "plugins": 3}',
        ),
        "manifest-control": (
            "manifest.json",
            b'{"dataset_sha256": "\\u001b[2J", "plugins": [{"distribution": "\\u001b[2J"}]}',
        ),
        "manifest-fifo": ("manifest.json", FIFO),
        "manifest-zeros": ("manifest.json", ZEROS),
        "summary-deep": ("summary.json", deep("[]").encode()),
        "summary-reduce": ("summary.json", payload(folder)),
        "summary-fifo": ("summary.json", FIFO),
        "metrics-deep": ("metrics.jsonl", deep("[]").encode() + b"\n"),
        "metrics-reduce": ("metrics.jsonl", payload(folder)),
        "metrics-fifo": ("metrics.jsonl", FIFO),
        "log-fifo": ("log.txt", FIFO),
        "checkpoint-link": ("checkpoints/ckpt-99-" + "0" * 32 + ".safetensors", partial(no_file, "passwd")),
        "checkpoint-folder": ("checkpoints/ckpt-99-" + "0" * 32 + ".safetensors", FOLDER),
        "checkpoint-digits": ("checkpoints/ckpt-" + "9" * 180 + "-" + "0" * 32 + ".safetensors", b"x"),
        "checkpoint-control": ("checkpoints/ckpt-1\x1b[2J\n-" + "0" * 32 + ".safetensors", b"x"),
        "torch-module": ("torch.py", f"import os; os.system('touch {folder / 'outside' / 'pwned'}')".encode()),
        "site-module": ("sitecustomize.py", b"raise SystemExit(3)"),
        "facts": ("facts.json", json.dumps(facts).encode()),
    }


@dataclass(frozen=True)
class Group:
    """Files of one kind: what makes them, a harmless one, and what puts one of them before the commands.

    Those of ``accepted``, a file or one with a command, may be taken for good: what is used of them is good.
    """

    files: object
    harmless: object
    place: object
    accepted: frozenset[str] = frozenset()
    preload: tuple[str, ...] = ()


GOOD_TABLE = "\n".join(["a,kind", *[f"{number},k{number % 3}" for number in range(60)]]).encode()
GOOD_RUN = b'[model]\nname = "linear"\n[dataset]\nname = "iris"\n[trainer]\nepochs = 1\n'
MNIST = {"root": "{}", "val_size": 10}
TABLE = {"path": "{}/table.csv", "target": "kind"}
ARRAYS = {"inputs": "{}/inputs.npy", "targets": "{}/targets.npy"}
# Whoever takes the tensors alone does not look at what ptb writes beside them.
MARKED = frozenset(
    f"metadata-{what}"
    for what in ("no-json", "deep", "deep-tables", "other", "step", "digits", "format", "tensor", "object", "labels")
)
GROUPS = {
    "torch": Group(torch_files, lambda: torch_saved(linear()), as_torch),
    "safetensors": Group(safetensors_files, lambda: save(linear()), as_weights, MARKED),
    "checkpoint": Group(safetensors_files, lambda: None, as_checkpoint, frozenset(f"{case}, check" for case in MARKED)),
    "idx": Group(idx_files, lambda: idx((60, 2, 2), bytes(range(240))), partial(as_data, "mnist", IMAGES, MNIST)),
    "gzip": Group(
        gzip_files,
        lambda: compress(idx((60, 2, 2), bytes(range(240)))),
        partial(as_data, "mnist", f"{IMAGES}.gz", MNIST),
    ),
    "npy": Group(
        npy_files,
        lambda: saved(np.random.RandomState(0).randn(60, 4).astype(np.float32)),
        partial(as_data, "arrays", "inputs.npy", ARRAYS),
    ),
    "csv": Group(
        csv_files,
        lambda: GOOD_TABLE,
        partial(as_data, "csv", "table.csv", TABLE),
        frozenset({"formula-cells", "formulas", "archive"}),  # tables may be packed
        preload=("pandas",),
    ),
    # What follows the last pixel, or is no pixel, is not used.
    "pictures": Group(picture_files, good_picture, as_picture, frozenset({"png-bomb", "png-text", "tiff-small"})),
    # `ptb config show` opens no data.
    "config": Group(
        config_files,
        lambda: GOOD_RUN,
        as_config,
        frozenset(f"{case}, config" for case in ("passwd", "passwd-weights", "zeros", "terminal", "wide")),
        preload=("pandas", "packaging.requirements", "packaging.specifiers", "ptb_models.mlp"),
    ),
    "run": Group(run_files, lambda: ("notes.txt", b"good"), as_run, frozenset(run_files(Path("/nowhere")))),
}


def judged(carried_out, name, folder, every_command):
    """What is wrong with what the commands did with the files of a group, by file and command."""
    group = GROUPS[name]
    (folder / "work").mkdir(parents=True)
    canary = put(folder / "outside" / "canary", b"alive")
    jobs = []
    for number, (case, content) in enumerate({"harmless": group.harmless(), **group.files(folder)}.items()):
        commands = [*group.place(folder / "work", case, content).items()]
        for label, argv in commands if every_command or not number else [commands[number % len(commands)]]:
            where = str(folder / "work" / case)
            jobs.append({"case": case, "label": label, "argv": [*map(str, argv)], "cwd": where, "seconds": SECONDS})
    outcomes = carried_out(jobs, folder, [*PRELOADED, *group.preload])
    harmless = {outcome["label"]: outcome for outcome in outcomes if outcome["case"] == "harmless"}
    found = {}
    for outcome in outcomes[len(harmless) :]:
        case, label = outcome["case"], outcome["label"]
        where = f"{case}, {label}"
        if wrong := [*faults(outcome, harmless[label], bool({case, where} & group.accepted))]:
            found[where] = (wrong, outcome["code"], (outcome["err"] or outcome["out"])[-600:])
    assert canary.read_bytes() == b"alive"
    assert not (canary.parent / "pwned").exists()
    return found


# What libraries read, and the tests of their data sets look at too, and a second way to the files of "checkpoint".
ONLY_LONG = ("pictures", "csv", "gzip", "npy", "safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GROUPS if name not in ONLY_LONG])
def test_nothing_in_a_hostile_file_runs_hangs_or_fills_the_memory(carried_out, name, tmp_path):
    found = judged(carried_out, name, tmp_path, every_command=False)
    assert not found, "\n".join(f"{where}: {what}" for where, what in found.items())


@pytest.mark.reliability
@pytest.mark.parametrize("name", GROUPS)
def test_nothing_in_a_hostile_file_runs_hangs_or_fills_the_memory_in_any_command(carried_out, name, tmp_path):
    found = judged(carried_out, name, tmp_path, every_command=True)
    assert not found, "\n".join(f"{where}: {what}" for where, what in found.items())


def test_the_corpus_is_large():
    nowhere = Path(__file__).parent
    assert sum(len(GROUPS[name].files(nowhere)) for name in ("config", "run")) > 50


def planted(carried_out, folder, *kinds):
    (folder / "work").mkdir(parents=True)
    jobs = [
        {"planted": kind, "cwd": str(folder / "work"), "seconds": 2 if kind == "hang:" else SECONDS} for kind in kinds
    ]
    outcomes = carried_out(jobs, folder, preload=["ctypes"])
    return {outcome["planted"].partition(":")[0]: outcome for outcome in outcomes}


@pytest.mark.slow
def test_what_a_file_could_do_is_noticed(carried_out, tmp_path):
    outside = put(tmp_path / "outside" / "module" / "of_the_data.py", b"value = 1").parent
    victim = put(tmp_path / "outside" / "victim", b"x")
    plans = [f"module:{outside}", f"write:{tmp_path}/outside/a", f"os.open:{tmp_path}/outside/b", f"remove:{victim}"]
    plans += ["memory:440", *(f"{kind}:" for kind in ("pickle", "system", "popen", "exec", "socket", "dlopen"))]
    plans += ["hang:", "raise:", "nothing:"]
    outcomes = planted(carried_out, tmp_path, *plans)
    nothing = outcomes.pop("nothing")
    assert [*faults(nothing, nothing, may_succeed=True)] == []
    assert [*faults(nothing, nothing)] == ["it is taken for good"]
    seen = {kind: [*faults(outcome, nothing, may_succeed=True)] for kind, outcome in outcomes.items()}
    expected = {
        "module": "event exec: ",
        "write": "event open: ",
        "os.open": "event open: ",
        "remove": "event os.remove: ",
        "pickle": "event pickle.find_class: ",
        "system": "event os.system: ",
        "popen": "event subprocess.Popen: ",
        "exec": "event exec: ",
        "socket": "event socket.connect: ",
        "dlopen": "event ctypes.dlopen: ",
        "memory": "4",
        "hang": "it hangs",
        "raise": "it ends with 99",
    }
    for kind, beginning in expected.items():
        assert any(fault.startswith(beginning) for fault in seen[kind]), f"{kind}: {seen[kind]}"
    assert "a traceback" in seen["raise"]
    steered = nothing | {"err": "error: \x1b[2J"}
    assert [*faults(steered, nothing, may_succeed=True)] == ["signs that steer a terminal"]


# --- no way around ----------------------------------------------------------------------------------------------------


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


SOURCES = [path for root in ("core", "plugins") for path in sorted((ROOT / root).rglob("*.py"))]
NEVER = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "marshal.loads", "torch.jit.load"}
NEVER |= {"joblib.load"}

# They pickle objects of the plugin that is checked, as processes that read samples do, and read them back.
PICKLED = ("plugins/ptb_testing/checks/dataset.py", "plugins/ptb_testing/elsewhere.py")
EXEMPT = {name: ["import pickle"] for name in PICKLED}
# It runs the file that a user names with -p, and nothing else.
EXEMPT["core/ptb/registry/local.py"] = ["exec", "compile"]


def openings(source):
    """Calls and imports by which content could become code."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (f"import {name}" for name in names if name.split(".")[0] in ("pickle", "dill", "joblib", "shelve"))
    for name, words in calls(tree):
        if name in NEVER or words.get("shell") == "True" or words.get("allow_pickle") == "True":
            yield name
        if name == "torch.load" and words.get("weights_only") != "True":
            yield name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_can_run_what_it_reads(path):
    assert [*openings(path.read_text(encoding="utf-8"))] == EXEMPT.get(path.relative_to(ROOT).as_posix(), [])


def test_one_module_reads_files_of_torch():
    loading = [
        path.name for path in SOURCES if any(name == "torch.load" for name, _ in calls(ast.parse(path.read_text())))
    ]
    assert loading == ["torch_file.py"]


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from pickle import loads", "eval('1')", "torch.load(path)", "exec(text)"),
        *("torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)", "run('x', shell=True)"),
    ],
)
def test_the_gate_closes(source):
    assert [*openings(source)]
