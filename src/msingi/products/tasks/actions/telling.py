"""What those who follow a project are told."""

from msingi.kit import live
from msingi.products.tasks.models import Task


def topic(project_id: str) -> str:
    return f"tasks/projects/{project_id}"


async def tell(kind: str, task: Task, **more: str) -> None:
    """Say what happened to a task, once it is committed."""
    await live.tell(topic(task.project_id), kind, {"task_id": task.id, "version": task.version, **more})


async def tell_members_changed(project_id: str, user_id: str) -> None:
    """Say that somebody came, went or has another role; whoever lost the sight of it is shown out."""
    where = topic(project_id)
    await live.tell(where, "members_changed", {"user_id": user_id})
    await live.recheck(where)
