"""The rules that all products share (docs/contracts/README.md), each as a function that a suite holds its routes to."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from msingi.checks.harness import NO_BODY, Answer, Caller, Failed, Skipped, World, fresh, need_of_all, together

Make = Callable[[], Answer]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
ODD_IDS = (
    "no-such-thing",
    "0",
    "%00",
    "..%2f..%2fetc%2fpasswd",
    '{"$gt":""}',
    "%F0%9F%90%94",
    "x" * 600,
    "' OR 1=1 --",
)
NOT_JSON = (b'{"title": ', b"{'title': 'x'}", b'{"title": NaN}', b'{"title": "\xff\xfe"}', b"[" * 100_000)
LEAKS = re.compile(
    r"Traceback|MongoServerError|MongoError|pymongo|node_modules|at [\w.<>]+ \(.*:\d+:\d+\)|/home/|/usr/"
)


def needs_sign_in(world: World, method: str, path: str) -> None:
    """Nobody, and whoever shows a made-up token, is turned away with 401."""
    world.tell_apart()
    body = NO_BODY if method in ("GET", "DELETE") else {}
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Bearer a.b.c"}):
        answer = world.nobody.ask(method, path, headers=headers, json=body)
        answer.problem(401, hint="every route wants a signed-in caller, and a token that cannot be read is none")
        answer.need("www-authenticate" in answer.headers, "the header WWW-Authenticate: Bearer")


def is_stored(answer: Answer) -> dict[str, Any]:
    """What is stored carries id, times and a version, and the ETag says the version."""
    thing = answer.fields("id", "created_at", "updated_at", "version")
    answer.need(isinstance(thing["id"], str) and bool(ID.fullmatch(thing["id"])), "an id of letters, digits, - and _")
    for name in ("created_at", "updated_at"):
        answer.need(bool(TIME.fullmatch(str(thing[name]))), f"{name} like 2026-01-31T08:00:00Z, in UTC")
        age = abs(datetime.now(UTC) - datetime.fromisoformat(thing[name]))
        answer.need(age < timedelta(days=1), f"{name} to be about now")
    answer.need(type(thing["version"]) is int, "a whole number as version")
    has_etag(answer, thing["version"])
    return thing


def has_etag(answer: Answer, version: int) -> None:
    """The ETag of one stored thing is its version in quotes."""
    etag = answer.headers.get("etag", "").removeprefix("W/")
    answer.need(etag == f'"{version}"', f'the header ETag: "{version}", not {etag or "none"}')


def answers_304(caller: Caller, path: str) -> None:
    """Who has the newest version already is told so, without a body."""
    etag = caller.get(path).want(200).headers.get("etag", "")
    for value in (etag, f"W/{etag.removeprefix('W/')}", f'"nothing", {etag}'):
        answer = caller.get(path, headers={"If-None-Match": value}).want(304)
        answer.need(answer.content == b"", "no body with 304")
    caller.get(path, headers={"If-None-Match": '"nothing"'}).want(200)


def refuses_what_is_no_json(caller: Caller, method: str, path: str) -> None:
    """What cannot be read is 400, and the server lives on."""
    for content in NOT_JSON:
        answer = caller.ask(method, path, content=content, headers={"Content-Type": "application/json"})
        answer.problem(400, hint="catch what the JSON parser throws and answer 400")
        has_no_leaks(answer)


def refuses_what_is_too_deep_or_large(caller: Caller, path: str, field: str) -> None:
    """A body that is meant to break the parser is refused quickly."""
    deep = b'{"%s": %s%s}' % (field.encode(), b"[" * 100_000, b"]" * 100_000)
    answer = caller.post(path, content=deep, headers={"Content-Type": "application/json"})
    answer.problem(400, 413, 422)
    large = b'{"%s": "%s"}' % (field.encode(), b"x" * 1_100_000)
    caller.post(path, content=large, headers={"Content-Type": "application/json"}).problem(413)


def refuses_other_media(caller: Caller, path: str, body: bytes) -> None:
    """What says that it is not JSON is not read as JSON."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml"):
        caller.post(path, content=body, headers={"Content-Type": kind}).problem(415)


def refuses(answer: Answer, pointer: str, hint: str = "") -> None:
    """422, and if the problem is the general one, `errors` names the field."""
    told = answer.problem(422, hint=hint)
    if told["code"] != "invalid_fields" and "errors" not in told:
        return
    errors = told.get("errors", [])
    pointers = [str(each.get("pointer", "")) for each in errors if isinstance(each, dict)]
    named = any(each == pointer or each.startswith(pointer + "/") for each in pointers)
    answer.need(named, f"`errors` with an entry whose pointer is {pointer}")


def refuses_unknown_fields(
    send: Callable[[dict[str, Any]], Answer], good: dict[str, Any], names: dict[str, Any], unchanged: Callable[[], Any]
) -> None:
    """Fields that a form does not know are refused one by one, and nothing of the form is stored."""
    before = unchanged()
    for name, value in names.items():
        answer = send({**good, name: value})
        answer.problem(422, hint=f"the form does not take `{name}`: say so rather than drop it silently")
    answer.need(unchanged() == before, "nothing stored from a form that was refused")


def refuses_odd_ids(caller: Caller, path: str) -> None:
    """An id that never was is 404, whatever it looks like."""
    for odd in ODD_IDS:
        answer = caller.get(path.format(id=odd))
        answer.problem(404, 400, 414, 422) if odd != ODD_IDS[0] else answer.problem(404)
        has_no_leaks(answer)


def refuses_operators(caller: Caller, path: str, filters: tuple[str, ...]) -> None:
    """A database's operators in a query are refused, and find nothing."""
    for query in filters:
        answer = caller.get(f"{path}?{query}")
        answer.problem(422, 400, hint="convert filters to their type before they reach a database")


def refuses_bad_paging(caller: Caller, path: str) -> None:
    """Limits, cursors and orders that there are none of are told, not guessed."""
    for query in ("limit=0", "limit=101", "limit=-1", "limit=many", "after=nonsense", "sort=no_such_field"):
        caller.get(f"{path}?{query}").problem(422)
    caller.get(f"{path}?limit=100").page()


def needs_a_good_if_match(caller: Caller, path: str, change: dict[str, Any]) -> None:
    """An If-Match that is no version is refused; a star and none at all are taken."""
    for value in ('"three"', '"-1"', "nonsense"):
        caller.patch(path, change, headers={"If-Match": value}).problem(422)


def one_wins(answers: list[Answer]) -> Answer:
    """Of several writers with the same version exactly one wins; the others hear 409."""
    won = [answer for answer in answers if answer.status == 200]
    lost = [answer for answer in answers if answer.status == 409]
    hint = (
        "compare and write in one step: update … where id = ? and version = ?; reading first and then writing is a race"
    )
    need_of_all(answers, len(won) == 1 and len(lost) == len(answers) - 1, f"1 × 200, {len(answers) - 1} × 409", hint)
    return won[0]


def walk(caller: Caller, path: str, between: Callable[[int], None] = lambda number: None) -> list[dict[str, Any]]:
    """All items of a list, page by page; `between` is done after each page."""
    items: list[dict[str, Any]] = []
    join = "&" if "?" in path else "?"
    after = ""
    for number in range(60):
        answer = caller.get(f"{path}{join}after={after}" if after else path)
        items += answer.page()
        after = answer.data["next"]
        if after is None:
            return items
        answer.need(isinstance(after, str) and after != "", "`next` to be a cursor, or null on the last page")
        between(number)
    raise Failed(f"GET {path}, and on by `next`", "60 pages, and still a `next`", "a last page, whose `next` is null")


def follows_links(caller: Caller, path: str, ids: set[str]) -> None:
    """Whoever follows the Link headers sees the whole list."""
    seen: list[str] = []
    where = path
    for _ in range(30):
        answer = caller.get(where)
        seen += [item["id"] for item in answer.page()]
        found = re.search(r'<([^>]+)>\s*;\s*rel="?next"?', answer.headers.get("link", ""))
        if found is None:
            break
        where = found[1]
    answer.need(answer.data["next"] is None, 'the header Link: <…>; rel="next" wherever `next` is not null')
    answer.need(ids <= set(seen), "each item to be found by following the Link headers")


def shows_each_once(answer_ids: list[str], wanted: set[str], answer: Answer) -> None:
    """A walk shows what was there all along exactly once."""
    counted = [one for one in answer_ids if one in wanted]
    missing, doubled = len(wanted - set(counted)), len(counted) - len(set(counted))
    hint = "let the cursor hold the place of the last item (its sorted value and id), not a page number or an offset"
    answer.need(
        not missing and not doubled, f"each item exactly once; {missing} missing, {doubled} more than once", hint
    )


def replays(make: Callable[[str, dict[str, Any]], Answer], form: dict[str, Any], other: dict[str, Any]) -> None:
    """The same key gives the same answer again; with another body it is refused."""
    key = fresh("key-")
    first = make(key, form).want(201)
    again = make(key, form).want(201, hint="keep the first answer under the key and send it again")
    again.need(again.content == first.content, f"the first answer again, byte for byte: {first.came}")
    make(key, other).problem(422, hint="remember with the key what was asked, and refuse the key for anything else")


def is_made_once(make: Callable[[str, dict[str, Any]], Answer], form: dict[str, Any], count: Callable[[], int]) -> None:
    """Twenty at once with the same key make one thing."""
    key = fresh("key-")
    answers = together(*[lambda: make(key, form)] * 20)
    bodies = {answer.content for answer in answers if answer.status == 201}
    fine = {answer.status for answer in answers} <= {201, 409}
    hint = "take the key in one step that only one can win (a unique index) before anything is made"
    need_of_all(answers, fine and len(bodies) == 1, "20 × 201 with one body, or 409 while it is under way", hint)
    need_of_all(answers, count() == 1, f"one made; {count()} were", hint)


def refuses_bad_keys(make: Callable[[str, dict[str, Any]], Answer], form: dict[str, Any]) -> None:
    """A key that is too long is refused, and makes nothing."""
    make("k" * 256, form).problem(400)


def has_request_id(caller: Caller, path: str) -> None:
    """The id of a request comes back, in the header and in problems."""
    mine = fresh("check-")
    answer = caller.get(path, headers={"X-Request-ID": mine})
    answer.need(answer.headers.get("x-request-id", "") != "", "the header X-Request-ID")
    lost = caller.get(path + "/no-such-thing/at/all", headers={"X-Request-ID": mine})
    told = lost.problem(404)
    lost.need(bool(told.get("request_id")), "the member request_id")


def has_safe_headers(world: World, caller: Caller, path: str) -> None:
    """No browser guesses what an answer is, and no proxy keeps what is one person's."""
    for answer in (caller.get(path), caller.get(path + "/no-such-thing/at/all")):
        sniff = answer.headers.get("x-content-type-options", "").lower()
        answer.need(sniff == "nosniff", "the header X-Content-Type-Options: nosniff, on errors too")
        told = answer.headers.get("server", "") + answer.headers.get("x-powered-by", "")
        answer.need(not re.search(r"\d", told), "no version of the server's software in Server or X-Powered-By")
    answer = caller.get(path)
    if not world.anonymous:
        kept = answer.headers.get("cache-control", "")
        answer.need("no-store" in kept or "private" in kept, "Cache-Control with no-store or private")


def tells_its_limits(caller: Caller, path: str) -> None:
    """Where a limit is announced, it can be read and counts down."""
    first, second = caller.get(path), caller.get(path)
    if "ratelimit" not in first.headers:
        raise Skipped("this server announces no limit here")
    policy = re.search(r'"[^"]+";.*\bq=(\d+)', first.headers.get("ratelimit-policy", ""))
    first.need(policy is not None, 'the header RateLimit-Policy: "<name>";q=<n>;w=<seconds>')
    left = [re.search(r'"[^"]+";.*\br=(\d+)', answer.headers.get("ratelimit", "")) for answer in (first, second)]
    first.need(None not in left, 'the header RateLimit: "<name>";r=<left>;t=<seconds>')
    fewer = policy is not None and left[0] is not None and int(left[0][1]) <= int(policy[1])
    first.need(fewer, "no more left (r) than there are (q)")


def knows_its_methods(caller: Caller, path: str) -> None:
    """A method that an address does not know is 405, and Allow tells which it does."""
    answer = caller.put(path, {})
    answer.problem(405)
    answer.need("GET" in answer.headers.get("allow", ""), "the header Allow with the methods that there are")


def has_no_leaks(answer: Answer) -> None:
    """An error tells nothing of what is behind the server."""
    found = LEAKS.search(answer.content.decode("utf-8", "replace"))
    answer.need(found is None, f"no word of the server's inside; there is {found[0] if found else ''!r}")
