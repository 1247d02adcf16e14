"""The pages, and what they load: files of the package, nothing from outside."""

from __future__ import annotations

import gzip
import mimetypes
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from twinrank.service.guard import CSP

STATIC = Path(__file__).parent / "static"
# Swagger UI styles its elements one by one.
DOCS_CSP = CSP.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>twinrank API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/swagger/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/static/swagger/swagger-ui-bundle.js"></script>
<script src="/static/docs.js"></script>
</body>
</html>
"""


class Files:
    """The files of a folder, read and compressed once: a request for one costs next to nothing.

    Args:
        folder: with its folders.
    """

    def __init__(self, folder: Path) -> None:
        self._files = {
            file.relative_to(folder).as_posix(): _File(file)
            for file in folder.rglob("*")
            if file.is_file()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the file at the path, below that where this is mounted."""
        name = scope["path"].removeprefix(scope.get("root_path", "")).removeprefix("/")
        file = self._files.get(name)
        response: Response = PlainTextResponse("Not Found", 404)
        if scope["method"] not in {"GET", "HEAD"}:
            response = PlainTextResponse("Method Not Allowed", 405, {"Allow": "GET, HEAD"})
        elif file:
            response = file.response(Headers(scope=scope))
        await response(scope, receive, send)

    def page(self, name: str, request: Request) -> Response:
        """The file of a name."""
        return self._files[name].response(request.headers)


class _File:
    def __init__(self, file: Path) -> None:
        self._whole = file.read_bytes()
        self._small = gzip.compress(self._whole, mtime=0)
        self._kind = mimetypes.guess_type(file.name)[0]
        self._tag = f'"{sha256(self._whole).hexdigest()[:32]}"'

    def response(self, headers: Headers) -> Response:
        """The file, compressed for whom takes that; nothing for who has it."""
        told = {"ETag": self._tag, "Vary": "Accept-Encoding"}
        if self._tag in headers.get("if-none-match", ""):
            return Response(status_code=304, headers=told)
        if "gzip" not in headers.get("accept-encoding", ""):
            return Response(self._whole, headers=told, media_type=self._kind)
        told["Content-Encoding"] = "gzip"
        return Response(self._small, headers=told, media_type=self._kind)


def add_pages(app: FastAPI) -> None:
    """Serve `/`, `/admin`, `/docs` and `/static`."""
    import fastapi_offline

    swagger = Path(fastapi_offline.__file__).parent / "static"
    app.mount("/static/swagger", Files(swagger))
    static = Files(STATIC)
    app.mount("/static", static)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return static.page("index.html", request)

    @app.get("/admin", include_in_schema=False)
    async def admin(request: Request) -> Response:
        return static.page("admin.html", request)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(DOCS, headers={"Content-Security-Policy": DOCS_CSP})


def name_keys(app: FastAPI, *, needed: bool) -> None:
    """Say in the API's description where a key goes; `/docs` then has a field for it."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = describe()
            schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["key"] = {"type": "http", "scheme": "bearer", "description": "A key of yours."}
            for path, operations in schema["paths"].items():
                for operation in operations.values() if path.startswith("/v1/") else ():
                    operation["security"] = [{"key": []}] if needed else [{}, {"key": []}]
        assert app.openapi_schema is not None  # noqa: S101 (describe made it)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's documentation does
