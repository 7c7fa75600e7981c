"""What the pages of accounts share: the list of places at their side, and what came of the last form."""

from typing import Any
from urllib.parse import urlencode

from litestar import Request, Response
from litestar.response import Redirect

from msingi.kit import pages
from msingi.kit.errors import Problem, SignInFirst

AnyRequest = Request[Any, Any, Any]
# Where one can go, by the permission that it takes.
OWN = [
    ("/account", "Profile"),
]
OTHERS = [
    ("/admin/users", "People", "users:manage"),
]
# What a page says of the form that led to it: `/account?done=saved`.
DONE = {
    "saved": "Saved.",
}


def show(name: str, request: AnyRequest, problem: Problem | None = None, **context: Any) -> Response[str]:
    """The page of `templates/<name>.html`, which extends `accounts/frame.html`; with a problem, what went wrong."""
    actor = request.user
    places = [*OWN, *((path, title) for path, title, permission in OTHERS if actor.may(permission))]
    return pages.page(
        f"accounts/{name}.html",
        request,
        status=problem.status if problem else 200,
        places=places,
        place=request.scope["path"],
        problem=problem,
        done=DONE.get(request.query_params.get("done", "")),
        **context,
    )


def gone_well(path: str, done: str = "saved") -> Redirect:
    """To a page, which says what was done."""
    return Redirect(f"{path}?{urlencode({'done': done})}", status_code=303)


def to_show(problem: Problem) -> Problem:
    """A problem that the form's page shows to the person. What is ours, or asks to sign in, is raised again."""
    if problem.status >= 500 or isinstance(problem, SignInFirst):
        raise problem
    return problem
