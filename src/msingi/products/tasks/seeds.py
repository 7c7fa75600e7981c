"""A small world to click through, where every test starts too: a farm near Nyahururu, and a shop in town."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from msingi.kit.clock import now
from msingi.kit.unit import atomic
from msingi.products.tasks import queries, rules
from msingi.products.tasks.models import (
    Comment,
    Graph,
    Member,
    Project,
    Recurrence,
    Relation,
    Reminder,
    Role,
    Task,
    comments,
    graphs,
    members,
    projects,
    relations,
    reminders,
    tasks,
)

NAIROBI = "Africa/Nairobi"
farm = Project(id="farm", name="The farm", owner_id="ann", description="Hens, two cows and an acre of maize.")
shop = Project(id="shop", name="The duka in town", owner_id="bob", description="Eggs, milk, flour and airtime.")
PEOPLE: list[tuple[Project, str, Role]] = [
    (farm, "ann", "owner"),
    (farm, "bob", "editor"),
    (shop, "bob", "owner"),
    (shop, "ann", "viewer"),
]


def task(id: str, title: str, position: str, *, project: Project = farm, by: str = "ann", **more: Any) -> Task:
    """A task as an action would have made it."""
    more |= rules.indexed(title, more.get("description", ""))
    return Task(id=id, project_id=project.id, title=title, position=position, created_by=by, **more)


def in_days(days: int, hour: int) -> datetime:
    """A full hour on a day to come, on the clock of Nairobi."""
    there = now().astimezone(ZoneInfo(NAIROBI)) + timedelta(days=days)
    return rules.moment(there.replace(hour=hour, minute=0, second=0, microsecond=0))


def some_tasks() -> list[Task]:
    """The tasks of both projects."""
    weekly = Recurrence(rule="FREQ=WEEKLY", time_zone=NAIROBI)
    monday = in_days(2, 8)
    return [
        task(
            "hay",
            "Buy hay",
            "a0",
            description="Ten bales from Wanjiku at Ol Kalou; she wants cash.",
            labels=["cows", "to-buy"],
            priority=3,
            due=monday,
            recurrence=weekly,
            chain="hay",
            chain_start=monday,
            assignees=["bob"],
        ),
        task("fence", "Mend the fence by the road", "a1", labels=["cows"], priority=5, due=in_days(1, 17)),
        task("posts", "Cut twelve posts", "a2", parent_id="fence", assignees=["ann"], by="bob"),
        task("wire", "Buy barbed wire", "a3", parent_id="fence", labels=["to-buy"], assignees=["bob"], by="bob"),
        task("vet", "Ask the vet about the brown hen", "a4", labels=["hens"], priority=4, by="bob"),
        task("flour", "Count the flour", "a0", project=shop, by="bob", assignees=["bob"]),
        task("airtime", "Pay the airtime dealer", "a1", project=shop, by="bob", due=in_days(3, 10)),
    ]


@atomic
async def plant() -> None:
    """Put all of it into the database."""
    for project in (farm, shop):
        await projects.add(project)
        await graphs.add(Graph(id=project.id))
    for project, who, role in PEOPLE:
        here = Member(id=queries.member_id(project.id, who), project_id=project.id, user_id=who, role=role)
        await members.add(here)
    planted = some_tasks()
    await tasks.add_many(planted)
    for blocker, blocked in (("posts", "fence"), ("wire", "fence")):
        drawn = Relation(id=f"{blocker}:{blocked}", project_id="farm", blocker=blocker, blocked=blocked)
        await relations.add(drawn)
    said: dict[str, Any] = {"project_id": "farm", "task_id": "hay"}
    await comments.add(Comment(id="price", author_id="bob", body="She asks 300 a bale now.", **said))
    await comments.add(Comment(id="agreed", author_id="ann", body="Take ten all the same.", **said))
    at = rules.before(in_days(2, 8), 60)
    await reminders.add(Reminder(id="cash", user_id="bob", at=at, minutes_before_due=60, **said))
