"""The bytes of a table's file, unpacked and as UTF-8 text, whatever it was packed and encoded with."""

import codecs
import gzip
import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from stat import S_ISREG
from typing import IO, NoReturn, cast

from ptb import DataError
from ptb_datasets.csv_settings import Csv

UTF8 = ("utf-8", "utf-8-sig")
GZIP, ZIP, PARQUET, OLD_EXCEL = b"\x1f\x8b", b"PK\x03\x04", b"PAR1", b"\xd0\xcf\x11\xe0"
_SEPARATOR_LINE = re.compile(rb"sep=(.)\r?\n?", re.IGNORECASE)


@dataclass
class Content:
    """What a file holds.

    Args:
        path: the file.
        form: ``"csv"``, ``"excel"`` or ``"parquet"``.
        separator: of CSV, the one that the file names in a first line ``sep=;``, else the one of the settings.
        held: the bytes, CSV as UTF-8 with blank lines for comments; None for a file that is read as it is.
        header: whether the first row names the columns.
    """

    path: Path
    form: str
    separator: str
    held: bytes | None = None
    header: bool = True

    def open(self) -> IO[bytes]:
        """The bytes from the beginning."""
        return self.path.open("rb") if self.held is None else io.BytesIO(self.held)

    def text(self) -> io.TextIOWrapper:
        """The text of CSV, with the ends of its lines as they are."""
        return io.TextIOWrapper(self.open(), encoding="utf-8-sig", newline="")


def open_content(path: Path, options: Csv) -> Content:
    """Looks into a file, and unpacks and decodes it where it is not plain UTF-8.

    Raises:
        DataError: the file cannot be read, is too large, or is not in the encoding of the settings.
    """
    try:
        content = _opened(path, options)
    except OSError as error:
        raise DataError(f"cannot read {_name(path)}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise DataError(f"cannot read {_name(path)}: {error}") from error
    content.header = options.header
    return content


def _opened(path: Path, options: Csv) -> Content:
    status = path.stat()
    if not S_ISREG(status.st_mode):
        raise DataError(f"{_name(path)} is not a file")
    if status.st_size > options.max_bytes:
        raise _too_large(path, status.st_size, options.max_bytes)
    with path.open("rb") as stream:
        head = stream.read(4096)
    data: bytes | None = None
    if head.startswith(GZIP):
        data = _gunzipped(path, options.max_bytes)
    elif head.startswith(ZIP):
        data = _unzipped(path, options.max_bytes)
        if data is None:
            return Content(path, "excel", "", path.read_bytes())
    elif head.startswith(PARQUET):
        return Content(path, "parquet", "", path.read_bytes())
    elif head.startswith(OLD_EXCEL):
        raise DataError(f"{path} is an old Excel file (.xls); save it as .xlsx or as CSV")
    if data is not None and data.startswith((ZIP, GZIP, PARQUET)):
        raise DataError(f"{path}: the file that is packed in it is not CSV; unpack it")
    first = head if data is None else data[:4096]
    plain = codecs.lookup(options.encoding).name in UTF8 and options.comment is None
    if plain and first.removeprefix(codecs.BOM_UTF8)[:4].lower() != b"sep=":
        return Content(path, "csv", options.separator, data)
    if data is None:
        with path.open("rb") as stream:
            data = stream.read(options.max_bytes)
    return _decoded(path, data, options)


def _decoded(path: Path, data: bytes, options: Csv) -> Content:
    if codecs.lookup(options.encoding).name not in UTF8:
        try:
            if codecs.lookup(options.encoding).name.startswith(("utf-16", "utf-32")) and b"\0" not in data:
                raise UnicodeError  # in these, separators and line ends have NUL bytes
            data = data.decode(options.encoding).encode()
        except UnicodeError as error:
            start = getattr(error, "start", 0)
            line = data.count(b"\n", 0, start) + 1
            raise DataError(
                f"{path}, line {line}: it is not text in dataset.encoding={options.encoding}; {_other_encoding(data)}"
            ) from error
    data = data.removeprefix(codecs.BOM_UTF8)
    if options.comment is not None:  # blank lines are passed over, and the others keep their numbers
        data = re.sub(rb"(?m)^" + re.escape(options.comment.encode()) + rb"[^\r\n]*", b"", data)
    body = data.lstrip(b"\r\n")
    separator = options.separator
    if found := _SEPARATOR_LINE.match(body):
        separator = found[1].decode("latin-1")
        blank = data[: len(data) - len(body)] + b"\n"
        data = blank + body[found.end() :]
    return Content(path, "csv", separator, data)


def _gunzipped(path: Path, limit: int) -> bytes:
    try:
        with gzip.open(path) as stream:
            return _limited(path, cast(IO[bytes], stream), limit)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"cannot unpack {path}: {error}; the file is damaged") from error


def _unzipped(path: Path, limit: int) -> bytes | None:
    """The one file in a zip archive, which is never written to disk; None for an Excel file, which is one too."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if any(member.filename == "[Content_Types].xml" for member in members):
                if (total := sum(member.file_size for member in members)) > limit:
                    raise _too_large(path, total, limit, "unpacked ")
                return None
            members = [m for m in members if not m.filename.startswith("__MACOSX/") and ".DS_Store" not in m.filename]
            if len(members) != 1:
                held = ", ".join(repr(member.filename) for member in members[:5]) or "none"
                raise DataError(
                    f"{path} must hold one file, the table, and it holds {len(members)} ({held}); unpack it"
                )
            with archive.open(members[0]) as stream:
                return _limited(path, stream, limit)
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"cannot unpack {path}: {error}; the file is damaged, encrypted, or packed otherwise"
        ) from error


def _limited(path: Path, stream: IO[bytes], limit: int) -> bytes:
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise _too_large(path, None, limit, "unpacked ")
    return data


def _too_large(path: Path, size: int | None, limit: int, how: str = "") -> DataError:
    has = f"more than {limit:,}" if size is None else f"{size:,}"
    return DataError(
        f"{path} has {how}{has} bytes; dataset.max_bytes={limit} allows fewer. The whole table is held in memory: "
        "raise the limit only if it fits"
    )


def not_text(path: Path, data: bytes, place: int, line: int) -> NoReturn:
    """Raises the DataError for bytes that are not UTF-8 at ``place``, which is on this line of the file."""
    if data[place] == 0 and (data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:2]):
        raise DataError(f"{path} is UTF-16 text; add dataset.encoding=utf-16, or save the table as CSV in UTF-8")
    what = "a NUL byte" if data[place] == 0 else f"the byte {data[place]:#04x}"
    remedy = "save the table as CSV in UTF-8" if data[place] == 0 else _other_encoding(data)
    raise DataError(f"{path}, line {line}: {what} is not UTF-8 text; {remedy}, or mend the file if it is damaged")


def _other_encoding(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "add dataset.encoding=utf-16"
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.end < len(data):
            printed = re.search(rb"[\x80-\x9f]", data)
            return f"add dataset.encoding={'cp1252' if printed else 'latin-1'}, or save the table as CSV in UTF-8"
    else:
        return "add dataset.encoding=utf-8"
    return "save the table as CSV in UTF-8"


def _name(path: Path) -> str:
    return quote(str(path)) if "\0" not in str(path) else repr(str(path))
