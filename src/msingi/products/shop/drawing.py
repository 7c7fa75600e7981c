"""Drawing invoices and credit notes as PDF: A4, with a code to scan that says whether they are genuine.

The same paper gives the same bytes: nothing of the time or the place of drawing goes into them. Text may be of any
script: what the first font lacks is taken from two others (kit/fonts says which), and what none has is drawn as □.

What draws takes 14 MB and half a second to load, so a process loads this module when it draws its first paper.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import segno
from babel.dates import format_date
from babel.numbers import format_decimal
from fontTools.ttLib import TTFont
from fpdf import FPDF
from fpdf.enums import MethodReturnValue, WrapMode, XPos, YPos

from msingi import kit
from msingi.kit.money import LOCALES, decimals
from msingi.products.shop.rules.papers import Paper, Row, Sum, word

FONTS = Path(kit.__file__).parent / "fonts"
PLAIN, BOLD = FONTS / "NotoSans-Regular.ttf", FONTS / "NotoSans-Bold.ttf"
FURTHER = {"further": FONTS / "DejaVuSans-Further.ttf", "ethiopic": FONTS / "NotoSansEthiopic-Regular.ttf"}
MISSING = "□"
INK, FAINT, ACCENT, LINE, TINT = (28, 28, 26), (105, 105, 100), (17, 84, 69), (214, 214, 208), (240, 245, 243)
LEFT, TOP, BOTTOM, WIDTH = 16.0, 16.0, 22.0, 178.0  # mm
CODE = 27.0  # mm that the code is wide

Column = tuple[str, float]  # which word heads it, and how wide it is
OF_INVOICE: Sequence[Column] = (
    ("description", 61),
    ("quantity", 13),
    ("price", 27),
    ("discount", 23),
    ("tax", 26),
    ("amount", 28),
)
OF_CREDIT: Sequence[Column] = (("description", 130), ("quantity", 16), ("amount", 32))


def drawn(paper: Paper) -> bytes:
    """The paper as a PDF. It takes some hundredths of a second of the processor: call it in a thread."""
    return _Sheet(paper).drawn()


# ---- text


def shown(amount: int, currency: str, language: str) -> str:
    """A figure without its currency, which stands once on the paper: `1,299.00`."""
    places = decimals(currency)
    pattern = "#,##0" + ("." + "0" * places if places else "")
    return str(format_decimal(Decimal(amount).scaleb(-places), format=pattern, locale=LOCALES.get(language, "en_KE")))


def day(at: datetime, zone: str, language: str) -> str:
    """`21 November 2026`, by the clock of who issued it."""
    return str(format_date(at.astimezone(ZoneInfo(zone)).date(), "d MMMM y", locale=LOCALES.get(language, "en_KE")))


def printable(text: str) -> str:
    """One line of what can be drawn: composed, without what steers and is not seen, □ for what no font has."""
    composed = unicodedata.normalize("NFC", text)
    seen = (" " if each.isspace() else each for each in composed if each.isspace() or not _is_silent(each))
    return " ".join("".join(each if ord(each) in _known() else MISSING for each in seen).split(" ")).strip()


def _is_silent(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs") or "\ufe00" <= char <= "\ufe0f"


@lru_cache(maxsize=1)
def _known() -> frozenset[int]:
    return frozenset().union(*(_chars_of(each) for each in (PLAIN, *FURTHER.values())))


@lru_cache(maxsize=8)
def _chars_of(font: Path) -> frozenset[int]:
    with TTFont(font, lazy=True) as read:
        return frozenset(read.getBestCmap())


def _needs_shaping(text: str) -> bool:
    """Whether letters join, turn or stack: what is written from the right, and marks that are not composed.

    Only then are they laid out by rules, which takes ten times as long.
    """
    return any(unicodedata.bidirectional(each) in ("R", "AL") or unicodedata.combining(each) for each in text)


def _texts(paper: Paper) -> Iterator[str]:
    """All that somebody typed."""
    yield from (paper.seller.name, paper.seller.address, paper.seller.tax_pin, paper.check)
    yield from paper.buyer
    yield from paper.remarks
    for row in paper.rows:
        yield from (row.title, row.detail)
    yield from (each.label for each in (*paper.sums, *paper.paid))
    yield from (each.label for each in paper.taxes)
    for label, value in paper.facts:
        yield from (label, value)


# ---- the sheet


class _Sheet(FPDF):
    """One paper while it is drawn."""

    def __init__(self, paper: Paper) -> None:
        super().__init__(format="A4")
        self.paper, self.words = paper, paper.language
        typed = "".join(map(printable, _texts(paper)))
        self.add_font("noto", "", PLAIN)
        self.add_font("noto", "B", BOLD)
        needed = [name for name, font in FURTHER.items() if (set(map(ord, typed)) - _chars_of(PLAIN)) & _chars_of(font)]
        for name in needed:
            self.add_font(name, "", FURTHER[name])
        self.set_fallback_fonts(needed, exact_match=False)
        self._describe()

    def _describe(self) -> None:
        self.set_creation_date(self.paper.issued_at)
        self.set_lang({"sw": "sw-KE"}.get(self.words, "en-KE"))
        self.set_title(printable(f"{self.paper.title} {self.paper.number}"))
        self.set_author(printable(self.paper.seller.name))
        self.set_creator("Msingi")
        self.set_producer("Msingi")
        self.viewer_preferences = None
        self.set_margins(LEFT, TOP, LEFT)
        self.set_auto_page_break(False)
        self.c_margin = 0
        self.alias_nb_pages()

    def drawn(self) -> bytes:
        self.add_page()
        self._draw_head()
        self._draw_parties()
        self._draw_rows()
        self._draw_end()
        return bytes(self.output())

    # ---- top and bottom of each page

    def header(self) -> None:
        self.set_fill_color(*ACCENT)
        self.rect(0, 0, self.w, 3.2, style="F")
        self.set_xy(LEFT, TOP - 3)
        if self.page_no() > 1:
            self._write(f"{self.paper.title} {self.paper.number}", 60, 9, colour=FAINT)
            self.set_xy(LEFT, TOP + 5)

    def footer(self) -> None:
        y = self.h - 14
        self._rule(y)
        told = word("page", self.words).format(page=self.page_no(), pages="{nb}")
        self.set_xy(LEFT, y + 2)
        self._write(f"{self.paper.seller.name} · {self.paper.title} {self.paper.number}", 120, 8, colour=FAINT)
        self._set(8, colour=FAINT)
        # What stands for the number of pages is wider than the number.
        self.set_xy(LEFT + 120 + self.get_string_width("{nb}") - self.get_string_width("1"), y + 2)
        self.cell(WIDTH - 120, 4, told, align="R")

    # ---- parts

    def _draw_head(self) -> None:
        seller = self.paper.seller
        y = self.get_y()
        self.set_xy(LEFT, y)
        self._write(seller.name, 100, 19, bold=True, colour=ACCENT, height=9)
        self.set_y(self.get_y() + 1)
        told = [each.strip() for each in seller.address.split(",") if each.strip()]
        if seller.tax_pin:
            told.append(f"{word('pin', self.words)}: {seller.tax_pin}")
        for each in told:
            self._write(each, 100, 9, colour=FAINT, height=4.6)
        left = self.get_y()
        self.set_xy(LEFT + 104, y)
        self._write(self.paper.title, WIDTH - 104, 19, align="R", height=9)
        self.set_y(self.get_y() + 1)
        for label, value in (
            (word("number", self.words), self.paper.number),
            (word("date", self.words), day(self.paper.issued_at, self.paper.seller.zone, self.words)),
            *self.paper.facts,
        ):
            y = self.get_y()
            self.set_xy(LEFT + 104, y)
            self._write(label, 36, 9, colour=FAINT, align="R", height=4.8)
            self.set_xy(LEFT + 142, y)
            self._write(value, WIDTH - 142, 9, align="R", height=4.8, bold=value == self.paper.number)
        self.set_y(max(left, self.get_y()) + 7)

    def _draw_parties(self) -> None:
        if not self.paper.buyer:
            return
        self.set_x(LEFT)
        self._write(word("bill_to", self.words), 90, 8, colour=FAINT, height=4.6)
        for number, each in enumerate(self.paper.buyer):
            self._write(each, 110, 10 if number == 0 else 9.5, bold=number == 0, height=4.9)
        self.set_y(self.get_y() + 6)

    @property
    def _columns(self) -> Sequence[Column]:
        return OF_INVOICE if any(row.price is not None for row in self.paper.rows) else OF_CREDIT

    def _draw_rows(self) -> None:
        self._draw_row_head()
        for row in self.paper.rows:
            if self.get_y() + self._height_of(row) > self._end:
                self.add_page()
                self._draw_row_head()
            self._draw_row(row)
        self.set_y(self.get_y() + 1.2)
        currency = word("in_currency", self.words).format(currency=self.paper.currency)
        self._write(f"{currency} {self.paper.tax_note}".strip(), WIDTH, 8, colour=FAINT)

    @property
    def _end(self) -> float:
        return float(self.h) - BOTTOM

    def _draw_row_head(self) -> None:
        y = self.get_y()
        self.set_fill_color(*TINT)
        self.rect(LEFT, y, WIDTH, 7.4, style="F")
        x = LEFT
        for name, width in self._columns:
            first = name == "description"
            self.set_xy(x + (2 if first else 0), y + 1.5)
            self._write(word(name, self.words), width - 2, 8.5, bold=True, align="L" if first else "R", colour=ACCENT)
            x += width
        self.set_y(y + 7.4)

    def _height_of(self, row: Row) -> float:
        width = self._columns[0][1] - 4
        self._set(9)
        lines = self._lines(row.title, width)
        self._set(7.8)
        details = self._lines(row.detail, width) if row.detail else 0
        return lines * 4.6 + details * 3.9 + 3.4

    def _lines(self, text: str, width: float) -> int:
        text = printable(text)
        self.set_text_shaping(_needs_shaping(text))
        found = self.multi_cell(width, 4, text, align="L", dry_run=True, output=MethodReturnValue.LINES)
        return len(found) if isinstance(found, list) else 1

    def _draw_row(self, row: Row) -> None:
        y = self.get_y()
        bottom = y + self._height_of(row)
        (_, first), *others = self._columns
        self.set_xy(LEFT + 2, y + 1.6)
        self._write(row.title, first - 4, 9, height=4.6, keep=LEFT + 2)
        if row.detail:
            self._write(row.detail, first - 4, 7.8, height=3.9, colour=FAINT, keep=LEFT + 2)
        x = LEFT + first
        for name, width in others:
            self._figure(x, y + 1.6, width - 2, self._figure_of(row, name))
            if name == "tax" and row.rate:
                self._figure(x, y + 6, width - 2, row.rate, size=7.8, colour=FAINT)
            x += width
        bottom = max(bottom, y + 11.4) if row.rate else bottom
        self._rule(bottom)
        self.set_y(bottom)

    def _figure_of(self, row: Row, name: str) -> str:
        if name == "quantity":
            return str(row.quantity)
        amount = getattr(row, name)
        if amount is None or (name == "discount" and not amount):
            return "–"
        return self._shown(-amount if name == "discount" else amount)

    def _draw_end(self) -> None:
        """Sums, taxes, payments and the code: together, on a page of their own if this one is too full."""
        right = 5.6 * (len(self.paper.sums) + len(self.paper.paid)) + 22
        self._set(9)
        remarks = sum(self._lines(each, 86) for each in self.paper.remarks)
        left = 6.0 * (len(self.paper.taxes) + 2) + 4.8 * remarks + CODE + 22
        if self.get_y() + max(right, left) > self._end:
            self.add_page()
        top = self.get_y() + 5
        self.set_y(top)
        self._draw_sums()
        below = self.get_y()
        self.set_y(top)
        self._draw_taxes()
        self._draw_remarks()
        self.set_y(max(self.get_y(), below - CODE) + 4)
        self._draw_code()

    def _draw_sums(self) -> None:
        for each in self.paper.sums:
            self._draw_sum(each)
        self.set_y(self.get_y() + 4)
        if self.paper.paid:
            self.set_x(LEFT + 98)
            self._write(self.paper.paid_title, 80, 8, colour=FAINT)
        for each in self.paper.paid:
            self._draw_sum(each)

    def _draw_sum(self, each: Sum) -> None:
        x, width = LEFT + 96, WIDTH - 96
        y = self.get_y()
        if each.strong:
            y += 1.4
            self.set_fill_color(*ACCENT)
            self.rect(x, y, width, 9, style="F")
            self.set_xy(x + 2, y + 2)
            self._write(each.label, 34, 10.5, bold=True, colour=(255, 255, 255), height=5)
            told = f"{self.paper.currency} {self._shown(each.amount)}"
            self._figure(x + 37, y + 2, width - 39, told, size=11.5, bold=True, colour=(255, 255, 255), height=5)
            self.set_y(y + 9)
            return
        self.set_xy(x + 2, y + 0.6)
        self._write(each.label, 47, 9, height=4.8)
        below = self.get_y()
        self._figure(x + 50, y + 0.6, width - 52, self._shown(each.amount), height=4.8)
        self.set_y(max(below, y + 5.4) + 0.2)

    def _draw_taxes(self) -> None:
        if not self.paper.taxes:
            return
        y = self.get_y()
        with_base = any(each.base is not None for each in self.paper.taxes)
        heads = [("taxes", 36.0, "L"), ("without_tax", 26.0, "R"), ("tax", 24.0, "R")]
        x = LEFT
        for name, width, align in heads:
            if name != "without_tax" or with_base:
                self.set_xy(x, y)
                self._write(word(name, self.words), width, 8, colour=FAINT, align=align)
            x += width
        self.set_y(y + 4.8)
        for each in self.paper.taxes:
            y = self.get_y()
            self.set_xy(LEFT, y + 0.6)
            self._write(each.label, 34, 9, height=4.8)
            below = self.get_y()
            if each.base is not None:
                self._figure(LEFT + 36, y + 0.6, 26, self._shown(each.base), height=4.8)
            self._figure(LEFT + 62, y + 0.6, 24, self._shown(each.amount), height=4.8)
            self.set_y(max(below, y + 5.4) + 0.4)
            self._rule(self.get_y(), 86)
        self.set_y(self.get_y() + 3)

    def _draw_remarks(self) -> None:
        self.set_x(LEFT)
        for each in self.paper.remarks:
            self._write(each, 86, 9, height=4.8)

    def _draw_code(self) -> None:
        """The code, and beside it what it is for and the address that it holds, for who cannot scan."""
        y = self.get_y()
        matrix = [bytes(row) for row in segno.make(self.paper.check, error="m", micro=False).matrix]
        module = CODE / len(matrix)
        self.set_fill_color(0, 0, 0)
        for line, row in enumerate(matrix):
            for start, length in _runs(row):
                # A hair taller than it is, so that no reader shows seams between the rows.
                self.rect(LEFT + start * module, y + line * module, length * module, module * 1.03, style="F")
        self.set_xy(LEFT + CODE + 5, y + 1)
        self._write(word("check", self.words), 52, 9, bold=True, keep=LEFT + CODE + 5)
        self._set(7.5, colour=FAINT)
        self.multi_cell(
            54,
            3.8,
            self.paper.check,
            align="L",
            new_x=XPos.LEFT,
            new_y=YPos.NEXT,
            wrapmode=WrapMode.CHAR,
            link=self.paper.check,
        )
        self.set_y(y + CODE)

    # ---- strokes

    def _set(self, size: float, *, bold: bool = False, colour: tuple[int, int, int] = INK) -> None:
        self.set_font("noto", "B" if bold else "", size)
        self.set_text_color(*colour)

    def _write(
        self,
        text: str,
        width: float,
        size: float,
        *,
        bold: bool = False,
        colour: tuple[int, int, int] = INK,
        align: str = "L",
        height: float = 4.4,
        keep: float = LEFT,
    ) -> None:
        """Write text from here on, over as many lines as it takes; the next stands below, at `keep`."""
        self._set(size, bold=bold, colour=colour)
        text = printable(text)
        self.set_text_shaping(_needs_shaping(text))
        self.multi_cell(width, height, text, align=align, new_x=XPos.LEFT, new_y=YPos.NEXT)
        self.set_x(keep)

    def _figure(
        self,
        x: float,
        y: float,
        width: float,
        text: str,
        *,
        size: float = 9,
        bold: bool = False,
        colour: tuple[int, int, int] = INK,
        height: float = 4.6,
    ) -> None:
        """A figure that ends at the right: smaller, where it is too long."""
        self._set(size, bold=bold, colour=colour)
        while self.get_string_width(text) > width and size > 4:
            size -= 0.5
            self._set(size, bold=bold, colour=colour)
        self.set_xy(x, y)
        self.cell(width, height, text, align="R")

    def _rule(self, y: float, width: float = WIDTH) -> None:
        self.set_draw_color(*LINE)
        self.set_line_width(0.2)
        self.line(LEFT, y, LEFT + width, y)

    def _shown(self, amount: int) -> str:
        return shown(amount, self.paper.currency, self.words)


def _runs(row: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Where dark begins in a row, and for how long."""
    start: int | None = None
    for at, dark in enumerate([*row, 0]):
        if dark and start is None:
            start = at
        elif not dark and start is not None:
            yield start, at - start
            start = None
