"""OpenAI's error bodies: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException


class ApiError(Exception):
    """What a client did wrong, or asked for in vain, with its HTTP status."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        """The error object as OpenAI's SDK reads it."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


def model_not_found(model: str) -> ApiError:
    """OpenAI's 404 for a model that does not exist here."""
    return ApiError(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        code="model_not_found",
    )


def install(app: FastAPI) -> None:
    """Make every error of `app` leave it in OpenAI's form."""

    @app.exception_handler(ApiError)
    async def _(_request: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), error.status)

    @app.exception_handler(RequestValidationError)
    async def _(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
        wrong = ApiError(400, f"{first['msg']}: '{where}'.", param=where or None)
        return JSONResponse(wrong.body(), 400)

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        message = f"Invalid URL ({request.method} {request.url.path})"
        text = message if error.status_code == 404 else str(error.detail)
        return JSONResponse(ApiError(error.status_code, text).body(), error.status_code)

    @app.exception_handler(Exception)
    async def _(_request: Request, error: Exception) -> JSONResponse:
        wrong = ApiError(500, f"The server had an error: {type(error).__name__}: {error}")
        return JSONResponse(wrong.body(), 500)
