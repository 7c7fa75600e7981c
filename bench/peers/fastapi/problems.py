"""What goes wrong, as `application/problem+json`."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

log = logging.getLogger("problems")


class Problem(Exception):
    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.more = status, code, detail, more


class NotFound(Problem):
    def __init__(self) -> None:
        super().__init__(404, "not_found", "There is nothing here.")


class Stale(Problem):
    def __init__(self) -> None:
        super().__init__(412, "stale", "It changed meanwhile; read it again.")


class Forbidden(Problem):
    def __init__(self) -> None:
        super().__init__(403, "forbidden", "You may not do that.")


class SignInFirst(Problem):
    def __init__(self) -> None:
        super().__init__(401, "sign_in_first", "Sign in first.")


class Full(Problem):
    def __init__(self, most: int) -> None:
        super().__init__(409, "full", f"There is room for {most} here.")


def _reply(request: Request, problem: Problem) -> JSONResponse:
    body = {
        "type": f"/problems/{problem.code}",
        "title": problem.code,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": request.scope["state"]["request_id"],
        **problem.more,
    }
    return JSONResponse(body, problem.status, media_type="application/problem+json")


def handle(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def on_problem(request: Request, problem: Problem) -> JSONResponse:
        return _reply(request, problem)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, fault: HTTPException) -> JSONResponse:
        return _reply(request, Problem(fault.status_code, "malformed", str(fault.detail)))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, fault: RequestValidationError) -> JSONResponse:
        errors = [
            {"pointer": "/" + "/".join(map(str, each["loc"][1:])), "message": each["msg"]} for each in fault.errors()
        ]
        return _reply(request, Problem(422, "invalid_fields", "Some fields are not as they should be.", errors=errors))

    @app.exception_handler(Exception)
    async def on_fault(request: Request, fault: Exception) -> JSONResponse:
        log.error("failed", exc_info=fault)
        return _reply(request, Problem(500, "problem", "Something went wrong."))
