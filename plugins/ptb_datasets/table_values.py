"""What the texts of a table stand for: numbers, dates, booleans; and what they look like where they are none."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ptb_datasets.csv_settings import Csv

# (no, yes) in lower case.
BOOLEANS = (
    *(("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"), ("off", "on"), ("nein", "ja"), ("nee", "ja")),
    *(("nej", "ja"), ("nei", "ja"), ("non", "oui"), ("no", "si"), ("no", "sí"), ("no", "sì"), ("não", "sim")),
    *(("nao", "sim"), ("falsch", "wahr"), ("faux", "vrai"), ("falso", "vero"), ("falso", "verdadero"), ("nie", "tak")),
    *(
        ("negative", "positive"),
        ("neg", "pos"),
        ("нет", "да"),
        ("否", "是"),
        ("いいえ", "はい"),
        ("n", "j"),
        ("n", "o"),
    ),
)
_CURRENCY = re.compile(r"US\$|[$€£¥₹%]|(?<![A-Za-z])(?:EUR|USD|GBP|CHF|JPY|CNY|INR|Fr\.)(?![A-Za-z])")
_DATE = r"(?:\d{4}-\d{2}-\d{2}|\d{4}/\d{1,2}/\d{1,2}|\d{1,2}\.\d{1,2}\.\d{4}|\d{1,2}/\d{1,2}/\d{4})"
_LIKE_A_DATE = re.compile(_DATE + r"(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?")
FEW_TEXTS = 50  # fewer are not worth pandas
LOOKED_AT = 1000  # texts of a column that say how numbers are written
# Of decimals and thousands, the more frequent first.
_MARKS = (
    *((".", None), (",", None), (".", ","), (",", "."), (",", " "), (".", " "), (".", "'"), (",", "'")),
    *((".", "\u2019"), (",", "\u00a0"), (".", "\u00a0"), (",", "\u202f"), (".", "_")),
)
_DATE_FORMATS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
_TIME_FORMATS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M", "T%H:%M:%S", "T%H:%M:%S.%f", "T%H:%M:%S%z")
_ZONE_FORMATS = (" %H:%M:%S%z", "T%H:%M%z", "T%H:%M:%S.%f%z", " %H:%M:%S.%f%z")


@dataclass(frozen=True)
class Writing:
    """How numbers and dates are written.

    Args:
        decimal: the mark before the decimals.
        thousands: the mark between groups of three digits, or None.
        units: what may stand before or after a number.
        date_format: for ``strptime``; None where it is found.
    """

    decimal: str = "."
    thousands: str | None = None
    units: tuple[str, ...] = ()
    date_format: str | None = None

    @classmethod
    def of(cls, options: "Csv") -> "Writing":
        """That of the settings."""
        return cls(options.decimal, options.thousands, tuple(options.units), options.date_format)

    @property
    def plain(self) -> bool:
        """Whether numbers are written as in Python."""
        return self.decimal == "." and self.thousands is None and not self.units

    def numbers(self, texts: Sequence[str]) -> np.ndarray:
        """Float64 of the length of ``texts``, NaN for a text that is no number."""
        wanted = texts if self.plain else [self._plain_text(text) for text in texts]
        if len(wanted) < FEW_TEXTS:
            return np.array([_number(text) for text in wanted], dtype=np.float64)
        import pandas as pd

        values = pd.to_numeric(pd.Series(list(wanted), dtype=object), errors="coerce")
        return np.asarray(values, dtype=np.float64)

    def _plain_text(self, text: str) -> str:
        for unit in self.units:
            bare = text.lstrip("+-")
            if bare.startswith(unit):
                text = text[: len(text) - len(bare)] + bare.removeprefix(unit).lstrip()
            text = text.removesuffix(unit).rstrip()
        if self.thousands is not None and self.thousands in text:
            whole, mark, rest = text.partition(self.decimal)
            if not _grouped(self.thousands).fullmatch(whole):
                return ""
            text = whole.replace(self.thousands, "") + mark + rest
        if self.decimal == ".":
            return text
        return "" if "." in text else text.replace(self.decimal, ".")

    def days(self, texts: Sequence[str]) -> tuple[np.ndarray, str] | None:
        """Days since 1970-01-01 UTC, float64, and the format; None where these are no dates, or it is not known which.

        A text that is no date of that format is NaN, if a format was given; else all must be dates of one format.
        """
        if self.date_format is not None:
            days = _days(texts, self.date_format)
            return None if np.isnan(days).all() else (days, self.date_format)
        if not texts or not all(map(_LIKE_A_DATE.fullmatch, texts)):
            return None
        found: list[tuple[np.ndarray, str]] = []
        first = texts[0].replace(",", ".")
        times = [time for time in (*_TIME_FORMATS, *_ZONE_FORMATS) if (":" in first) == bool(time)]
        for form in (date + time for date in _DATE_FORMATS for time in times):
            if np.isnan(_days(texts[:1], form)[0]):
                continue
            if not np.isnan(days := _days(texts, form)).any():
                found.append((days, form))
        return found[0] if len(found) == 1 else None


def _number(text: str) -> float:
    """As pandas reads it, without the time that importing pandas takes."""
    try:
        return float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return math.nan


@cache
def _grouped(mark: str) -> "re.Pattern[str]":
    return re.compile(rf"[+-]?\d{{1,3}}(?:{re.escape(mark)}\d{{3}})+")


def _days(texts: Sequence[str], form: str) -> np.ndarray:
    import pandas as pd

    try:
        dates: Any = pd.to_datetime(pd.Series(list(texts), dtype=object), format=form, errors="coerce", utc=True)
    except (ValueError, re.error):  # a format that strptime does not know
        return np.full(len(texts), np.nan)
    stamps = dates.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(stamps), np.nan, stamps.astype(np.int64) / 86_400e6)


def date_parts(days: np.ndarray, times: bool) -> np.ndarray:
    """Year, month, day, day of the week (Monday is 0) and, with ``times``, hour: float64 ``[N, 4 or 5]``."""
    missing = np.isnan(days)
    whole = np.where(missing, 0, days)
    stamps = np.round(whole * 86_400e6).astype("datetime64[us]")
    months = stamps.astype("datetime64[M]")
    parts = [
        stamps.astype("datetime64[Y]").astype(int) + 1970,
        months.astype(int) % 12 + 1,
        (stamps.astype("datetime64[D]") - months.astype("datetime64[D]")).astype(int) + 1,
        (stamps.astype("datetime64[D]").astype(int) + 3) % 7,
    ]
    if times:
        parts.append((stamps - stamps.astype("datetime64[D]")).astype("timedelta64[h]").astype(int))
    table = np.stack(parts, axis=1).astype(np.float64)
    table[missing] = np.nan
    return table


def boolean_pair(texts: Sequence[str]) -> tuple[str, str] | None:
    """The words for no and yes in lower case, if these texts are both of them in any spelling."""
    folded = {text.casefold() for text in texts}
    return next((pair for pair in BOOLEANS if folded == set(pair)), None)


def unknown_dates(texts: Sequence[str], writing: Writing) -> str:
    """What to type for dates of which day and month cannot be told apart; empty where that is no question."""
    if writing.date_format is not None or not texts or not all(map(_LIKE_A_DATE.fullmatch, texts)):
        return ""
    forms = [form for form in ("%d/%m/%Y", "%m/%d/%Y") if not np.isnan(_days(texts, form)).any()]
    if len(forms) < 2:
        return ""
    typed = " or ".join(f"dataset.date_format='{form}'" for form in forms)
    return f"looks like a date, day or month first: add {typed}"


def other_writing(columns: Sequence[Sequence[str]], writing: Writing) -> str:
    """What to type so that these texts are numbers, with what they look like; empty if nothing would make them so.

    Args:
        columns: the different texts of each column that has some that are no numbers as ``writing`` has it.
        writing: the settings now.
    """
    columns = [texts[:: max(1, len(texts) // LOOKED_AT)] for texts in columns]
    units = sorted({unit for texts in columns for text in texts for unit in _CURRENCY.findall(text)})
    candidates = []
    for decimal, thousands in _MARKS:
        other = Writing(decimal, thousands, tuple(dict.fromkeys((*writing.units, *units))))
        read = [other.numbers(texts) for texts in columns]
        if any(map(mostly, read)):
            candidates.append((sum(int((~np.isnan(values)).sum()) for values in read), other))
    most = max((count for count, _ in candidates), default=0)
    best = [other for count, other in candidates if count == most]
    if not best or best[0] == replace(writing, date_format=None):
        return ""
    chosen = best[:1]
    if best[0].decimal == "," and best[0].thousands is None:  # 1,234 may be either
        chosen += [other for other in best if (other.decimal, other.thousands) == (".", ",")]
    return "; or ".join(_typed(other, writing) for other in chosen)


def mostly(numbers: np.ndarray) -> bool:
    """Whether more than half of the values are numbers."""
    return len(numbers) > 0 and bool(2 * np.isnan(numbers).sum() < len(numbers))


def _typed(other: Writing, writing: Writing) -> str:
    like, keys = [], []
    if other.decimal != writing.decimal:
        like.append("a decimal comma" if other.decimal == "," else "a decimal point")
        keys.append(f"dataset.decimal='{other.decimal}'")
    if other.thousands != writing.thousands and other.thousands is not None:
        like.append("a thousands mark")
        keys.append(f"dataset.thousands={quote(other.thousands) if other.thousands != ',' else repr(',')}")
    if other.units != writing.units:
        like.append("a currency or percent sign")
        keys.append("dataset.units=" + quote("[" + ", ".join(f'"{unit}"' for unit in other.units) + "]"))
    return f"looks like {' and '.join(like)}: add {' '.join(keys)}" if keys else ""
