"""Two hundred ways to write one table: each is read as the plain one, or the messages lead there."""

import csv
import datetime
import gzip
import io
import random
import re
import shlex
import tomllib
import warnings
import zipfile

import numpy as np
import pytest
import torch

from ptb import PtbError
from ptb_datasets.csv_table import csv_table

SEEDS = [*range(60), *(pytest.param(seed, marks=pytest.mark.matrix) for seed in range(60, 200))]
ROWS = 60
START = datetime.date(2021, 1, 1)
clean = random.Random(0)
TABLE = [
    {
        "amount": round(clean.gauss(40_000, 30_000), 2),
        "share": round(clean.random(), 4),
        "count": clean.randrange(9),
        "town": clean.choice(["Bern", "Chur", "Genève"]),
        "open": clean.random() < 0.5,
        "day": START + datetime.timedelta(days=clean.randrange(900)),
    }
    for _ in range(ROWS)
]
for number, row in enumerate(TABLE):
    row["share"] = None if number % 13 == 5 else row["share"]
    row["good"] = row["amount"] + clean.gauss(0, 9000) > 40_000
NUMBERS = ("amount", "share", "count")
BOOLEANS = [("no", "yes"), ("false", "true"), ("False", "True"), ("nein", "ja"), ("N", "Y"), ("non", "oui"), ("0", "1")]
DATES = ["%Y-%m-%d", "%d.%m.%Y", "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"]


def grouped(text, thousands):
    whole, point, rest = text.partition(".")
    digits = whole.lstrip("-")
    groups = []
    while digits:
        groups.insert(0, digits[-3:])
        digits = digits[:-3]
    return "-" * whole.startswith("-") + thousands.join(groups), point, rest


def written(style):
    """The bytes of the table in a style, and the name of its file."""

    def number(value, name):
        if value is None:
            return style["missing"]
        text = repr(value)
        whole, point, rest = grouped(text, style["thousands"] if name == "amount" else "")
        text = whole + (style["decimal"] if point else "") + rest
        if name == "amount" and style["unit"] in ("$", "€ "):
            text = style["unit"] + text
        elif name == "amount":
            text += style["unit"]
        return text

    lines = []
    for n, row in enumerate(TABLE):
        cells = [number(row[name], name) for name in NUMBERS]
        cells += [row["town"], style["boolean"][row["open"]], row["day"].strftime(style["date"])]
        cells += [style["target"][row["good"]]]
        lines.append(([str(n)] if style["index"] else []) + cells + ([""] if style["trailing"] else []))
    names = [*NUMBERS, "town", "open", "day", "good"]
    header = ([style["index"].strip()] if style["index"] else []) + names + ([""] if style["trailing"] else [])
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=style["separator"], lineterminator=style["end"], quoting=style["quoting"])
    writer.writerows([header, *lines])
    text = style["before"].replace("SEP", style["separator"]) + stream.getvalue() + style["after"]
    content = text.encode(style["encoding"])
    if style["packed"] == "gzip":
        content = gzip.compress(content)
    if style["packed"] == "zip":
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("table.csv", content)
        content = archive.getvalue()
    return content


def styled(seed):
    g = random.Random(seed)

    def often(first, *others):
        return first if g.random() < 0.55 else g.choice(others)

    decimal = often(".", ",")
    return {
        "separator": often(",", ";", "\t", "|"),
        "decimal": decimal,
        "thousands": often("", "," if decimal == "." else ".", " ", "'"),
        "unit": often("", "$", " €", " EUR", "%"),
        "encoding": often("utf-8", "utf-8-sig", "latin-1", "utf-16", "cp1252"),
        "end": often("\n", "\r\n"),
        "quoting": often(csv.QUOTE_MINIMAL, csv.QUOTE_ALL),
        "index": often("", " ", "Unnamed: 0"),
        "trailing": g.random() < 0.15,
        "boolean": g.choice(BOOLEANS[:-1]),
        "target": g.choice(BOOLEANS),
        "date": g.choice(DATES),
        "before": often("", "# exported on a Monday\n", "sep=SEP\n", "\n\n"),
        "after": often("", "\n", "\n\n"),
        "packed": often("", "gzip", "zip"),
        "missing": often("", "NA", "-", "?", "n/a", "missing"),
    }


def coded(style):
    """A style that its encoding can write."""
    if style["encoding"] == "latin-1" and style["unit"] == " €":
        style["encoding"] = "cp1252"
    return style


def typed(message):
    """The settings that the first advice of a message says to type, as a shell and the command line read them."""
    found = re.search(
        r"dataset\.\w+=(?:'[^']*'|\"[^\"]*\"|[^\s;,'\"])+(?: dataset\.\w+=(?:'[^']*'|\"[^\"]*\"|[^\s;,'\"])+)*", message
    )
    settings = {}
    for word in shlex.split(found[0]) if found else []:
        key, _, text = word.partition("=")
        try:
            settings[key.removeprefix("dataset.")] = tomllib.loads(f"x={text}")["x"]
        except tomllib.TOMLDecodeError:
            settings[key.removeprefix("dataset.")] = text
    return settings


def samples(path, settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bundle = csv_table(path=str(path), target="good", **settings)
    return bundle, [split.tensors for split in bundle.splits.values()]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "table.csv"
    style = {
        "separator": ",",
        "decimal": ".",
        "thousands": "",
        "unit": "",
        "encoding": "utf-8",
        "end": "\n",
        "index": "",
    }
    style |= {"quoting": csv.QUOTE_MINIMAL, "trailing": False, "boolean": BOOLEANS[0], "target": BOOLEANS[0]}
    path.write_bytes(written(style | {"date": DATES[0], "before": "", "after": "", "packed": "", "missing": ""}))
    return samples(path, {"missing": "mean"})[1]


def followed(path):
    """The bundle, and how many messages led there."""
    settings = {"missing": "mean"}
    for attempt in range(9):
        try:
            return samples(path, settings), attempt, settings
        except PtbError as error:
            message, advice = str(error), typed(str(error))
        if not advice.keys() - settings.keys():
            break
        settings |= advice
    pytest.fail(f"{message} (after {settings})")


@pytest.mark.parametrize("seed", SEEDS)
def test_each_way_to_write_a_table_is_read_or_its_messages_lead_there(seed, plain, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(written(coded(styled(seed))))
    (bundle, splits), _, _ = followed(path)
    for theirs, ours in zip(splits, plain, strict=True):
        for one, other in zip(theirs, ours, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    read = list(bundle.preprocessor.read([path]))
    assert len(read) == ROWS
    assert all(sample.error is None for sample in read)


def test_the_plain_table_is_what_numpy_makes_of_it(plain):
    inputs = torch.cat([split[0] for split in plain]).numpy()
    amounts = np.array([row["amount"] for row in TABLE])
    assert inputs.shape == (ROWS, 3 + 3 + 1 + 1)
    assert np.corrcoef(np.sort(inputs[:, 0]), np.sort(amounts))[0, 1] == pytest.approx(1)
    assert sorted(inputs[:, 6].tolist()) == sorted(float(row["open"]) for row in TABLE)
