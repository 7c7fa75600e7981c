"""What other products may know of tasks."""

from msingi.kit.events import Event


class TaskCompleted(Event, frozen=True, tag="tasks.completed"):
    """Somebody completed a task; `next_id` is the one that follows it, if it recurs."""

    task_id: str
    project_id: str
    by: str
    next_id: str | None = None


class MemberRemoved(Event, frozen=True, tag="tasks.member_removed"):
    """Somebody left a project, or was removed from it."""

    project_id: str
    user_id: str


class ProjectRemoved(Event, frozen=True, tag="tasks.project_removed"):
    """A project is gone, with all that was in it."""

    project_id: str


class ReminderPastDue(Event, frozen=True, tag="tasks.reminder_past_due"):
    """Somebody asked to be reminded at a time that was over already."""

    reminder_id: str
