import numpy as np
import pandas as pd
import pytest
import torch

from ptb_datasets.csv_table import csv_table
from ptb_datasets.table_preprocessor import TablePreprocessor

random = np.random.RandomState(0)
ROWS = 60
FRAME = pd.DataFrame(
    {
        "size": random.normal(50, 9, ROWS).round(4),
        "rooms": random.randint(1, 6, ROWS),
        "town": random.choice(["Bern", "Genève", "Chur"], ROWS),
        "new": random.choice(["yes", "no"], ROWS),
        "built": [f"20{n % 20:02}-0{1 + n % 9}-1{n % 9}" for n in range(ROWS)],
        "words": random.choice(["a fine house", "House, by a lake", "no garden"], ROWS),
        "price": random.normal(250_000, 50_000, ROWS).round(2),
        "kind": random.choice(["flat", "house", "barn"], ROWS),
        "sold": random.choice(["true", "false"], ROWS),
        "a": (share := random.rand(ROWS).round(3)),
        "b": 1 - share,
    }
)
FEATURES = ("size", "rooms", "town", "new", "built")
WAYS = {
    "real": {"target": "price"},
    "class": {"target": "kind"},
    "binary": {"target": "sold"},
    "positive": {"target": "sold", "positive": "false"},
    "several": {"target": ("price", "size"), "features": ("rooms", "town")},
    "distribution": {"target": ("a", "b"), "kind": "distribution"},
    "multilabel": {"target": ("sold", "new"), "features": ("size", "town")},
    "raw-target": {"target": "price", "standardize_target": False},
    "text": {"target": "kind", "text": "words", "features": None, "max_length": 5, "vocabulary": 6},
    "names": {"target": "price", "categorical": ("rooms",)},
    "parts": {"target": "price", "dates": "parts"},
    "semicolon": {"target": "price", "separator": ";", "decimal": ","},
}


def restored(bundle):
    new = TablePreprocessor()
    new.spec = bundle.spec
    new.load_state_dict(bundle.preprocessor.state_dict())
    return new


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def made(request, tmp_path):
    settings = {"features": FEATURES, "val_fraction": 0.2, "test_fraction": 0} | request.param
    path = tmp_path / "houses.csv"
    FRAME.to_csv(path, index=False, sep=settings.get("separator", ","), decimal=settings.get("decimal", "."))
    return path, csv_table(path=path, **settings)


def together(samples):
    assert [sample.error for sample in samples] == [None] * len(samples)
    return torch.stack([sample.inputs for sample in samples]), torch.stack([sample.targets for sample in samples])


def sorted_rows(inputs, targets):
    table = torch.cat([inputs.double(), targets.double().reshape(len(targets), -1)], 1).numpy()
    return table[np.lexsort(table.T)]


def test_the_files_of_training_give_the_samples_of_training_bit_for_bit(made):
    path, bundle = made
    samples = list(restored(bundle).read([path]))
    inputs, targets = together(samples)
    whole = [torch.cat(parts) for parts in zip(*(s.tensors for s in bundle.splits.values()), strict=True)]
    assert (inputs.dtype, targets.dtype) == (whole[0].dtype, whole[1].dtype)
    assert np.array_equal(sorted_rows(inputs, targets), sorted_rows(*whole))
    assert [samples[0].name, samples[-1].name] == [f"{path}:2", f"{path}:{ROWS + 1}"]


def test_rows_as_dicts_and_data_frames_are_read_as_the_file_is(made):
    path, bundle = made
    expected = together(list(bundle.preprocessor.read([path])))
    shuffled = FRAME[FRAME.columns[::-1]]
    for sources in ([shuffled], shuffled.to_dict("records"), iter([path])):
        assert all(map(torch.equal, together(list(restored(bundle).read(sources))), expected))


def test_targets_are_decoded_to_what_the_file_has(made):
    path, bundle = made
    _, targets = together(list(bundle.preprocessor.read([path])))
    decoded = bundle.preprocessor.decode_targets(targets)
    names = bundle.preprocessor.target["columns"]
    if bundle.spec.target in ("class", "binary"):
        assert decoded == FRAME[names[0]].tolist()
    elif bundle.spec.target == "multilabel":
        assert decoded[0] == "|".join(name for name in names if FRAME[name][0] in ("true", "yes"))
    else:
        own = FRAME[names].to_numpy().reshape(np.asarray(decoded).shape)
        assert np.asarray(decoded) == pytest.approx(own, rel=1e-5)


@pytest.fixture
def houses(tmp_path):
    path = tmp_path / "houses.csv"
    FRAME.to_csv(path, index=False)
    return csv_table(path=path, target="kind", features=FEATURES).preprocessor


ROW = {"size": 50, "rooms": 2, "town": "Bern", "new": "yes", "built": "2003-04-05"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": "big"}, "'size': 'big' is no number"),
        ({"size": None}, "no value for 'size'"),
        ({"size": float("nan")}, "no value for 'size'"),
        ({"size": 1e300}, "'size': '1e+300' is no number"),
        ({"size": "inf"}, "'size': 'inf' is no number"),
        ({"new": "perhaps"}, "'new': 'perhaps' is neither 'no' nor 'yes'"),
        ({"built": "5.4.2003"}, "'built': '5.4.2003' is no date"),
        ({"town": ""}, "no value for 'town'"),
    ],
)
def test_a_row_that_cannot_be_used_is_a_sample_with_an_error(houses, changed, message):
    first, second, third = houses.read([ROW, ROW | changed, ROW])
    assert message in second.error
    assert (second.name, second.inputs) == ("[1]", None)
    assert torch.equal(first.inputs, third.inputs)
    assert first.targets is None


def test_a_row_whose_target_is_none_can_still_be_predicted(houses):
    (known,) = houses.read([ROW])
    (sample,) = houses.read([ROW | {"kind": "tent"}])
    assert (sample.targets, sample.error) == (None, "'kind': 'tent' is not one of barn, flat, house")
    assert torch.equal(sample.inputs, known.inputs)


def test_columns_in_another_order_and_without_targets_are_read(houses, tmp_path):
    path = tmp_path / "new.csv"
    FRAME[["built", "new", "rooms", "size", "town"]].to_csv(path, index=False)
    samples = list(houses.read([str(path)]))
    assert len(samples) == ROWS
    assert {sample.targets for sample in samples} == {None}


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("size,rooms,new,built\n1,2,yes,2003-04-05\n", ["new.csv"], "has no column 'town'; it has 'size', 'rooms'"),
        ("size,rooms,town,new,built\n1,2,Bern\n", ["new.csv:2"], "line 2: 3 values, and the header has 5"),
        ("", ["new.csv"], "is empty"),
        ('size,rooms,town,new,built\n1,2,"Bern', ["new.csv"], "a double quote is opened and not closed"),
    ],
    ids=["column", "short", "empty", "quote"],
)
def test_a_file_that_cannot_be_used_is_a_sample_with_an_error(houses, tmp_path, text, names, message):
    path = tmp_path / "new.csv"
    path.write_text(text)
    samples = list(houses.read([path]))
    assert [sample.name.rpartition("/")[2] for sample in samples] == names
    assert message in samples[0].error


def test_a_file_that_is_not_there_does_not_hide_the_next(houses, tmp_path):
    first, second = houses.read([tmp_path / "none.csv", ROW])
    assert "No such file" in first.error
    assert second.inputs is not None


def test_what_is_no_table_is_said(houses):
    (sample,) = houses.read([3])
    assert sample.error == "a int is no table; give a file, a data frame, an array, or a dict for each row"


def test_bad_rows_stand_in_their_place(houses, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("size,rooms,town,new,built\n1,2\n1,2,Bern,yes,2003-04-05\nx,2,Bern,yes,2003-04-05\n")
    assert [(s.name, s.error is None) for s in houses.read([path])] == [
        (f"{path}:2", False),
        (f"{path}:3", True),
        (f"{path}:4", False),
    ]


def test_rows_are_read_lazily(houses):
    taken = []

    def rows():
        for number in range(10_000):
            taken.append(number)
            yield ROW

    next(houses.read(rows()))
    assert len(taken) < 1000


def test_missing_values_are_filled_as_in_training(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,c,y\n" + "".join(f"{n if n % 5 else ''},{'ab'[n % 2]},{n % 2}\n" for n in range(40)))
    bundle = csv_table(path=path, target="y", missing="mean", val_fraction=0, test_fraction=0)
    (sample,) = bundle.preprocessor.read([{"x": None, "c": None}])
    assert sample.inputs.tolist() == [pytest.approx(0, abs=1e-6), 0, 0]
    assert torch.equal(sample.inputs[:1], bundle.train.tensors[0][0, :1])


def test_a_category_that_training_lacks_is_none_of_them(houses):
    with pytest.warns(UserWarning, match="column") as said:
        known, *_, other = houses.read([ROW, *[ROW | {"town": "Uri"}] * 2, ROW | {"town": "Zug"}])
    assert [str(each.message) for each in said] == [
        "column 'town': 3 rows have a value that training had not, 'Uri', 'Zug'; to the model, such a row has none of "
        "the known values"
    ]
    assert (known.inputs[2:5].sum(), other.inputs[2:5].sum()) == (1, 0)


def test_rows_of_an_array_are_the_features_in_their_order(tmp_path):
    path = tmp_path / "houses.csv"
    FRAME.to_csv(path, index=False)
    features = ["rooms", "size"]
    fitted = csv_table(path=path, target="price", features=features).preprocessor
    expected = [sample.inputs for sample in fitted.read([path])]
    values = FRAME[features].to_numpy()
    samples = list(fitted.read([values, values[3]]))
    assert all(torch.equal(one.inputs, other) for one, other in zip(samples[:-1], expected, strict=True))
    assert (samples[3].name, samples[3].targets) == ("[3]", None)
    assert torch.equal(samples[-1].inputs, expected[3])
    (wrong,) = fitted.read([values[:, :1]])
    assert wrong.error == f"the array has the shape [{ROWS}, 1], and a row has 2 values"


MIXED = [f"{n * 0.1!r},{n % 5},{n * 1e7!r},Bern" for n in range(300)]
BETWEEN = {
    "nothing": [],
    "a quote": ['1,2,3,"Chur, upper"', '1,2,3,"two\nlines"', '1,2,3,"a ""name"""'],
    "a short row": ["1,2"],
    "a blank line": ["", ""],
    "a word": ["1,two,3,Bern"],
    "a missing value": ["1,,3,Bern", "NA,2,3,Bern"],
    "spaces": [" 1 , 2, 3 , Bern "],
    "a carriage return": ["1,2,3,Bern\r\n1,2,3,Chur\r"],
    "huge": ["1e999,2,3,Bern"],
}


def numbers(tensor):
    """A text, in which NaN is NaN."""
    return "" if tensor is None else repr(tensor.tolist())


@pytest.mark.filterwarnings("ignore:column 'town'")  # some of its values are new
@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
@pytest.mark.parametrize("ending", ["\n", ""])
def test_text_that_is_read_quickly_gives_the_samples_of_the_parser(tmp_path, monkeypatch, between, ending):
    header = ["size,rooms,price,town"]
    path = tmp_path / "t.csv"
    path.write_text("\n".join([*header, *MIXED]))
    made = csv_table(path=path, target="price", missing_values=["", "NA"], features=["size", "rooms", "town"])
    text = "\n".join([*header, *MIXED, *between, *MIXED]) + ending
    (tmp_path / "new.csv").write_bytes(text.encode())

    def read():
        samples = list(made.preprocessor.read([tmp_path / "new.csv"]))
        return [(each.name, numbers(each.inputs), numbers(each.targets), each.error) for each in samples]

    monkeypatch.setattr("ptb_datasets.csv_file.BLOCK", 2000)  # many blocks
    quick = read()
    monkeypatch.setattr("ptb_datasets.table_source.lines_without_quotes", lambda *given: iter([None]))
    assert quick == read()
    assert len(quick) >= 600


@pytest.mark.parametrize("way", ["real", "parts", "names"])
def test_a_sample_is_shown_as_the_row_of_the_table_that_it_was(tmp_path, way):
    path = tmp_path / "houses.csv"
    FRAME.to_csv(path, index=False)
    settings = {"features": FEATURES, "val_fraction": 0.2, "test_fraction": 0} | WAYS[way]
    bundle = csv_table(path=path, **settings)
    preprocessor = restored(bundle)
    samples = list(preprocessor.read([path]))
    for sample, row in zip(samples, FRAME.itertuples(), strict=True):
        shown = preprocessor.show(sample.inputs)
        assert shown["size"] == pytest.approx(row.size, rel=1e-5)
        assert (shown["town"], shown["new"]) == (row.town, row.new)
        assert shown["rooms"] == (str(row.rooms) if way == "names" else pytest.approx(row.rooms, rel=1e-5))
        year, month, day = map(int, row.built.split("-"))
        parts = f"year {year}, month {month}, day {day}, weekday "
        assert shown["built"].startswith(parts) if way == "parts" else shown["built"] == row.built


def test_a_text_is_shown_by_its_words_and_a_new_category_as_another(tmp_path):
    path = tmp_path / "houses.csv"
    FRAME.to_csv(path, index=False)
    text = csv_table(path=path, val_fraction=0.2, test_fraction=0, **WAYS["text"]).preprocessor
    (sample,) = text.read([{"words": "A fine castle, by"}])
    assert text.show(sample.inputs).split()[2] == "?"
    assert set(text.show(sample.inputs).split()) <= {"?", *text.words}
    table = csv_table(path=path, features=FEATURES, val_fraction=0.2, test_fraction=0, target="price").preprocessor
    with pytest.warns(UserWarning, match="'Atlantis'; to the model"):
        (sample,) = table.read([{**FRAME.iloc[0].to_dict(), "town": "Atlantis"}])
    assert table.show(sample.inputs)["town"] == "(another or none)"
