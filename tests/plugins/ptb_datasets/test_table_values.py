import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptb_datasets.table_column import Column, object_text
from ptb_datasets.table_values import Writing, boolean_pair, date_parts, other_writing


@settings(deadline=None)  # the first call imports pandas
@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_numbers_are_those_of_python(values):
    assert Writing().numbers(list(map(repr, values))).tolist() == values


@settings(deadline=None)
@given(st.floats(-1e12, 1e12).map(lambda value: round(value, 3)))
def test_numbers_of_another_writing_are_the_same(value):
    text = f"{value:,.3f}"
    swapped = text.translate(str.maketrans(",.", ".,"))
    assert Writing(".", ",").numbers([text]).tolist() == [value]
    assert Writing(",", ".", ("€", "EUR")).numbers([swapped, f"€ {swapped}", f"{swapped} EUR"]).tolist() == [value] * 3


@pytest.mark.parametrize("text", ["", "x", "1.5", "1,2,3", ",", "--1", "1 000", "nan", "1_0"])
def test_what_is_no_number_with_a_decimal_comma(text):
    assert np.isnan(Writing(",").numbers([text])).all()


EPOCH = datetime.datetime(1970, 1, 1)
DATES = [
    datetime.datetime(2024, 2, 29, 13, 45, 30),
    datetime.datetime(1969, 7, 20, 20, 17, 40),
    datetime.datetime(2100, 1, 31),
]


@pytest.mark.parametrize(
    "form", ["%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M"]
)
def test_dates_are_days_since_1970(form):
    texts = [date.strftime(form) for date in DATES]
    days, found = Writing().days(texts)
    assert found == form
    read = [datetime.datetime.strptime(text, form) for text in texts]
    assert days == pytest.approx([(date - EPOCH) / datetime.timedelta(days=1) for date in read], rel=1e-12)


@pytest.mark.parametrize(
    "texts", [["2024-13-01"], ["2024-01-01", "soon"], ["01/02/2024"], ["2024-01-01", "02.01.2024"], []]
)
def test_what_is_no_date_or_may_be_two(texts):
    assert Writing().days(texts) is None


def test_zones_are_taken_to_utc():
    days, _ = Writing().days(["2024-01-01T01:00:00+01:00", "2024-01-01T00:00:00+00:00"])
    assert days[0] == days[1]


def test_parts_of_dates_are_those_of_python():
    days, _ = Writing().days([date.isoformat() for date in DATES])
    parts = date_parts(np.append(days, np.nan), times=True)
    assert parts[:3].tolist() == [[d.year, d.month, d.day, d.weekday(), d.hour] for d in DATES]
    assert np.isnan(parts[3]).all()


@pytest.mark.parametrize(
    ("texts", "pair"),
    [
        (["Yes", "no", "NO"], ("no", "yes")),
        (["ja", "nein"], ("nein", "ja")),
        (["no", "Sí"], ("no", "sí")),
        (["yes", "no", "?"], None),
        (["yes"], None),
        (["yes", "nein"], None),
    ],
)
def test_words_for_yes_and_no(texts, pair):
    assert boolean_pair(texts) == pair


@pytest.mark.parametrize(
    ("texts", "typed"),
    [
        (["1,5", "2,25"], "looks like a decimal comma: add dataset.decimal=','"),
        (
            ["1.234,5", "2,25"],
            "looks like a decimal comma and a thousands mark: add dataset.decimal=',' dataset.thousands=.",
        ),
        (["1 234.5"], "looks like a thousands mark: add dataset.thousands=' '"),
        (["1'234'567"], """looks like a thousands mark: add dataset.thousands=''"'"''"""),
        (["5 %", "7 %"], """looks like a currency or percent sign: add dataset.units='["%"]'"""),
        (["1", "2", "x"], ""),
        (["a", "b"], ""),
        (["$"], ""),
    ],
)
def test_texts_that_look_like_numbers(texts, typed):
    assert other_writing([texts], Writing()) == typed


@given(st.lists(st.sampled_from(["a", "b ", " NA", "", "c"]), min_size=1), st.randoms())
def test_a_column_is_its_texts_in_little_memory(values, random):
    column = Column.of_texts(values, ("NA", ""))
    wanted = ["" if text.strip() == "NA" else text.strip() for text in values]
    assert [column.text(row) for row in range(len(column))] == wanted
    rows = np.array(random.sample(range(len(values)), random.randrange(len(values) + 1)), dtype=int)
    taken = column.take(rows)
    assert [taken.text(row) for row in range(len(taken))] == [wanted[row] for row in rows]
    assert set(taken.texts) == {wanted[row] for row in rows} - {""}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (float("nan"), None),
        (np.float64("nan"), None),
        (True, "true"),
        (np.bool_(False), "false"),
        (3, "3"),
        (np.int64(3), "3"),
        (2.5, "2.5"),
        (np.float32(0.5), "0.5"),
        (datetime.date(2024, 2, 1), "2024-02-01"),
        (datetime.datetime(2024, 2, 1), "2024-02-01"),
        (datetime.datetime(2024, 2, 1, 3), "2024-02-01T03:00:00"),
        ("x", "x"),
    ],
)
def test_objects_are_written_as_csv_has_them(value, text):
    assert object_text(value) == text
