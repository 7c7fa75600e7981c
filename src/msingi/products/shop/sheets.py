"""Tables that people edit in a spreadsheet, as CSV and XLSX: read with suspicion, written so that no cell runs."""

import csv
import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, time
from typing import Any, Self
from xml.etree.ElementTree import ParseError

from msgspec import Struct

from msingi.kit.errors import Invalid, UnsupportedMedia

CSV = "text/csv"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
LARGEST = 5_000_000  # bytes of a sheet
MOST_ROWS = 5000
MOST_COLUMNS = 60
LONGEST_CELL = 32_767  # characters, as spreadsheets have it
MOST_UNPACKED = 40_000_000  # bytes in an XLSX, which is a ZIP
MOST_PARTS = 200
MOST_WRITTEN = 1_048_576  # rows of an XLSX, as its readers have it
RUNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # with which a formula may begin
FAULTS = (
    *(zipfile.BadZipFile, zlib.error, ParseError, struct.error, UserWarning, EOFError, OSError),
    *(KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError, RuntimeError, RecursionError),
)


class BadSheet(Invalid):
    """This table cannot be read: {reason}."""


class TooManyRows(Invalid):
    """An XLSX holds {most} rows, and there are more: take CSV."""


class Figure(str):
    """A number that the house reckoned: it may begin with a minus, and is no formula for that."""


class Line(Struct, frozen=True):
    """A row under its number in the sheet (the heading is 1), by the names of its columns."""

    row: int
    cells: dict[str, str]
    formulas: tuple[str, ...] = ()  # columns that hold one, instead of a value


def media_of(kind: str) -> str:
    """The type that a Content-Type names. Raises UnsupportedMedia for what is no table."""
    name = kind.partition(";")[0].strip().lower()
    if name not in (CSV, XLSX):
        raise UnsupportedMedia(wanted=f"{CSV} or {XLSX}")
    return name


def read(kind: str, body: bytes, most: int = MOST_ROWS) -> list[Line]:
    """The rows of a table, without the empty ones. Raises BadSheet, UnsupportedMedia. It may take a second of work."""
    rows = _csv_rows(body) if media_of(kind) == CSV else _xlsx_rows(body, most)
    heading = _heading(next(rows, []))
    lines: list[Line] = []
    for number, row in enumerate(rows, start=2):
        if not any(text or runs for text, runs in row):
            continue
        if len(lines) == most:
            raise BadSheet(reason=f"it has more than {most} rows")
        lines.append(_line(number, heading, row))
    return lines


Cells = list[tuple[str, bool]]  # a text, and whether it is a formula


def _heading(row: Cells) -> list[str]:
    names = [text.strip() for text, _ in row]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise BadSheet(reason="it has no heading")
    if len(names) > MOST_COLUMNS:
        raise BadSheet(reason=f"it has more than {MOST_COLUMNS} columns")
    if "" in names or len(set(names)) < len(names):
        raise BadSheet(reason="each column needs a name of its own")
    return names


def _line(number: int, heading: list[str], row: Cells) -> Line:
    if any(text or runs for text, runs in row[len(heading) :]):
        raise BadSheet(reason=f"row {number} is longer than the heading")
    if any(len(text) > LONGEST_CELL for text, _ in row):
        raise BadSheet(reason=f"a cell of row {number} is too long")
    padded = [*row, *[("", False)] * (len(heading) - len(row))]
    named = list(zip(heading, padded, strict=False))
    return Line(number, {name: text for name, (text, _) in named}, tuple(name for name, (_, runs) in named if runs))


# ---- CSV


def _csv_rows(body: bytes) -> Iterator[Cells]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadSheet(reason="it is not UTF-8") from None
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","  # what spreadsheets write in half of the world
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
            yield [(unescaped(cell), False) for cell in row]
    except csv.Error as fault:
        raise BadSheet(reason=str(fault)) from None


def csv_lines(rows: Iterable[Sequence[str]]) -> bytes:
    """Rows as CSV (RFC 4180). What a spreadsheet would run as a formula gets an apostrophe in front."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows([escaped(cell) for cell in row] for row in rows)
    return out.getvalue().encode("utf-8", "replace")


def escaped(text: str) -> str:
    """A text that no spreadsheet runs."""
    return f"'{text}" if text.lstrip("'").startswith(RUNS) and not isinstance(text, Figure) else text


def unescaped(text: str) -> str:
    """The text that `escaped` made this of."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(RUNS) else text


# ---- XLSX


def _xlsx_rows(body: bytes, most: int) -> Iterator[Cells]:
    import openpyxl  # noqa: PLC0415  (most processes never read one, and it takes 5 MB)
    from openpyxl.utils.exceptions import InvalidFileException  # noqa: PLC0415

    try:
        _check_archive(body, MOST_UNPACKED * max(most // MOST_ROWS // 2, 1))
        book = openpyxl.load_workbook(io.BytesIO(body), read_only=True, keep_links=False)
        try:
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what the file says of its own size need not be true
            for row in sheet.iter_rows(max_row=most * 2, max_col=MOST_COLUMNS + 1):
                yield [("", True) if cell.data_type == "f" else (_text(cell.value), False) for cell in row]
        finally:
            book.close()
    except (*FAULTS, InvalidFileException) as fault:
        raise BadSheet(reason=f"it is no XLSX that we understand ({type(fault).__name__})") from None


def _check_archive(body: bytes, largest: int) -> None:
    """Raise BadSheet for an archive that unpacks to more than a table, or whose XML declares things."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        parts = archive.infolist()
        if len(parts) > MOST_PARTS or sum(part.file_size for part in parts) > largest:
            raise BadSheet(reason="it unpacks to more than is taken here")
        for part in parts:
            if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or part.flag_bits & 1:
                raise BadSheet(reason="it is packed in a way that is not taken here")
            # Its size as written there bounds what is read; UTF-16 has a zero between the letters.
            if b"<!DOCTYPE" in archive.read(part).replace(b"\0", b""):
                raise BadSheet(reason="its XML declares entities")


def _text(value: Any) -> str:
    """A cell as text. Whole numbers come as floats."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return value.isoformat() if isinstance(value, (date, time)) else str(value)


class Book:
    """An XLSX that is written row by row, to a file, so that its length costs no memory.

    What it writes meanwhile is in `folder`, which its maker removes.
    """

    def __init__(self, file: Any, folder: str) -> None:
        import xlsxwriter  # noqa: PLC0415  (most processes never write one, and it takes 2 MB)

        options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "tmpdir": folder}
        self.book = xlsxwriter.Workbook(file, options)
        self.sheet = self.book.add_worksheet()
        self.rows = 0

    def add(self, rows: Iterable[Sequence[str]]) -> None:
        """Write some rows; every cell is text or a figure, never a formula. Raises TooManyRows."""
        for row in rows:
            if self.rows == MOST_WRITTEN:
                raise TooManyRows(most=MOST_WRITTEN)
            for column, text in enumerate(row):
                if isinstance(text, Figure):
                    self.sheet.write_number(self.rows, column, float(text))
                elif text:
                    self.sheet.write_string(self.rows, column, text[:LONGEST_CELL])
            self.rows += 1

    def close(self) -> None:
        """Write the whole of it to the file."""
        self.book.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        if not self.sheet.row_data_fh_closed:  # it was not brought to its end
            self.sheet.row_data_fh.close()
