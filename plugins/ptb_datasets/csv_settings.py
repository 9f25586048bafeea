"""The settings of ``csv``."""

import codecs
import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_validator, model_validator

from ptb_datasets.settings import FractionOrNone, Location, Seed

SEPARATORS = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
MISSING_VALUES = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
Kind = Literal["class", "binary", "real", "multilabel", "distribution"]


def _name(value: Any) -> Any:
    """The name of a column as it is typed in TOML: 2023, 2024-01-01 and true are names too."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float | datetime.date | datetime.time) else value


def _several(value: Any) -> Any:
    """A list of names; one name is a list of one."""
    if isinstance(value, list | tuple):
        return tuple(_name(part) for part in value)
    return value if value is None else (_name(value),)


def _target(value: Any) -> Any:
    return _several(value) if isinstance(value, list | tuple) else _name(value)


def _distinct(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if names is not None and len(set(names)) < len(names):
        raise ValueError("names a column twice")
    return names


Column = Annotated[str, Field(min_length=1), BeforeValidator(_name)]
_Name = Annotated[str, Field(min_length=1)]
_Names = Annotated[tuple[_Name, ...], BeforeValidator(_several), AfterValidator(_distinct)]
_NamesOrNone = Annotated[tuple[_Name, ...] | None, BeforeValidator(_several), AfterValidator(_distinct)]
_Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]


class Csv(BaseModel, defer_build=True):
    """Settings of ``csv``."""

    path: Location | None = Field(
        None,
        description="The table: CSV, also packed with gzip or zip, Excel or Parquet",
        json_schema_extra={"synonyms": ["file", "filename", "table", "root", "data"]},
    )
    train: Location | None = Field(None, description="Instead of path: the table of the training rows")
    val: Location | None = Field(None, description="With train: the table of the rows for validation")
    test: Location | None = Field(None, description="With train: the table of the rows for the last test")
    header: bool = Field(
        True, description="The first row names the columns; if false they are called 1, 2 and so on, by their place"
    )
    target: Annotated[_Name | tuple[_Name, ...], BeforeValidator(_target)] = Field(
        description="The column that is predicted, or a list of them",
        json_schema_extra={"synonyms": ["label", "labels", "y", "column"]},
    )
    features: _NamesOrNone = Field(
        None, min_length=1, description="Columns that the model sees; without it all that have no other use"
    )
    exclude: _Names = Field((), description="Columns that are left out")
    categorical: _Names = Field((), description="Features whose values are names even if they look like something else")
    text: Column | None = Field(None, description="A column of text to use as tokens instead of features")
    max_length: int | None = Field(
        None, ge=1, le=100_000, description="With text: tokens of a sample, the rest is cut off; without it 64"
    )
    vocabulary: int | None = Field(
        None, ge=3, le=10_000_000, description="With text: the most different tokens; without it 10,000"
    )
    kind: Literal["auto", "class", "binary", "real", "multilabel", "distribution"] = Field(
        "auto",
        description="What the target is; auto: two values binary, text and few whole numbers class, else real; of "
        "several columns: multilabel if each is 0 or 1, else real",
    )
    positive: Column | None = Field(
        None, description="The value of a binary target that becomes 1; without it the one that says yes, or the later"
    )
    standardize_target: bool | None = Field(
        None,
        description="With a real target: train on (value - mean) / std of the training rows, or, if false, on "
        "the value; without it true",
    )
    missing: Literal["error", "drop", "mean"] = Field(
        "error",
        description="Rows that lack a value: stop, leave them out, or use the mean of the training rows "
        "(categories: none of them; text: no words)",
    )
    missing_values: _Texts = Field(MISSING_VALUES, description="What stands for a missing value")
    separator: str = Field(
        ",", description="The character between two values; also tab, comma, semicolon, pipe or space"
    )
    decimal: Literal[".", ","] = Field(".", description="The mark before the decimals of a number")
    thousands: str | None = Field(
        None, min_length=1, max_length=1, description="The mark between groups of three digits, as in 1,234,567"
    )
    units: _Texts = Field((), description="What may stand before or after a number, such as $, EUR or %")
    comment: str | None = Field(None, min_length=1, description="Lines that begin with this are passed over")
    encoding: str = Field("utf-8", description="Of the text, such as latin-1, cp1252 or utf-16")
    sheet: Column | None = Field(None, description="Of an Excel file with several sheets: the one to read")
    dates: Literal["ordinal", "parts"] = Field(
        "ordinal", description="Dates become days since 1970, or year, month, day and day of the week (times: and hour)"
    )
    date_format: str | None = Field(
        None, min_length=1, description="How dates are written, as for strptime: %d/%m/%Y; without it it is found"
    )
    split: Column | None = Field(None, description="A column that says of each row train, val or test")
    group: Column | None = Field(None, description="Rows with the same value of this column stay in one split")
    time: Column | None = Field(
        None, description="A column of dates or numbers: the last rows are the test, those before them validate"
    )
    folds: int | None = Field(None, ge=2, le=1000, description="Cross-validation: parts into which the rows are cut")
    fold: int | None = Field(None, ge=0, description="With folds: the part that is the test, from 0")
    sample_weight: Column | None = Field(None, description="A column of weights of the rows in the loss")
    val_fraction: FractionOrNone | None = Field(
        None, description="Part of the rows for validation, 0: none; without it 0.15, or none with split or val or test"
    )
    test_fraction: FractionOrNone | None = Field(
        None,
        description="Part of the rows for the last test, 0: none; without it 0.15, or none with split, val, test or "
        "folds",
    )
    split_seed: Seed = Field(0, description="Chooses which rows go where; independent of the run's seed")
    max_bytes: int = Field(
        512 * 2**20, ge=1, description="A larger file is refused, packed or unpacked; the table is held in memory"
    )

    @field_validator("separator")
    @classmethod
    def _separator(cls, value: str) -> str:
        value = SEPARATORS.get(value.lower(), value)
        if len(value) != 1:
            raise ValueError(f"must have at most 1 character, or be one of {', '.join(SEPARATORS)}")
        if value in '"\n\r':
            raise ValueError("cannot be a quote or the end of a line")
        return value

    @field_validator("thousands")
    @classmethod
    def _thousands(cls, value: str | None) -> str | None:
        if value is not None and (value.isalnum() or value in '"\n\r+-'):
            raise ValueError("must be a mark such as a comma, a point, a space or an apostrophe")
        return value

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, value: str) -> str:
        try:
            found = codecs.lookup(value)
        except LookupError:
            raise ValueError("no such encoding; try utf-8, latin-1, cp1252 or utf-16") from None
        if not getattr(found, "_is_text_encoding", True):
            raise ValueError("is not an encoding of text; try utf-8, latin-1, cp1252 or utf-16")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.train is None):
            raise ValueError("give path, one table that is split, or train, the table of the training rows")
        if self.train is None and (self.val or self.test):
            raise ValueError("val and test belong to train; give train instead of path")
        return self

    @model_validator(mode="after")
    def _one_way_to_split(self) -> Self:
        ways = {"split": self.split, "time": self.time, "folds": self.folds, "val or test": self.val or self.test}
        used = [name for name, value in ways.items() if value]
        if len(used) > 1 or (self.group and used not in ([], ["folds"])):
            both = [*used, "group"] if self.group else used
            raise ValueError(f"{both[0]} and {both[1]} both say how rows are split; leave one of them out")
        if (self.fold is None) != (self.folds is None):
            missing = "fold" if self.fold is None else "folds"
            raise ValueError(
                f"it lacks {missing}: folds says into how many parts, fold which of them, from 0, is tested"
            )
        if self.folds and (self.fold or 0) >= self.folds:
            raise ValueError(f"of {self.folds} folds, the last one is fold={self.folds - 1}: they are numbered from 0")
        for name, fraction in (("val", self.val_fraction), ("test", self.test_fraction)):
            fixed = self.split or (self.folds and name == "test") or getattr(self, name)
            if fixed and fraction:
                raise ValueError(f"{name}_fraction has no rows to choose: the split is given; leave it out")
        if self.split_seed and (self.split or self.time or (not any(self.fractions()) and not self.folds)):
            raise ValueError("split_seed chooses what val_fraction and test_fraction take, both 0; leave it out")
        return self

    @model_validator(mode="after")
    def _options_go_together(self) -> Self:
        if self.text is None:
            for name in ("max_length", "vocabulary"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} belongs to text; leave it out, or name a column of text")
        elif self.features is not None or self.categorical:
            raise ValueError("text is used instead of features and categorical; leave them out")
        if self.decimal == self.thousands or self.separator == self.thousands == " ":
            raise ValueError("thousands must be another mark than decimal and separator")
        if self.standardize_target is not None and self.kind not in ("auto", "real"):
            raise ValueError(f"standardize_target belongs to a real target, and kind is {self.kind}; leave one out")
        if self.positive is not None and self.kind not in ("auto", "binary"):
            raise ValueError(f"positive belongs to a binary target, and kind is {self.kind}; leave one out")
        several = not isinstance(self.target, str)
        if several and (not self.target or len(set(self.target)) < len(self.target)):
            raise ValueError("target must name at least one column, and none twice")
        if several and len(self.target) > 1 and self.kind in ("class", "binary"):
            raise ValueError(f"kind={self.kind} has one column as its target; several are multilabel or real")
        if self.kind in ("multilabel", "distribution") and len(self.targets) < 2:
            raise ValueError(f"kind={self.kind} needs a column for each label; list them in target")
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that are predicted."""
        return (self.target,) if isinstance(self.target, str) else self.target

    def fractions(self) -> tuple[float, float]:
        """The parts of the rows that are drawn for validation and for the test."""
        given = bool(self.split or self.val or self.test)
        val = self.val_fraction if self.val_fraction is not None else (0.0 if given else 0.15)
        test = self.test_fraction if self.test_fraction is not None else (0.0 if given or self.folds else 0.15)
        return val, test
