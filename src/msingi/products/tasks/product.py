"""What tasks are made of."""

from pathlib import Path

from msingi.kit.live import Topic
from msingi.kit.product import Product
from msingi.products.tasks import jobs, queries, seeds
from msingi.products.tasks.models import STORES
from msingi.products.tasks.routes import dependencies, routes

product = Product(
    name="tasks",
    title="Tasks",
    summary="Projects with members, tasks that come again, block each other and are never lost; live and exportable.",
    routes=routes,
    dependencies=dependencies,
    stores=STORES,
    work=[jobs],
    topics=[Topic("tasks/projects/{id}", see=queries.may_follow)],
    plant=seeds.plant,
    exports=queries.person,
    folder=Path(__file__).parent,
)
