"""What people say about a task."""

from msingi.kit.again import on_the_newest
from msingi.kit.errors import allow
from msingi.kit.unit import guarded
from msingi.products.tasks import rules
from msingi.products.tasks.actions.telling import tell
from msingi.products.tasks.models import Comment, Member, comments
from msingi.products.tasks.queries import SeenTask
from msingi.products.tasks.schemas import CommentForm


@guarded
async def add(seen: SeenTask, new: CommentForm) -> Comment:
    """Say something."""
    allow(rules.may_edit(seen.member))
    task, by = seen.task, seen.member.user_id
    if await comments.count({"task_id": task.id}, limit=rules.MOST_COMMENTS) >= rules.MOST_COMMENTS:
        raise rules.Full(most=rules.MOST_COMMENTS)
    said = await comments.add(Comment(project_id=task.project_id, task_id=task.id, author_id=by, body=new.body))
    await tell("comment_added", task, comment_id=said.id)
    return said


async def edit(comment: Comment, form: CommentForm, by: Member, if_match: int | None) -> Comment:
    """Put it in other words. Nobody puts words in another's mouth."""
    allow(rules.may_edit_comment(by, comment))

    async def write(comment: Comment) -> Comment:
        rules.check_version(comment, if_match)
        return comment if comment.body == form.body else await _change(comment, form.body)

    return await on_the_newest(comments, comment, if_match, write)


@guarded
async def _change(comment: Comment, body: str) -> Comment:
    return await comments.change(comment.id, {"$set": {"body": body}}, when={"version": comment.version})


async def remove(comment: Comment, by: Member, if_match: int | None) -> None:
    """Take it back, or away."""
    allow(rules.may_remove_comment(by, comment))

    async def write(comment: Comment) -> None:
        rules.check_version(comment, if_match)
        await _remove(comment)

    await on_the_newest(comments, comment, if_match, write)


@guarded
async def _remove(comment: Comment) -> None:
    await comments.remove(comment)
