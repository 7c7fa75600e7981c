"""The notes suite: docs/contracts/notes.md, held against a server."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from typing import Any

from msingi.checks import rules
from msingi.checks.harness import NO_BODY, Answer, Caller, World, check, fresh, need_of_all, together, until

NOTES = "/v1/notes"
FIELDS = (
    "id",
    "title",
    "body",
    "html",
    "excerpt",
    "tags",
    "pinned",
    "state",
    "trashed_at",
    "created_at",
    "updated_at",
    "version",
)
UNSAFE = (
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "[click](javascript:alert(1))",
    '<a href="jAvAsCrIpT:alert(1)">x</a>',
    "<svg onload=alert(1)>",
    "<iframe src='data:text/html,<script>alert(1)</script>'></iframe>",
    '![x](x"onerror="alert(1))',
    '<p style="background:url(javascript:alert(1))">x</p>',
)
DANGER = re.compile(
    r"<script|<iframe|<svg|<object|<[^>]+\son\w+\s*=|<[^>]+(?:href|src)\s*=\s*[\"']?\s*javascript:", re.I
)


def make(caller: Caller, title: str = "", **more: Any) -> dict[str, Any]:
    """A new note."""
    return dict(caller.post(NOTES, {"title": title or fresh("note "), **more}).want(201).fields(*FIELDS))


def at(note: dict[str, Any], rest: str = "") -> str:
    """The address of a note, or of something below it."""
    return f"{NOTES}/{note['id']}{rest}"


def with_key(caller: Caller) -> Callable[[str, dict[str, Any]], Answer]:
    """A way to make notes under an Idempotency-Key."""
    return lambda key, form: caller.post(NOTES, form, headers={"Idempotency-Key": key})


def listed(caller: Caller, query: str = "") -> list[str]:
    """The ids of a list, from all its pages."""
    return [item["id"] for item in rules.walk(caller, f"{NOTES}?limit=100{query and '&' + query}")]


# ---- who asks


@check("Without signing in, nothing opens")
def _(world: World) -> None:
    for method, path in (
        ("GET", NOTES),
        ("POST", NOTES),
        ("GET", NOTES + "/changes"),
        ("GET", NOTES + "/export"),
        ("DELETE", NOTES + "/x"),
    ):
        rules.needs_sign_in(world, method, path)


@check(
    "Another person's note does not exist: 404 on every route, never 403",
    hint="look things up by id and owner together",
)
def _(world: World) -> None:
    world.tell_apart()
    note = make(world.ann, body="secret")
    for method, rest, body in (
        ("GET", "", NO_BODY),
        ("PATCH", "", {"title": "mine now"}),
        ("DELETE", "", NO_BODY),
        ("PUT", "/pin", NO_BODY),
        ("DELETE", "/pin", NO_BODY),
        ("PUT", "/archive", NO_BODY),
        ("PUT", "/trash", NO_BODY),
        ("GET", "/revisions", NO_BODY),
        ("GET", "/revisions/1", NO_BODY),
        ("GET", "/diff", NO_BODY),
        ("POST", "/restorations", {"version": 1}),
    ):
        world.bob.ask(method, at(note, rest), json=body).problem(404)
    now = world.ann.get(at(note)).want(200)
    now.need(now.data == note, "the note unchanged after a stranger's tries")


@check("Lists, search, sync and export show nobody else's notes")
def _(world: World) -> None:
    world.tell_apart()
    word = fresh("private")
    note = make(world.ann, word, body=word, tags=[word])
    for path in (
        NOTES,
        f"{NOTES}?q={word}",
        f"{NOTES}?tag={word}",
        f"{NOTES}/tags",
        f"{NOTES}/changes",
        f"{NOTES}/export?format=json",
    ):
        answer = world.bob.get(path).want(200)
        inside = word.encode() in answer.content or note["id"].encode() in answer.content
        answer.need(not inside, "no trace of another person's note")


# ---- one note


@check("A note can be made")
def _(world: World) -> None:
    answer = world.ann.post(NOTES, {"title": "  Hen house  ", "body": "Buy wire", "tags": ["farm"]}).want(201)
    note = answer.fields(*FIELDS)
    rules.is_stored(answer)
    answer.need(note["title"] == "Hen house", 'the title "Hen house", without the blanks at its ends')
    answer.need(note["body"] == "Buy wire" and note["tags"] == ["farm"], "body and tags as sent")
    fresh_one = (note["pinned"], note["state"], note["trashed_at"], note["version"]) == (False, "active", None, 1)
    answer.need(fresh_one, "pinned false, state active, trashed_at null, version 1")
    answer.need(answer.headers.get("location", "").endswith(at(note)), f"the header Location: {at(note)}")


@check("A note needs no more than a title")
def _(world: World) -> None:
    answer = world.ann.post(NOTES, {"title": "Only this"}).want(201)
    answer.need(answer.data["body"] == "" and answer.data["tags"] == [], 'body "" and tags []')


@check("A note can be read back")
def _(world: World) -> None:
    note = make(world.ann, body="Read me")
    answer = world.ann.get(at(note)).want(200)
    answer.need(answer.data == note, f"the note as it was made: {json.dumps(note)[:200]}")
    rules.has_etag(answer, 1)


@check("Text comes back exactly as it was sent", hint="keep the body untouched; count and store it as Unicode")
def _(world: World) -> None:
    body = "  Ng'ombe 🐔 — ünïcode\r\n\tما\u200d\u0301\n\n"
    note = make(world.ann, "Ng'ombe 🐄", body=body)
    answer = world.ann.get(at(note)).want(200)
    answer.need(answer.data["body"] == body, f"the body {body!r}")
    answer.need(answer.data["title"] == "Ng'ombe 🐄", "the title with its emoji")


@check("A note can be changed, and the rest of it stays")
def _(world: World) -> None:
    note = make(world.ann, "Before", body="stays", tags=["stays"])
    answer = world.ann.patch(at(note), {"title": "After"}).want(200)
    now = rules.is_stored(answer)
    answer.need(now["title"] == "After", 'the title "After"')
    answer.need(now["body"] == "stays" and now["tags"] == ["stays"], "body and tags as they were")
    answer.need(now["version"] == 2, "version 2")
    answer.need(now["created_at"] == note["created_at"], "the same created_at")
    read = world.ann.get(at(note)).want(200)
    read.need(read.data == now, "a later read to show the change")


@check("A change that changes nothing does not raise the version")
def _(world: World) -> None:
    note = make(world.ann, body="same")
    for patch in ({}, {"body": "same"}, {"title": note["title"], "tags": []}):
        answer = world.ann.patch(at(note), patch).want(200)
        answer.need(answer.data["version"] == 1, "still version 1")


@check("A removed note is gone")
def _(world: World) -> None:
    note = make(world.ann)
    gone = world.ann.delete(at(note)).want(204)
    gone.need(gone.content == b"", "no body with 204")
    world.ann.get(at(note)).problem(404)
    world.ann.delete(at(note)).problem(404)
    world.ann.patch(at(note), {"title": "x"}).problem(404)
    answer = world.ann.get(f"{NOTES}?state=all&limit=100")
    answer.need(note["id"] not in [item["id"] for item in answer.page()], "the note in no list")


@check("An id that never was is 404, whatever it looks like")
def _(world: World) -> None:
    rules.refuses_odd_ids(world.ann, NOTES + "/{id}")


# ---- forms


@check("A title is required, and has 1 to 200 characters")
def _(world: World) -> None:
    for form in (
        {},
        {"title": ""},
        {"title": "   "},
        {"title": "x" * 201},
        {"title": 7},
        {"title": None},
        {"title": ["x"]},
        {"title": {"$gt": ""}},
    ):
        rules.refuses(world.ann.post(NOTES, form), "/title")
    make(world.ann, "x" * 200)
    make(world.ann, "🐔" * 200)


@check("Body and tags are held to their limits")
def _(world: World) -> None:
    title = {"title": fresh("limits ")}
    for form in ({"body": "x" * 100_001}, {"body": None}, {"body": 7}):
        rules.refuses(world.ann.post(NOTES, title | form), "/body")
    for tags in ([f"t{n}" for n in range(21)], ["x" * 51], [""], ["a,b"], [7], "farm", [{"$ne": 1}]):
        rules.refuses(world.ann.post(NOTES, title | {"tags": tags}), "/tags")
    make(world.ann, body="x" * 100_000)


@check("Tags are put in one form: trimmed, lower case, no doubles, order kept")
def _(world: World) -> None:
    note = make(world.ann, tags=["To-Buy ", "farm", "FARM", "farm/hens"])
    answer = world.ann.get(at(note)).want(200)
    answer.need(answer.data["tags"] == ["to-buy", "farm", "farm/hens"], '["to-buy", "farm", "farm/hens"]')


@check(
    "Fields that a form does not know are refused, and nothing is stored",
    hint="list the fields you take; refuse all others",
)
def _(world: World) -> None:
    note = make(world.ann)
    extra = {
        "colour": "red",
        "id": "x",
        "version": 9,
        "state": "trashed",
        "pinned": True,
        "owner": "me",
        "created_at": "2020-01-01T00:00:00Z",
        "__proto__": {},
    }
    title = fresh("refused ")

    def unchanged() -> Any:
        return world.ann.get(at(note)).want(200).data, listed(world.ann, f"q={title.split()[1]}")

    rules.refuses_unknown_fields(lambda form: world.ann.patch(at(note), form), {"title": title}, extra, unchanged)
    rules.refuses_unknown_fields(lambda form: world.ann.post(NOTES, form), {"title": title}, extra, unchanged)


@check("A body that is no object is refused")
def _(world: World) -> None:
    for body in ([], [{"title": "x"}], "title", 7, None, True):
        world.ann.post(NOTES, body).problem(422, 400)


@check("All faults of a form are told at once")
def _(world: World) -> None:
    answer = world.ann.post(NOTES, {"title": "", "body": 7, "colour": "red"})
    for pointer in ("/title", "/body", "/colour"):
        rules.refuses(answer, pointer)


@check("What is no JSON is 400, not 500")
def _(world: World) -> None:
    rules.refuses_what_is_no_json(world.ann, "POST", NOTES)


@check("A body that is too deep or too large is refused")
def _(world: World) -> None:
    rules.refuses_what_is_too_deep_or_large(world.ann, NOTES, "title")


@check("What says that it is not JSON is 415")
def _(world: World) -> None:
    rules.refuses_other_media(world.ann, NOTES, b'{"title": "x"}')


@check("A method that an address does not know is 405")
def _(world: World) -> None:
    rules.knows_its_methods(world.ann, NOTES)


# ---- Markdown


@check("Markdown is rendered")
def _(world: World) -> None:
    note = make(world.ann, body="# Hens\n\nBuy **wire** and [nails](https://example.org).\n\n- one\n- two\n")
    answer = world.ann.get(at(note)).want(200)
    html = answer.data["html"]
    for part in ("<h1", "<strong>wire</strong>", 'href="https://example.org"', "<li>"):
        answer.need(part in html, f"{part} in html")


@check("Rendered Markdown runs nothing", hint="render first, then clean the HTML with an allowlist")
def _(world: World) -> None:
    for unsafe in UNSAFE:
        note = make(world.ann, body=unsafe)
        answer = world.ann.get(at(note)).want(200)
        answer.need(answer.data["body"] == unsafe, "the body exactly as it was sent")
        found = DANGER.search(answer.data["html"])
        answer.need(found is None, f"html without anything that runs; there is {found[0] if found else ''!r}")


# ---- lists


@check("The list shows the newest first, without the long fields")
def _(world: World) -> None:
    notes = [make(world.ann, body=f"body {number}", tags=["list"]) for number in range(3)]
    answer = world.ann.get(f"{NOTES}?limit=3")
    items = answer.page()
    answer.need([item["id"] for item in items] == [note["id"] for note in reversed(notes)], "the newest first")
    answer.need(items[0].get("excerpt") == "body 2", 'excerpt "body 2"')
    answer.need("body" not in items[0] and "html" not in items[0], "items without body and html")
    for name in ("title", "tags", "pinned", "state", "version", "created_at", "updated_at"):
        answer.need(name in items[0], f"items with {name}")


def few(world: World, number: int = 7) -> tuple[str, set[str]]:
    """Some notes under a tag of their own: the tag, and their ids."""
    tag = fresh("few")
    return tag, {make(world.ann, f"{tag} {n}", tags=[tag])["id"] for n in range(number)}


@check("Pages follow one another to the end")
def _(world: World) -> None:
    tag, ids = few(world)
    items = rules.walk(world.ann, f"{NOTES}?tag={tag}&limit=3")
    answer = world.ann.get(f"{NOTES}?tag={tag}&limit=3")
    answer.need(len(answer.page()) == 3, "3 items, as limit=3 asks")
    rules.shows_each_once([item["id"] for item in items], ids, answer)
    rules.follows_links(world.ann, f"{NOTES}?tag={tag}&limit=3", ids)


@check("Pages neither repeat nor skip while notes are added and removed")
def _(world: World) -> None:
    tag, ids = few(world, 9)
    passing = [make(world.ann, tags=[tag]) for _ in range(3)]
    for sort in ("-created_at", "created_at", "title"):

        def between(number: int) -> None:
            make(world.ann, f"{tag} 0 squeezed in", tags=[tag])
            if passing:
                world.ann.delete(at(passing.pop())).want(204)

        items = rules.walk(world.ann, f"{NOTES}?tag={tag}&limit=2&sort={sort}", between)
        rules.shows_each_once(
            [item["id"] for item in items], ids, world.ann.get(f"{NOTES}?tag={tag}&limit=2&sort={sort}")
        )


@check("Limits, cursors and orders that there are none of are refused")
def _(world: World) -> None:
    rules.refuses_bad_paging(world.ann, NOTES)


@check("A cursor of one order is refused in another")
def _(world: World) -> None:
    tag, _ = few(world, 3)
    cursor = world.ann.get(f"{NOTES}?tag={tag}&limit=1&sort=title").want(200).data["next"]
    world.ann.get(f"{NOTES}?tag={tag}&limit=1&sort=-created_at&after={cursor}").problem(422)


@check("The list can be sorted, both ways")
def _(world: World) -> None:
    tag = fresh("sorted")
    for title in ("b", "c", "a"):
        make(world.ann, title, tags=[tag])
    for sort, wanted in (
        ("title", "abc"),
        ("-title", "cba"),
        ("created_at", "bca"),
        ("-created_at", "acb"),
        ("updated_at", "bca"),
    ):
        answer = world.ann.get(f"{NOTES}?tag={tag}&sort={sort}")
        answer.need(
            "".join(item["title"] for item in answer.page()) == wanted, f"the titles in the order {', '.join(wanted)}"
        )


@check("The list can be filtered")
def _(world: World) -> None:
    one, two = fresh("one"), fresh("two")
    first, second, both = (make(world.ann, tags=tags) for tags in ([one], [two], [one, two]))
    world.ann.put(at(second, "/pin")).want(200)
    for query, wanted in (
        (f"tag={one}", [both, first]),
        (f"tag={one}&tag={two}", [both]),
        (f"tag[in]={one},{two}", [both, second, first]),
        (f"tag[in]={one},{two}&pinned=true", [second]),
        (f"tag={two}&pinned=false", [both]),
        (f"tag={two}&tag[nin]={one}", [second]),
        (f"tag={one}&created_at[gte]=2000-01-01T00:00:00Z", [both, first]),
        (f"tag={one}&created_at[lt]=2000-01-01T00:00:00Z", []),
    ):
        answer = world.ann.get(f"{NOTES}?{query}")
        answer.need(
            [item["id"] for item in answer.page()] == [note["id"] for note in wanted],
            f"{len(wanted)} of the three notes, newest first",
        )


@check("Filters that there are none of, and a database's operators, are refused")
def _(world: World) -> None:
    queries = (
        "colour=red",
        "state=nowhere",
        "pinned=perhaps",
        "created_at[gte]=yesterday",
        "tag[$ne]=x",
        "tag[regex]=.*",
        "$where=1",
        "state[$gt]=",
        "created_at[where]=1",
    )
    rules.refuses_operators(world.ann, NOTES, queries)


@check("The tags in use are counted")
def _(world: World) -> None:
    tag = fresh("counted")
    make(world.ann, tags=[tag])
    world.ann.put(at(make(world.ann, tags=[tag]), "/archive")).want(200)
    world.ann.put(at(make(world.ann, tags=[tag]), "/trash")).want(200)
    answer = world.ann.get(NOTES + "/tags")
    counts = {item["tag"]: item["count"] for item in answer.page()}
    answer.need(counts.get(tag) == 2, f"{tag} counted twice: active and archived notes, not those in the trash")
    answer.need(list(counts) == sorted(counts), "tags sorted by name")


# ---- search


def finds(caller: Caller, query: str, *wanted: dict[str, Any]) -> None:
    """A search shows these notes and no others, at the latest after three seconds: an index may lag behind a little."""
    ids = {note["id"] for note in wanted}
    until(
        lambda: caller.get(f"{NOTES}?{query}"),
        lambda answer: {item["id"] for item in answer.page()} == ids,
        f"these {len(ids)} notes and no others: {', '.join(sorted(note['title'] for note in wanted)) or 'none'}",
    )


@check("Search finds words in title, body and tags, in any letter case")
def _(world: World) -> None:
    word = fresh("needle")
    by_title, by_body, by_tag = (
        make(world.ann, f"A {word} here"),
        make(world.ann, body=f"text\n{word}, more"),
        make(world.ann, tags=[word]),
    )
    make(world.ann, "hay", body="hay")
    for query in (word, word.upper()):
        finds(world.ann, f"q={query}", by_title, by_body, by_tag)


@check("Search wants all words, and finds nothing for a word that nobody wrote")
def _(world: World) -> None:
    one, two = fresh("alpha"), fresh("beta")
    both, _ = make(world.ann, one, body=two), make(world.ann, one)
    finds(world.ann, f"q={one}%20{two}", both)
    answer = world.ann.get(f"{NOTES}?q={fresh('nowhere')}")
    answer.need(answer.page() == [], "no items")


@check(
    "Patterns and operators in a search are plain text",
    hint="never put what was typed into a pattern or a query object",
)
def _(world: World) -> None:
    make(world.ann, "plain words")
    for text in (".*", "^", '{"$gt":""}', "(zq+)+$", "[zq-", "*", "%", "' OR '1'='1", "\\"):
        answer = world.ann.get(NOTES, params={"q": text})
        answer.need(answer.status == 422 or answer.page() == [], "nothing found: no note holds this")
    world.ann.get(f"{NOTES}?q[$gt]=").problem(422, 400)


@check("Search goes together with filters, and follows edits")
def _(world: World) -> None:
    word, tag = fresh("word"), fresh("tag")
    tagged, plain = make(world.ann, word, tags=[tag]), make(world.ann, word)
    finds(world.ann, f"q={word}&tag={tag}", tagged)
    world.ann.patch(at(plain), {"title": "something else"}).want(200)
    finds(world.ann, f"q={word}", tagged)


# ---- pin, archive, trash


@check("A note can be pinned and unpinned, and twice is the same as once")
def _(world: World) -> None:
    note = make(world.ann)
    once = world.ann.put(at(note, "/pin")).want(200)
    once.need(once.data["pinned"] is True and once.data["version"] == 2, "pinned true, version 2")
    twice = world.ann.put(at(note, "/pin")).want(200)
    twice.need(twice.data["version"] == 2, "still version 2: nothing changed")
    off = world.ann.delete(at(note, "/pin")).want(200)
    off.need(off.data["pinned"] is False, "pinned false")
    again = world.ann.delete(at(note, "/pin")).want(200)
    again.need(again.data["version"] == off.data["version"], "the same version: nothing changed")


@check("An archived note leaves the list, and comes back")
def _(world: World) -> None:
    tag = fresh("archive")
    note = make(world.ann, tags=[tag])
    gone = world.ann.put(at(note, "/archive")).want(200)
    gone.need(gone.data["state"] == "archived", "state archived")
    for query, shown in (("", False), ("&state=archived", True), ("&state=trashed", False), ("&state=all", True)):
        answer = world.ann.get(f"{NOTES}?tag={tag}{query}")
        answer.need(bool(answer.page()) == shown, "the note in this list" if shown else "the note not in this list")
    world.ann.patch(at(note), {"body": "archived notes can be edited"}).want(200)
    back = world.ann.delete(at(note, "/archive")).want(200)
    back.need(back.data["state"] == "active", "state active")
    answer = world.ann.get(f"{NOTES}?tag={tag}")
    answer.need(len(answer.page()) == 1, "the note in the list again")


@check("A note in the trash can be read and restored, but not changed")
def _(world: World) -> None:
    tag = fresh("trash")
    note = make(world.ann, tags=[tag])
    gone = world.ann.put(at(note, "/trash")).want(200)
    gone.need(
        gone.data["state"] == "trashed" and gone.data["trashed_at"] is not None,
        "state trashed, and a time in trashed_at",
    )
    for query, shown in (("", False), ("&state=trashed", True), ("&state=archived", False)):
        answer = world.ann.get(f"{NOTES}?tag={tag}{query}")
        answer.need(bool(answer.page()) == shown, "the note in this list" if shown else "the note not in this list")
    world.ann.get(at(note)).want(200)
    world.ann.patch(at(note), {"title": "x"}).problem(409, code="note_in_trash")
    world.ann.put(at(note, "/pin")).problem(409, code="note_in_trash")
    world.ann.put(at(note, "/archive")).problem(409, code="note_in_trash")
    world.ann.post(at(note, "/restorations"), {"version": 1}).problem(409, code="note_in_trash")
    back = world.ann.delete(at(note, "/trash")).want(200)
    restored = (back.data["state"], back.data["trashed_at"], back.data["title"]) == ("active", None, note["title"])
    back.need(restored, "state active, trashed_at null, the title as it was")


@check("A note comes back from the trash to where it was")
def _(world: World) -> None:
    note = make(world.ann)
    world.ann.put(at(note, "/archive")).want(200)
    world.ann.put(at(note, "/trash")).want(200)
    back = world.ann.delete(at(note, "/trash")).want(200)
    back.need(back.data["state"] == "archived", "state archived, as before the trash")


# ---- versions


@check("Who has the newest version already hears 304")
def _(world: World) -> None:
    note = make(world.ann)
    rules.answers_304(world.ann, at(note))
    world.ann.patch(at(note), {"body": "newer"}).want(200)
    world.ann.get(at(note), headers={"If-None-Match": '"1"'}).want(200, hint="the ETag changes with each change")


@check(
    "An edit of an old version is refused with all that is needed to merge",
    hint="409 with the members base, theirs and yours",
)
def _(world: World) -> None:
    note = make(world.ann, "Hens", body="one\n")
    world.ann.patch(at(note), {"body": "one\ntwo\n"}, headers={"If-Match": '"1"'}).want(200)
    answer = world.ann.patch(at(note), {"body": "one\nthree\n"}, headers={"If-Match": '"1"'})
    told = answer.problem(409, code="note_changed")
    base, theirs, yours = (told.get(name) or {} for name in ("base", "theirs", "yours"))
    answer.need(
        (base.get("version"), base.get("title"), base.get("body")) == (1, "Hens", "one\n"),
        "`base`: revision 1 with its title and body",
    )
    answer.need(
        (theirs.get("version"), theirs.get("body")) == (2, "one\ntwo\n"), "`theirs`: the note as it is now, version 2"
    )
    answer.need(yours == {"body": "one\nthree\n"}, "`yours`: the fields that were sent")
    now = world.ann.get(at(note)).want(200)
    now.need((now.data["body"], now.data["version"]) == ("one\ntwo\n", 2), "the note unchanged by the refused edit")
    merged = world.ann.patch(at(note), {"body": "one\ntwo\nthree\n"}, headers={"If-Match": '"2"'}).want(200)
    merged.need(merged.data["version"] == 3, "version 3")


@check("Of twenty edits of the same version exactly one wins")
def _(world: World) -> None:
    note = make(world.ann)
    edits = [
        lambda n=n: world.ann.patch(at(note), {"body": f"writer {n}"}, headers={"If-Match": '"1"'}) for n in range(20)
    ]
    won = rules.one_wins(together(*edits))
    now = world.ann.get(at(note)).want(200)
    now.need(
        now.data["version"] == 2 and now.data["body"] == won.data["body"],
        f"version 2 with the winner's body, {won.data['body']!r}",
    )


@check("Removing, pinning or trashing an old version is refused")
def _(world: World) -> None:
    note = make(world.ann)
    world.ann.patch(at(note), {"body": "newer"}).want(200)
    old = {"If-Match": '"1"'}
    for method, rest in (("DELETE", ""), ("PUT", "/pin"), ("PUT", "/archive"), ("PUT", "/trash")):
        world.ann.ask(method, at(note, rest), headers=old).problem(409, code="note_changed")
    now = world.ann.get(at(note)).want(200)
    now.need((now.data["version"], now.data["state"], now.data["pinned"]) == (2, "active", False), "the note untouched")
    world.ann.delete(at(note), headers={"If-Match": '"2"'}).want(204)


@check("An If-Match that is no version is refused")
def _(world: World) -> None:
    note = make(world.ann)
    rules.needs_a_good_if_match(world.ann, at(note), {"body": "x"})
    world.ann.patch(at(note), {"body": "star"}, headers={"If-Match": "*"}).want(200)


# ---- once only


@check("The same Idempotency-Key gives the same answer again")
def _(world: World) -> None:
    title = fresh("once ")
    rules.replays(with_key(world.ann), {"title": title}, {"title": "another"})
    answer = world.ann.get(f"{NOTES}?limit=100")
    answer.need([item["title"] for item in answer.page()].count(title) == 1, "one note made, not two")


@check("Twenty requests at once with one Idempotency-Key make one note")
def _(world: World) -> None:
    title = fresh("race ")

    def count() -> int:
        return [item["title"] for item in world.ann.get(f"{NOTES}?limit=100").page()].count(title)

    rules.is_made_once(with_key(world.ann), {"title": title}, count)


@check("An Idempotency-Key belongs to the person who sent it")
def _(world: World) -> None:
    world.tell_apart()
    key = fresh("key-")
    mine = with_key(world.ann)(key, {"title": "Mine"}).want(201)
    yours = with_key(world.bob)(key, {"title": "Yours"}).want(201, hint="file keys under the person")
    yours.need(yours.data["id"] != mine.data["id"], "a note of their own")


@check("An Idempotency-Key that is too long is refused")
def _(world: World) -> None:
    rules.refuses_bad_keys(with_key(world.ann), {"title": "x"})


# ---- revisions


@check("Each save is a revision; pinning is none")
def _(world: World) -> None:
    note = make(world.ann, "One", body="1")
    world.ann.patch(at(note), {"title": "Two"}).want(200)
    world.ann.put(at(note, "/pin")).want(200)
    world.ann.patch(at(note), {"body": "2", "tags": ["t"]}).want(200)
    world.ann.patch(at(note), {"body": "2"}).want(200)
    answer = world.ann.get(at(note, "/revisions"))
    answer.need([item["version"] for item in answer.page()] == [4, 2, 1], "the versions 4, 2, 1")
    old = world.ann.get(at(note, "/revisions/1")).want(200)
    told = old.fields("version", "title", "body", "tags", "created_at")
    old.need((told["title"], told["body"], told["tags"]) == ("One", "1", []), 'title "One", body "1", no tags')
    world.ann.get(at(note, "/revisions/3")).problem(404)
    world.ann.get(at(note, "/revisions/99")).problem(404)


@check("Revisions come in pages")
def _(world: World) -> None:
    note = make(world.ann)
    for number in range(4):
        world.ann.patch(at(note), {"body": str(number)}).want(200)
    versions = [item["version"] for item in rules.walk(world.ann, at(note, "/revisions?limit=2"))]
    answer = world.ann.get(at(note, "/revisions?limit=2"))
    answer.need(versions == [5, 4, 3, 2, 1], "the versions 5, 4, 3, 2, 1 over the pages")


@check("The difference of two revisions is told line by line")
def _(world: World) -> None:
    note = make(world.ann, "Hens", body="one\ntwo\nthree\n")
    world.ann.patch(at(note), {"title": "Hen house", "body": "one\n2\nthree\n", "tags": ["farm"]}).want(200)
    answer = world.ann.get(at(note, "/diff?from=1&to=2")).want(200)
    told = answer.fields("from", "to", "title", "tags", "body")
    lines = told["body"].splitlines()
    answer.need("-two" in lines and "+2" in lines and " one" in lines, "the lines `-two`, `+2` and ` one` in body")
    answer.need(told["title"] == {"from": "Hens", "to": "Hen house"}, "both titles")
    answer.need(told["tags"] == {"from": [], "to": ["farm"]}, "both lists of tags")
    short = world.ann.get(at(note, "/diff")).want(200)
    short.need(
        (short.data["from"], short.data["to"]) == (1, 2), "the newest against the one before, if nothing is asked"
    )
    world.ann.get(at(note, "/diff?from=1&to=7")).problem(404)
    world.ann.get(at(note, "/diff?from=x")).problem(422)


@check("An old revision can be brought back, and history goes on")
def _(world: World) -> None:
    note = make(world.ann, "Old", body="old", tags=["old"])
    world.ann.patch(at(note), {"title": "New", "body": "new", "tags": []}).want(200)
    back = world.ann.post(at(note, "/restorations"), {"version": 1}).want(201)
    told = (back.data["title"], back.data["body"], back.data["tags"], back.data["version"])
    back.need(told == ("Old", "old", ["old"], 3), "title, body and tags of revision 1, as version 3")
    answer = world.ann.get(at(note, "/revisions"))
    answer.need([item["version"] for item in answer.page()] == [3, 2, 1], "the versions 3, 2, 1: nothing cut off")
    world.ann.post(at(note, "/restorations"), {"version": 99}).problem(404)
    world.ann.post(at(note, "/restorations"), {"version": "1"}).problem(422)
    world.ann.post(at(note, "/restorations"), {"version": 2}, headers={"If-Match": '"1"'}).problem(
        409, code="note_changed"
    )


@check("No save that was confirmed is lost, however many write at once")
def _(world: World) -> None:
    note = make(world.ann)
    texts = [fresh(f"writer {number} ") for number in range(12)]
    answers = together(*[lambda text=text: world.ann.patch(at(note), {"body": text}) for text in texts])
    saved = {text for text, answer in zip(texts, answers, strict=True) if answer.status == 200}
    need_of_all(
        answers,
        bool(saved) and {answer.status for answer in answers} <= {200, 409, 503},
        "200 for those that are saved (409 or 503 for others)",
    )
    versions = [item["version"] for item in rules.walk(world.ann, at(note, "/revisions?limit=100"))]
    kept = {world.ann.get(at(note, f"/revisions/{version}")).want(200).data["body"] for version in versions}
    need_of_all(
        answers,
        saved <= kept,
        f"a revision of each; {len(saved - kept)} confirmed saves are in none",
        "write the note and its revision in one step",
    )


# ---- sync


def sync(caller: Caller, cursor: str = "", limit: int = 100) -> tuple[dict[str, dict[str, Any]], str]:
    """Read all changes from a cursor on: the last of each note, and the cursor to go on from."""
    seen: dict[str, dict[str, Any]] = {}
    for _ in range(100):
        answer = caller.get(f"{NOTES}/changes?limit={limit}" + (f"&cursor={cursor}" if cursor else "")).want(200)
        told = answer.fields("items", "cursor", "more")
        answer.need(
            isinstance(told["cursor"], str) and told["cursor"] != "", "a cursor, also when there is nothing new"
        )
        seen |= {item["id"]: item for item in told["items"]}
        cursor = told["cursor"]
        if not told["more"]:
            return seen, cursor
    answer.need(False, "an end: `more` was true a hundred times")
    raise AssertionError


@check("The first sync shows everything, in every state")
def _(world: World) -> None:
    notes = [make(world.ann, body=f"sync {n}") for n in range(5)]
    world.ann.put(at(notes[0], "/archive")).want(200)
    world.ann.put(at(notes[1], "/trash")).want(200)
    seen, _ = sync(world.ann, limit=2)
    answer = world.ann.get(NOTES + "/changes")
    answer.need({note["id"] for note in notes} <= set(seen), "every note, also archived ones and those in the trash")
    found = seen[notes[0]["id"]]
    answer.need(
        (found["change"], found["note"]["state"], found["version"]) == ("saved", "archived", 2),
        "the archived note as saved, version 2",
    )
    answer.need(found["note"]["body"] == "sync 0", "the whole note, with its body")


@check("A sync shows what changed since the last one, deletions included")
def _(world: World) -> None:
    kept, edited, removed = (make(world.ann) for _ in range(3))
    _, cursor = sync(world.ann)
    world.ann.patch(at(edited), {"body": "edited"}).want(200)
    world.ann.delete(at(removed)).want(204)
    added = make(world.ann)
    seen, cursor = sync(world.ann, cursor)
    answer = world.ann.get(f"{NOTES}/changes?cursor={cursor}")
    answer.need(
        kept["id"] not in seen or seen[kept["id"]]["version"] == 1, "nothing new on the note that nobody touched"
    )
    answer.need(seen.get(edited["id"], {}).get("note", {}).get("body") == "edited", "the edited note as it is now")
    answer.need(
        seen.get(removed["id"], {}).get("change") == "deleted",
        "a tombstone for the removed note",
        "keep a row that says that the note was removed",
    )
    answer.need(seen[removed["id"]]["note"] is None, "no note in a tombstone")
    answer.need(added["id"] in seen, "the new note")
    nothing, _ = sync(world.ann, cursor)
    answer.need(nothing == {}, "nothing, when nothing happened since")


@check(
    "Whoever syncs while others write misses nothing",
    hint="hand out change numbers in the order of the commits, not of the starts",
)
def _(world: World) -> None:
    notes = [make(world.ann) for _ in range(4)]
    _, cursor = sync(world.ann)
    known: dict[str, dict[str, Any]] = {}
    for _ in range(4):
        writes = [lambda note=note: world.ann.patch(at(note), {"body": fresh("")}) for note in notes * 2]

        def read() -> Answer:
            nonlocal cursor
            seen, cursor = sync(world.ann, cursor, limit=3)
            known.update(seen)
            return world.ann.get(f"{NOTES}/changes?cursor={cursor}")

        together(*writes, read)
    seen, cursor = sync(world.ann, cursor)
    known |= seen
    for note in notes:
        now = world.ann.get(at(note)).want(200)
        told = known.get(note["id"], {}).get("version")
        now.need(told == now.data["version"], f"the reader to have seen version {now.data['version']}; it has {told}")


@check("A sync cursor that never was is refused")
def _(world: World) -> None:
    answer = world.ann.get(NOTES + "/changes?cursor=nonsense")
    answer.problem(422, 410)
    for limit in ("0", "501", "x"):
        world.ann.get(f"{NOTES}/changes?limit={limit}").problem(422)


# ---- export


@check("All notes can be taken away as Markdown files in a zip")
def _(world: World) -> None:
    body = "# Kept\n\n---\n\nexactly — 🐔\n\n"
    note = make(world.ann, 'A "title": with / signs', body=body, tags=["a", "b"])
    answer = world.ann.get(NOTES + "/export").want(200)
    answer.need(answer.headers.get("content-type", "").startswith("application/zip"), "Content-Type: application/zip")
    answer.need("attachment" in answer.headers.get("content-disposition", ""), "Content-Disposition: attachment")
    try:
        with zipfile.ZipFile(io.BytesIO(answer.content)) as kept:
            files = {name: kept.read(name).decode() for name in kept.namelist()}
    except (zipfile.BadZipFile, UnicodeDecodeError):
        answer.need(False, "a zip file of UTF-8 text")
    mine = [text for name, text in files.items() if name.endswith(f"{note['id']}.md")]
    answer.need(len(mine) == 1, f"one file whose name ends with {note['id']}.md")
    answer.need(all("/" not in name and ".." not in name for name in files), "plain file names, without / or ..")
    answer.need(
        mine[0].startswith("---\n") and mine[0].endswith(f"\n---\n{body}"),
        "front matter between two lines ---, then the body exactly",
    )
    answer.need(f"title: {json.dumps(note['title'])}\n" in mine[0], f"the line title: {json.dumps(note['title'])}")


@check("All notes can be taken away as JSON")
def _(world: World) -> None:
    note = make(world.ann, body="json")
    world.ann.put(at(note, "/archive")).want(200)
    answer = world.ann.get(NOTES + "/export?format=json").want(200)
    answer.need("attachment" in answer.headers.get("content-disposition", ""), "Content-Disposition: attachment")
    found = {each["id"]: each for each in answer.fields("exported_at", "notes")["notes"]}
    answer.need(found.get(note["id"], {}).get("body") == "json", "the note with its body, archived ones too")
    world.ann.get(NOTES + "/export?format=doc").problem(422)


# ---- around it


@check("An address that is none is 404 as a problem, with the id of the request")
def _(world: World) -> None:
    rules.has_request_id(world.ann, NOTES)


@check("Answers carry the headers that keep browsers and proxies out of it")
def _(world: World) -> None:
    rules.has_safe_headers(world, world.ann, NOTES)


@check("Limits are told in a way that can be read")
def _(world: World) -> None:
    rules.tells_its_limits(world.ann, NOTES)
