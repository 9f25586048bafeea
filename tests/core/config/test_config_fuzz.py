"""Configurations from an enemy: the outcome is a plan or a ConfigError, soon and in little memory."""

import itertools
import json
import random
import re
import string
import subprocess
import sys
import time
import tomllib
import tracemalloc
from datetime import date

import pytest
import tomlkit
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ptb import ConfigError, RunConfig
from ptb.config.checks import KEYS, SECTIONS
from ptb.config.files import MAX_FILE_BYTES, MAX_KEYS
from ptb.config.layers import FLAGS
from ptb.config.resolve import resolve
from ptb.config.sections import CORE_SECTIONS, SHARED_SECTIONS, RunSettings
from ptb.kinds import RUN_KINDS
from ptb.registry.registry import load_registry

pytestmark = pytest.mark.filterwarnings("ignore:.* so these settings are dropped")
LENET = {"model": {"name": "lenet"}}
SECONDS, MEBIBYTES = 1.0, 200

HOSTILE_TEXTS = [
    *(
        "",
        " ",
        "\0",
        "a\nb",
        "\x1b[31m",
        "\ud800",
        "a\udcffb",
        "\ufeff",
        "x" * 5000,
        "\N{FIRE}",
        "lr\N{ZERO WIDTH SPACE}",
        "2020-01-01",
    ),
    *("__class__", "__init__", "_target_", "model_config", "name", "${x}", "${oc.env:HOME}", "{{x}}", "%(x)s", "{x!r}"),
    *(
        "os:system",
        "os.system",
        "torch.nn:Linear",
        "builtins:eval",
        "__import__('os').system('true')",
        "!!python/name:os",
    ),
    *(
        "\N{FULLWIDTH LATIN SMALL LETTER L}r",
        "\N{CYRILLIC SMALL LETTER IE}poch",
        "optimizer.lr",
        "a.b.c",
        "=",
        '"',
        "'",
        "[",
    ),
    *(
        "1e-3",
        "1E-3",
        ".001",
        "1_000",
        "0x10",
        "true",
        "None",
        "null",
        "nan",
        "../../etc/passwd",
        "lenet",
    ),
]
HOSTILE_VALUES = [
    *(0, -1, 1, 2**63 - 1, 2**63, 10**400, 1e-3, -0.0, 1e308, 5e-324, float("inf"), float("nan"), True, None),
    *(
        [],
        {},
        [[]],
        [{}],
        [1] * 2000,
        ["a"] * 300,
        {"name": "lenet"},
        {"name": 3},
        {"lr": [1e-3]},
        {"a": {"b": {"c": 1}}},
    ),
    *(date(2020, 1, 1), [date(2020, 1, 1)], {"name": date(2020, 1, 1)}),
]


def nested(depth, kind):
    tree = 1
    for _ in range(depth):
        tree = [tree] if kind is list else {"a": tree}
    return tree


CORE_MODELS = (*CORE_SECTIONS.values(), RunSettings)
REAL_KEYS = [
    *KEYS,
    "name",
    "lr",
    "betas",
    "hidden",
    "pool",
    "path",
    "weight",
    "groups",
    "match",
    "k",
    "label_smoothing",
]
REAL_KEYS += [key for model in CORE_MODELS for key in model.model_fields]

keys = st.sampled_from(REAL_KEYS) | st.sampled_from(HOSTILE_TEXTS) | st.text(max_size=5)
scalars = (
    st.sampled_from(HOSTILE_VALUES)
    | st.sampled_from(HOSTILE_TEXTS)
    | st.builds(nested, st.integers(1, 60), st.sampled_from([list, dict]))
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=5
)
# Half of it is right, so that more is reached than the check of the first key.
names = st.sampled_from(
    ["adam", "sgd", "lbfgs", "mlp", "lenet", "digits", "csv", "cosine", "default", "mse", "top-k", "accuracy"]
)
right = st.fixed_dictionaries(
    {"model": st.just({"name": "mlp"})},
    optional={
        "seed": st.integers(0, 9),
        "optimizer": st.fixed_dictionaries(
            {}, optional={"name": st.sampled_from(["adam", "sgd"]), "lr": st.floats(0, 1)}
        ),
        "trainer": st.fixed_dictionaries({}, optional={"epochs": st.integers(1, 9), "accumulate": st.integers(1, 3)}),
        "metrics": st.dictionaries(
            st.sampled_from(["accuracy", "a b", "a.b", "\N{SNOWMAN}"]), st.just({"name": "accuracy"})
        ),
    },
)
sections = st.dictionaries(
    keys, values | names | st.dictionaries(keys | st.just("name"), values | names, max_size=4), max_size=4
)
trees = st.builds(lambda good, bad: {**good, **bad}, right, sections) | right | sections
overrides = st.lists(
    st.builds("{}.{}={}".format, keys, keys, values)
    | st.builds("{}={}".format, keys, values)
    | st.sampled_from(["optimizer.lr=1e-3", "model.hidden=[1,", "a.b.c.d={x.y=1}", "metrics.'a b'={name='mae'}"])
    | st.builds("{}=".format, keys)
    | st.text(max_size=20),
    max_size=3,
)
flags = st.dictionaries(
    st.sampled_from(sorted(FLAGS)), st.none() | st.sampled_from(HOSTILE_TEXTS) | st.just("3"), max_size=2
)


def as_toml(tree, at_top=True):
    """Writes what tomlkit would refuse to, too."""
    if isinstance(tree, dict):
        pairs = [f"{json.dumps(key, ensure_ascii=False)} = {as_toml(value, False)}" for key, value in tree.items()]
        return "\n".join(pairs) if at_top else "{" + ", ".join(pairs) + "}"
    if isinstance(tree, list):
        return f"[{', '.join(as_toml(item, False) for item in tree)}]"
    return json.dumps(tree, ensure_ascii=False) if isinstance(tree, str | bool) else str(tree)


def as_json(tree):
    return json.dumps(tree, default=lambda date: "a date")


def outcome(registry, *layers, **options):
    """The plan, or the text of the ConfigError; anything else, and what takes too long or too much, is a failure."""
    tracemalloc.start()
    started = time.process_time()
    problems = []
    try:
        result = resolve(RunConfig.read(layers, **options), registry).with_target("class")
    except ConfigError as error:
        result, problems = str(error), error.problems
    finally:
        seconds, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert all(problem.message.strip() for problem in problems)
    assert len(str(result)) < 500_000
    assert seconds < 2 * SECONDS  # tracing costs as much again
    assert peak < MEBIBYTES << 20
    return result


def assert_same_again(plan, registry, folder):
    written = tomlkit.dumps(plan.as_config())
    file = folder / "again.toml"
    file.write_text(written, encoding="utf-8", newline="")
    again = resolve(RunConfig.read([file]), registry).with_target("class")
    assert again == plan
    assert tomllib.loads(written) == plan.as_config() == again.as_config()
    assert tomlkit.dumps(again.as_config()) == written


def check_generated(registry, folder, layers, options):
    files = []
    for number, (suffix, tree) in enumerate(layers):
        files.append(folder / f"layer{number}{suffix}")
        text = as_toml(tree) if suffix == ".toml" else as_json(tree)
        files[-1].write_bytes(text.encode(errors="surrogatepass"))
    result = outcome(registry, *files, **options)
    if not isinstance(result, str):
        assert_same_again(result, registry, folder)


def fuzzed(examples):
    return hypothesis_settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


generated = given(
    layers=st.lists(st.tuples(st.sampled_from([".toml", ".json"]), trees), max_size=3),
    options=st.fixed_dictionaries(
        {},
        optional={
            "flags": flags,
            "overrides": overrides,
            "metrics": st.lists(keys | names, max_size=2),
            "callbacks": st.lists(keys | names, max_size=1),
        },
    ),
)


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@fuzzed(40)
@generated
def test_a_generated_configuration_is_a_plan_or_a_config_error(built_in, tmp_path_factory, layers, options):
    check_generated(built_in, tmp_path_factory.getbasetemp(), layers, options)


def test_a_hostile_value_is_a_plan_or_a_config_error(built_in, folder):
    for value in (*HOSTILE_TEXTS, *HOSTILE_VALUES):
        for file in (folder / "a.json", folder / "a.toml"):
            tree = placed(["optimizer", "lr"], value)
            text = as_json(tree) if file.suffix == ".json" else as_toml(tree)
            file.write_bytes(text.encode(errors="surrogatepass"))
            outcome(built_in, file)


def test_a_text_that_is_a_date_is_told_like_any_other(built_in):
    with pytest.raises(ConfigError):
        resolve(RunConfig(**LENET, seed="2020-01-01"), built_in)


@pytest.mark.matrix
@fuzzed(2000)
@generated
def test_thousands_of_them_are(built_in, tmp_path_factory, layers, options):
    check_generated(built_in, tmp_path_factory.getbasetemp(), layers, options)


def mutated(data, draw):
    """A file after a few accidents: bytes and lines that are lost, doubled, moved or overwritten."""
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        end = min(end, start + 40)
        kind = draw(st.sampled_from(["drop", "double", "overwrite", "cut", "crlf", "mark", "line", "utf-16"]))
        lines = data.split(b"\n")
        data = {
            "drop": data[:start] + data[end:],
            "double": data[:end] + data[start:],
            "overwrite": data[:start] + draw(st.binary(max_size=4)) + data[start + 1 :],
            "cut": data[:end],
            "crlf": data.replace(b"\n", b"\r\n"),
            "mark": b"\xef\xbb\xbf" + data,
            "line": b"\n".join([*lines, lines[start % len(lines)]]),
            "utf-16": data.decode(errors="replace").encode("utf-16") if draw(st.booleans()) else data,
        }[kind]
    return data


def check_bytes(registry, folder, data, suffix):
    file = folder / f"bytes{suffix}"
    file.write_bytes(data)
    result = outcome(registry, file)
    if not isinstance(result, str):
        assert_same_again(result, registry, folder)


def config_of_a_run(registry):
    sections = {
        "model": {"name": "mlp", "hidden": [8, 8], "dropout": 0.25},
        "dataset": {"name": "csv", "path": "data \N{SNOWMAN}.csv", "target": "y"},
        "optimizer": {"lr": 1e-3, "groups": [{"match": "*.bias", "lr": 0.1}, {"match": "fc*"}]},
        "metrics": {"top 3": {"name": "top-k", "k": 3}, "accuracy": {}},
        "plugins": {"disable": ["ptb-acme"]},
    }
    return resolve(RunConfig(**sections), registry).with_target("class").as_config()


suffixes = st.sampled_from([".toml", ".json"])


@fuzzed(60)
@given(
    data=st.binary(max_size=300) | st.text(alphabet="[]{}=.\"'#,\n ae1-_\\u0\0", max_size=60).map(str.encode),
    suffix=suffixes,
)
def test_any_bytes_are_a_plan_or_a_config_error(built_in, tmp_path_factory, data, suffix):
    check_bytes(built_in, tmp_path_factory.getbasetemp(), data, suffix)


@fuzzed(30)
@given(data=st.data(), suffix=suffixes)
def test_a_damaged_config_of_a_run_is_a_plan_or_a_config_error(built_in, tmp_path_factory, data, suffix):
    tree = config_of_a_run(built_in)
    text = tomlkit.dumps(tree) if suffix == ".toml" else json.dumps(tree)
    check_bytes(built_in, tmp_path_factory.getbasetemp(), mutated(text.encode(), data.draw), suffix)


@pytest.mark.matrix
@fuzzed(2000)
@given(data=st.data(), suffix=suffixes)
def test_thousands_of_damaged_files_are(built_in, tmp_path_factory, data, suffix):
    tree = config_of_a_run(built_in)
    text = tomlkit.dumps(tree) if suffix == ".toml" else json.dumps(tree)
    check_bytes(built_in, tmp_path_factory.getbasetemp(), mutated(text.encode(), data.draw), suffix)
    check_bytes(built_in, tmp_path_factory.getbasetemp(), data.draw(st.binary(max_size=2000)), suffix)


# As large as a file may be --------------------------------------------------------------------------------------------


def filled(line, head="", tail=""):
    """A text of nearly as many bytes as a config file may have, made of lines that ``line`` gives to a number."""
    out, size, numbers = [head], len(head) + len(tail), itertools.count()
    while (size := size + len(text := line(next(numbers)))) <= MAX_FILE_BYTES:
        out.append(text)
    return "".join(out) + tail


MLP = '[model]\nname = "mlp"\n'
LARGE = {
    "keys.toml": filled(lambda n: f"k{n}=1\n"),
    "keys.json": filled(lambda n: f'"k{n}":1,', "{", '"z":1}'),
    "sections.toml": filled(lambda n: f"[k{n}]\n"),
    "metrics.toml": filled(lambda n: f"[metrics.k{n}]\nname='accuracy'\n"),
    "as many keys as there may be.toml": "".join(f"lrs{n}_{'x' * 100}=1\n" for n in range(MAX_KEYS - 5)),
    "as many metrics.toml": "".join(f"[metrics.k{n}]\nname='top-k'\nkk{n}=1\n" for n in range(MAX_KEYS // 3 - 1)),
    "as many groups.toml": f"{MLP}optimizer.groups=[{','.join(['{match=1,lr=1e39}'] * (MAX_KEYS // 2 - 3))}]",
    "as many right groups.toml": MLP + "[optimizer]\ngroups=[" + "{match='*',lr=1e39}," * (MAX_KEYS // 2 - 3) + "]",
    "dotted key.toml": filled(lambda n: "a.", tail="b=1"),
    "dotted key with quotes.toml": filled(lambda n: '"a" . ', tail="b=1"),
    "dotted header and keys.toml": filled(lambda n: f"k{n}=1\n", f"[{'a.' * 20_000}b]\n"),
    "keys of 31 parts.toml": filled(lambda n: f"{'a.' * 31}b{n}=1\n"),
    "dotted key in a text.toml": filled(lambda n: "a.", 'seed="""1]\n', 'b=1\n#"""'),
    "spaces.toml": filled(lambda n: " ", tail="\nseed=1"),
    "comments.toml": filled(lambda n: "#=\n"),
    "not closed anywhere.toml": filled(lambda n: "k=[\n"),
    "twice.toml": f"['{'(' * 60_000}']\n" * 2,
    "long key.toml": filled(lambda n: "a", tail="=1"),
    "long text for a model.toml": filled(lambda n: "a", "model='", "'"),
    "list of wrong items.toml": filled(lambda n: "'',", f"{MLP}hidden=[", "]"),
    "list of empty tables.toml": filled(lambda n: "{},", f"{MLP}optimizer.groups=[", "]"),
    "weights.toml": filled(lambda n: "-1,", f"{MLP}[loss]\nweight=[", "]"),
    "deep list.toml": filled(lambda n: "[", "a="),
    "deep list, closed.json": f'{{"model":{{"name":{"[" * 900}{"]" * 900}}}}}',
    "long integer.toml": filled(lambda n: "9", "seed="),
    "nothing.toml": "\0" * MAX_FILE_BYTES,
    "more than a file may have.toml": "#" * (MAX_FILE_BYTES + 1),
}
# Each file in turn, in a process that does nothing else: what its memory grows by is what the worst of them needs.
EXAMINER = """
import json, resource, sys, time
from pathlib import Path
from ptb import ConfigError, RunConfig
from ptb.config.resolve import resolve
from ptb.registry.registry import load_registry

def examine(name, text, is_file):
    try:
        config = RunConfig.read([name]) if is_file else RunConfig.read(overrides=[text])
        resolve(config, registry).with_target("class")
        return "plan"
    except ConfigError as error:
        return str(error)

def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10 if sys.platform != "darwin" else 1 << 20)

registry = load_registry(only=())
examine("", "model.name=mlp", False)
for name in sorted(path.name for path in Path().iterdir()):
    text = Path(name).read_text()
    for is_file in (True, False):
        started, before = time.process_time(), used()
        result = examine(name, text, is_file)
        row = [name, "file" if is_file else "override", result, time.process_time() - started, used() - before]
        print(json.dumps(row), flush=True)
"""


def test_the_largest_files_and_overrides_are_told_soon_and_in_little_memory(folder):
    for name, text in LARGE.items():
        (folder / name).write_text(text)
    done = subprocess.run([sys.executable, "-c", EXAMINER], cwd=folder, capture_output=True, text=True, timeout=60)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(rows)) == (0, 2 * len(LARGE)), (rows[-1:], done.stderr[-2000:])
    assert [row for row in rows if row[3] > SECONDS] == []
    assert sum(row[4] for row in rows) < MEBIBYTES
    assert [row[:2] for row in rows if len(row[2]) > 500_000] == []


# Numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["1e-3", "1E-3"])
def test_a_number_with_an_exponent_is_a_float_everywhere(built_in, folder, written):
    (folder / "a.toml").write_text(f"[optimizer]\nlr = {written}\n")
    (folder / "a.json").write_text(f'{{"optimizer": {{"lr": {written}}}}}')
    for config in (
        RunConfig.read([folder / "a.toml"], {"model": "lenet"}),
        RunConfig.read([folder / "a.json"], {"model": "lenet"}),
        RunConfig.read(flags={"model": "lenet", "lr": written}),
        RunConfig.read(flags={"model": "lenet"}, overrides=[f"optimizer.lr={written}"]),
    ):
        lr = resolve(config, built_in).as_config()["optimizer"]["lr"]
        assert (type(lr), lr) == (float, 0.001)


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ({"files": ['optimizer.lr = ".001"']}, 'optimizer.lr: must be {lr}, got ".001"; write 0.001  [{file}:1]'),
        ({"files": ['optimizer.lr = "1e-3"']}, 'optimizer.lr: must be {lr}, got "1e-3"; write 0.001  [{file}:1]'),
        (
            {"overrides": ["optimizer.lr=.001"]},
            'optimizer.lr: must be {lr}, got ".001"; write 0.001  [optimizer.lr=.001]',
        ),
        ({"flags": {"lr": ".001"}}, 'optimizer.lr: must be {lr}, got ".001"; write 0.001  [--lr .001]'),
        ({"flags": {"lr": "1e"}}, 'optimizer.lr: must be {lr}, got "1e"  [--lr 1e]'),
    ],
    ids=["text", "exponent", "override", "flag", "no number"],
)
def test_a_number_that_toml_has_not_is_told_as_it_is_written(built_in, folder, layer, told):
    file = folder / "a.toml"
    file.write_text("\n".join(layer.get("files", ())))
    layer = layer | {"files": [file], "flags": {"model": "lenet"} | layer.get("flags", {})}
    with pytest.raises(ConfigError) as error:
        resolve(RunConfig.read(**layer), built_in)
    assert str(error.value) == told.format(file=file, lr="a number")


def test_thousands_may_be_set_apart(built_in, folder):
    (folder / "a.toml").write_text("trainer.epochs = 1_000")
    layers = [{"files": [folder / "a.toml"]}, {"flags": {"epochs": "1_000"}}, {"overrides": ["trainer.epochs=1_000"]}]
    for layer in layers:
        layer = layer | {"flags": {"model": "lenet"} | layer.get("flags", {})}
        assert resolve(RunConfig.read(**layer), built_in).trainer.epochs == 1000
    (folder / "a.json").write_text('{"trainer": {"epochs": 1_000}}')
    with pytest.raises(ConfigError, match="not valid JSON"):
        RunConfig.read([folder / "a.json"])


# There and back -------------------------------------------------------------------------------------------------------


def fitting(part, root):
    """Values of a JSON Schema, on its bounds more often than not."""
    if "$ref" in part:
        return fitting(root["$defs"][part["$ref"].rpartition("/")[2]], root)
    if arms := part.get("anyOf") or part.get("oneOf"):
        return st.one_of([fitting(arm, root) for arm in arms if arm.get("type") != "null"])
    if "enum" in part or "const" in part:
        return st.sampled_from(part.get("enum", [part.get("const")]))
    low, high = part.get("minimum", part.get("exclusiveMinimum")), part.get("maximum", part.get("exclusiveMaximum"))
    if part.get("type") == "integer":
        low, high = (low or 0) + ("exclusiveMinimum" in part), (2**63 - 1 if high is None else high)
        return st.integers(low, high) | st.sampled_from([low, min(low + 1, high)])
    if part.get("type") == "number":
        sides = {"exclude_min": "exclusiveMinimum" in part, "exclude_max": "exclusiveMaximum" in part}
        numbers = st.floats(low, high, allow_nan=False, allow_infinity=False, **sides)
        return numbers | st.integers(1, 1) if sides["exclude_max"] is False and not high else numbers
    if part.get("type") == "string":
        return st.text(min_size=part.get("minLength", 0), max_size=12) | st.sampled_from(
            ["a.csv", "*", "cpu", "a\tb", "\x7f\x85"]
        )
    if part.get("type") == "array" and "prefixItems" in part:
        return st.tuples(*(fitting(item, root) for item in part["prefixItems"])).map(list)
    if part.get("type") == "array":
        return st.lists(
            fitting(part.get("items", {}), root), min_size=part.get("minItems", 0), max_size=part.get("maxItems", 3)
        )
    if part.get("type") == "object":
        return tables(part, root)
    return st.booleans()


def tables(schema, root):
    required = schema.get("required", ())
    known = {key: fitting(part, root) for key, part in schema.get("properties", {}).items()}
    return st.fixed_dictionaries(
        {key: known[key] for key in required}, optional={key: known[key] for key in known if key not in required}
    )


ENTRIES = [entry for entry in load_registry(only=()).components() if entry.kind in RUN_KINDS]
REQUIRED = {  # what the schema cannot say of them
    "arrays": {"inputs": "x.npy", "targets": "y.npy"},
    "csv": {"path": "a.csv", "target": "y"},
    "image-folder": {"root": "pictures"},
    "image-masks": {"images": "pictures", "masks": "masks"},
    "weights-file": {"path": "a.safetensors"},
    "best-checkpoint": {"monitor": "val/accuracy", "mode": "max"},
    "freeze": {"match": ["*"]},
}


def section_of(entry, label="a label"):
    kind = RUN_KINDS[entry.kind]
    return (kind.section, label) if kind.labelled else (kind.section,)


def placed(path, table):
    for part in reversed(path):
        table = {part: table}
    return {**LENET, **table}


def plan_of(registry, path, table, required=()):
    """Settings that do not go together are taken away until the rest do."""
    while True:
        try:
            return resolve(RunConfig(**placed(path, {**table, **required})), registry).with_target("class")
        except ConfigError as error:
            keys = [problem.key.removeprefix(f"{'.'.join(path)}.") for problem in error.problems]
            named = {word for problem in error.problems for word in re.findall(r"\w+", problem.message)}
            optional = set(table) - set(required)
            faulty = ({re.split(r"[.\[]", key)[0] for key in keys} & optional) or (named & optional)
            if not faulty:
                raise
        table = {key: value for key, value in table.items() if key not in faulty}


def check_settings(registry, folder, path, data, models, required):
    schemas = [model.model_json_schema() for model in models]
    table = {key: value for schema in schemas for key, value in data.draw(tables(schema, schema)).items()}
    assert_same_again(plan_of(registry, path, table, required), registry, folder)


def check_entry(registry, folder, entry, data):
    models = [entry.settings_model(), *([SHARED_SECTIONS[entry.kind]] if entry.kind in SHARED_SECTIONS else [])]
    required = {"name": entry.id, **REQUIRED.get(entry.name, {})}
    check_settings(registry, folder, section_of(entry), data, models, required)


every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=[f"{entry.kind}-{entry.name}" for entry in ENTRIES])
every_core_section = pytest.mark.parametrize(
    ("path", "model"),
    [((), RunSettings), *(((name,), model) for name, model in CORE_SECTIONS.items())],
    ids=["top", *CORE_SECTIONS],
)


deprecated = pytest.mark.filterwarnings("ignore:.* is deprecated:FutureWarning")


@deprecated
@every_entry
@fuzzed(2)
@given(data=st.data())
def test_the_settings_of_a_component_are_written_and_read_as_they_are(built_in, tmp_path_factory, entry, data):
    check_entry(built_in, tmp_path_factory.getbasetemp(), entry, data)


@every_core_section
@fuzzed(8)
@given(data=st.data())
def test_the_settings_of_the_core_are_written_and_read_as_they_are(built_in, tmp_path_factory, path, model, data):
    check_settings(built_in, tmp_path_factory.getbasetemp(), path, data, [model], {})


@pytest.mark.matrix
@deprecated
@every_entry
@fuzzed(100)
@given(data=st.data())
def test_a_hundred_settings_of_a_component_are_written_and_read_as_they_are(built_in, tmp_path_factory, entry, data):
    check_entry(built_in, tmp_path_factory.getbasetemp(), entry, data)


# Slips ----------------------------------------------------------------------------------------------------------------


def camel(key):
    return re.sub(r"_(.)", lambda letter: letter[1].upper(), key)


def slips(key):
    """One letter dropped, doubled, swapped or replaced; another way to join words; a plural; a form of its own."""
    other = random.Random(key)
    for place, letter in enumerate(key):
        rest = key[place + 1 :]
        yield from (key[:place] + rest, key[:place] + 2 * letter + rest)
        yield key[:place] + rest[:1] + letter + rest[1:]
        yield key[:place] + other.choice(string.ascii_lowercase) + rest
    yield from (key.replace("_", "-"), camel(key), key.replace("_", ""), key.upper(), f"{key}s", key.removesuffix("s"))


def every_setting(share):
    """Each section with the component that is chosen there, and its settings; of the components every ``share``-th."""
    for entry in ENTRIES[::share]:
        yield section_of(entry, entry.name), {"name": entry.name}, list(entry.settings_model().model_fields)
    for name, model in {**CORE_SECTIONS, **SHARED_SECTIONS}.items():
        yield (name,), {}, list(model.model_fields)
    yield (), {}, list(RunSettings.model_fields)


def told_of(registry, path, chosen, at, wrong):
    """What is said of each of the wrong keys that stand in the section ``at``, the component of ``path`` chosen."""
    config = RunConfig(**placed(path, chosen))
    table = config.values
    for part in at:
        table = table.setdefault(part, {})
    table |= dict.fromkeys(wrong, 1)
    with pytest.raises(ConfigError) as error:
        resolve(config, registry).with_target("class")
    told = {problem.key: problem.message for problem in error.value.problems}
    return {key: told[".".join((*at, key))] for key in wrong}


def check_slips(registry, wrong_keys):
    """Counts right suggestions: ``wrong_keys`` yields sections, their components, and wrong keys by what was meant."""
    missed, number = [], 0
    for path, chosen, at, meant in wrong_keys:
        wrong = list(meant)
        for group in (wrong[start : start + 40] for start in range(0, len(wrong), 40)):
            for key, message in told_of(registry, path, chosen, at, group).items():
                assert message.startswith(("unknown key", "unknown section or key")), (at, key, message)
                number += 1
                suggested = re.search(r"\(did you mean '(.*?)'( in the section '(.+?)')?\?\)", message)
                place = f"{suggested[3]}.{suggested[1]}" if suggested and suggested[3] else suggested and suggested[1]
                if place not in (meant[key], ".".join((*at, meant[key]))):
                    missed.append((".".join((*at, key)), meant[key], place))
    return number, missed


def slips_of_every_setting(share):
    for path, chosen, fields in every_setting(share):
        known = {"name", *fields, *known_by_default(*path[:1])}
        meant = {wrong: field for field in fields for wrong in slips(field) if wrong and wrong not in known}
        yield path, chosen, path, meant


def settings_in_wrong_places(share):
    """Each in every other section, outside of all, and joined with the name of its own."""
    for path, chosen, fields in every_setting(share):
        places = {field: ".".join((*path, field)) for field in fields}
        chosen = chosen | REQUIRED.get(chosen.get("name"), {})
        for section in (*(name for name, kind in SECTIONS.items() if not kind.labelled), *CORE_SECTIONS):
            if (section,) != path:
                yield (
                    path,
                    chosen,
                    (section,),
                    {f: place for f, place in places.items() if f not in known_by_default(section)},
                )
        if path:
            yield path, chosen, (), {f: place for f, place in places.items() if f not in KEYS}
            yield path, chosen, (), {place.replace(".", "_"): place for place in places.values()}
            yield path, chosen, (), {place: place for place in places.values()}


def known_by_default(section=""):
    chosen = [entry for entry in ENTRIES if entry.kind == section and {"*", "class"} & {*entry.component.default_for}]
    chosen += [entry for entry in ENTRIES if entry.name == "lenet" and section == "model"]
    models = [entry.settings_model() for entry in chosen]
    models += [sections[section] for sections in (CORE_SECTIONS, SHARED_SECTIONS) if section in sections]
    return {key for model in models for key in model.model_fields} if section else KEYS


every_fourth_and_all = pytest.mark.parametrize("share", [4, pytest.param(1, marks=pytest.mark.matrix)])


@every_fourth_and_all
def test_a_slip_in_any_setting_is_refused_and_the_right_key_is_suggested(built_in, share):
    number, missed = check_slips(built_in, slips_of_every_setting(share))
    assert number > 8000 / share
    assert len(missed) <= 0.01 * number, missed


@every_fourth_and_all
def test_a_setting_in_a_wrong_section_is_refused_and_the_right_one_is_suggested(built_in, share):
    number, missed = check_slips(built_in, settings_in_wrong_places(share))
    assert number > 3000 / share
    assert len(missed) <= 0.01 * number, missed


# The command line -----------------------------------------------------------------------------------------------------

PROBE = """
import atexit, sys
atexit.register(lambda: print("HEAVY:", *{"torch", "numpy", "canary"} & set(sys.modules), file=sys.stderr))
from ptb.cli import main
main(prog_name="ptb")
"""


@pytest.mark.parametrize(
    ("command", "file", "arguments", "told"),
    [
        ("run", ("a.toml", b"lr = 1e-3\n"), [], "lr: unknown section or key (did you mean 'optimizer.lr'?)"),
        (
            "run",
            ("a.json", b'{"model": {"name": "canary:attack", "_target_": "canary.attack"}}'),
            [],
            "'canary:attack' is no name of a model",
        ),
        ("check", ("a.json", b'{"a\\ud800": "\\u0000", "model": {"name": "lenet"}}'), [], "unknown section or key"),
        ("run", None, ["model.pool=\udcff"], "cannot be shown"),
        ("run", None, ["--model", "lenet", "model.__class__=canary:attack"], "model.__class__: unknown key"),
    ],
    ids=["place", "import path", "surrogate", "bytes", "class"],
)
def test_the_command_line_refuses_it_with_a_message_alone(folder, command, file, arguments, told):
    (folder / "canary.py").write_text("raise SystemExit('attacked')\n")
    if file:
        (folder / file[0]).write_bytes(file[1])
        arguments = ["-c", file[0], *arguments]
    done = subprocess.run([sys.executable, "-c", PROBE, *command.split(), *arguments], cwd=folder, capture_output=True)
    errors = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b"")
    assert errors.startswith("error: ")
    assert told in errors
    assert "Traceback" not in errors
    assert errors.endswith("HEAVY:\n")
