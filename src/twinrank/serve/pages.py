"""The pages, and what they load: files of the package, nothing from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles

from twinrank.serve.guard import CSP

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


def add_pages(app: FastAPI) -> None:
    """Serve `/`, `/admin`, `/docs` and `/static`."""
    import fastapi_offline

    swagger = Path(fastapi_offline.__file__).parent / "static"
    app.mount("/static/swagger", GZipMiddleware(StaticFiles(directory=swagger)))
    app.mount("/static", GZipMiddleware(StaticFiles(directory=STATIC)))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/admin", include_in_schema=False)
    async def admin() -> FileResponse:
        return FileResponse(STATIC / "admin.html")

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
