"""The pages, and the files that they load: all of the package, nothing from outside."""

from __future__ import annotations

import gzip
import mimetypes
from hashlib import sha256
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from twinrank.service.guard import CONTENT_SECURITY_POLICY

STATIC = Path(__file__).parent / "static"
# Swagger UI styles its elements one by one.
DOCS_POLICY = CONTENT_SECURITY_POLICY.replace(
    "style-src 'self'", "style-src 'self' 'unsafe-inline'"
)
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
        """Answer with the file at the path below that where this is mounted."""
        name = scope["path"].removeprefix(scope.get("root_path", "")).removeprefix("/")
        response: Response = PlainTextResponse("Not Found", 404)
        if scope["method"] not in {"GET", "HEAD"}:
            response = PlainTextResponse("Method Not Allowed", 405, {"Allow": "GET, HEAD"})
        elif name in self._files:
            response = self.respond(name, Headers(scope=scope))
        await response(scope, receive, send)

    def respond(self, name: str, headers: Headers) -> Response:
        """Return the file of a name, compressed if the client takes that, unless it has it."""
        file = self._files[name]
        own_headers = {"ETag": file.tag, "Vary": "Accept-Encoding"}
        if file.tag in headers.get("if-none-match", ""):
            return Response(status_code=304, headers=own_headers)
        if "gzip" not in headers.get("accept-encoding", ""):
            return Response(file.content, headers=own_headers, media_type=file.media_type)
        own_headers["Content-Encoding"] = "gzip"
        return Response(file.compressed, headers=own_headers, media_type=file.media_type)


class _File:
    def __init__(self, file: Path) -> None:
        self.content = file.read_bytes()
        self.compressed = gzip.compress(self.content, mtime=0)
        self.media_type = mimetypes.guess_type(file.name)[0]
        self.tag = f'"{sha256(self.content).hexdigest()[:32]}"'


def add_pages(app: FastAPI) -> None:
    """Serve `/`, `/admin`, `/docs` and `/static`."""
    import fastapi_offline

    app.mount("/static/swagger", Files(Path(fastapi_offline.__file__).parent / "static"))
    static = Files(STATIC)
    app.mount("/static", static)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return static.respond("index.html", request.headers)

    @app.get("/admin", include_in_schema=False)
    async def admin(request: Request) -> Response:
        return static.respond("admin.html", request.headers)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(DOCS, headers={"Content-Security-Policy": DOCS_POLICY})
