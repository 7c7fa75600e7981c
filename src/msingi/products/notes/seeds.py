"""A small world to click through, and the one that every test starts from."""

from datetime import UTC, datetime

from msingi.products.notes.models import Note
from msingi.products.notes.models.store import store
from msingi.products.notes.rules import MOST_NOTES, new_note

HENS = """# Hen house

Before the rains:

- 12 m of chicken wire
- nails, 3 inch
- ask **Juma** for the old iron sheets

The vet comes on Thursday.
"""
PRICES = """Wakulima market, per 90 kg bag of maize: *3,400* shillings in the morning, 3,250 after noon.

Ng'ombe: two heifers at 65,000 each, too dear.
"""


WORLD = [
    ("hens", "ann", "Hen house", HENS, ["farm", "to-buy"]),
    ("prices", "ann", "Market prices", PRICES, ["farm", "market"]),
    ("chama", "ann", "Chama on Sunday", "Bring 500 and the book.", ["chama"]),
    ("boda", "bob", "Boda service", "Oil, chain, front tyre.", ["boda"]),
]


async def plant() -> None:
    """Three notes of Ann's, one of Bob's; ids are fixed so that tests and docs can name them."""
    for number, (id, owner, title, body, tags) in enumerate(WORLD):
        at = datetime(2026, 3, 1, 6 + number, tzinfo=UTC)
        await store().create(_dated(new_note(owner, title, body, tags), id, at), MOST_NOTES)


def _dated(note: Note, id: str, at: datetime) -> Note:
    note.id, note.created_at, note.updated_at = id, at, at
    return note
