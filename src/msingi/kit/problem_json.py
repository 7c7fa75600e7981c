"""A Problem as bytes: the one `application/problem+json` (RFC 9457) that the edge and the application both send."""

from typing import Any

import msgspec

from msingi.kit.errors import Problem

MEDIA_TYPE = "application/problem+json"
Headers = list[tuple[bytes, bytes]]
_encode = msgspec.json.Encoder(enc_hook=str).encode


def document(problem: Problem, request_id: str) -> dict[str, Any]:
    """The members of the problem document, with the id under which the logs tell of it."""
    return {**problem.body(), "request_id": request_id}


def problem_reply(problem: Problem, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers (names in lower case) and body of the reply that tells a Problem."""
    body = _encode(document(problem, request_id))
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    headers.append((b"content-type", MEDIA_TYPE.encode()))
    headers.append((b"content-length", str(len(body)).encode()))
    return problem.status, headers, body
