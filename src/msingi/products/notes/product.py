"""What notes are made of."""

from msingi.kit import state
from msingi.kit.product import Product
from msingi.products.notes import jobs, queries, seeds
from msingi.products.notes.models import notes, revisions, shelves, tombstones
from msingi.products.notes.models.store import NotesSettings
from msingi.products.notes.routes import note_in_path, routes


async def plant_in_memory() -> None:
    """Notes kept in memory are planted by the process that keeps them; nobody else could."""
    if state.part(NotesSettings).store == "memory" and state.settings().env == "development":
        await seeds.plant()


product = Product(
    name="notes",
    title="Notes",
    summary="A person's own notes: Markdown, tags, search, every save kept, sync for phones.",
    routes=routes,
    dependencies={"note": note_in_path},
    stores=[notes, revisions, tombstones, shelves],
    work=[jobs],
    plant=seeds.plant,
    settings=NotesSettings,
    exports=queries.person,
    watch=[plant_in_memory],
)
