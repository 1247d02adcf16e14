"""A running service with keys, and clients of it of both kinds."""

import inspect
import os
import shutil

import httpx
import pytest

from tests.asynchronous import run
from tests.serving_help import serving
from twinrank import AsyncClient, Client

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # before anything imports it

READ, WRITE = "read-" + "r" * 16, "write-" + "w" * 16


@pytest.fixture(scope="session")
def service(trained, tmp_path_factory):
    home = tmp_path_factory.mktemp("served")
    shutil.copytree(trained, home / "ranker")
    (home / "keys").write_text(f"read {READ}\nwrite {WRITE}\n")
    with serving(home / "ranker", home / "feedback.db", "--keys", str(home / "keys")) as running:
        yield running


class Both:
    """Calls made by one kind of client, each by a client of its own that is closed after it."""

    def __init__(self, kind):
        self.kind = kind

    def __call__(self, url, ask, *, lossy=False, **options):
        if self.kind is Client:
            if lossy:
                options["transport"] = LosesFirstReply()
            with Client(url, **options) as client:
                return ask(client)

        async def asked():
            if lossy:
                options["transport"] = AsyncLosesFirstReply()
            async with AsyncClient(url, **options) as client:
                reply = ask(client)
                return await reply if inspect.isawaitable(reply) else reply

        return run(asked())


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def made(request):
    """Makes a call with a client: `made(url, lambda client: client.rank("..."))`."""
    return Both(request.param)


class LosesFirstReply(httpx.HTTPTransport):
    """The service does what it is asked, but its first reply is lost on the way."""

    lost = False

    def handle_request(self, request):
        response = super().handle_request(request)
        if not self.lost:
            self.lost = True
            response.read()
            response.close()
            raise httpx.ReadError("connection reset by peer")
        return response


class AsyncLosesFirstReply(httpx.AsyncHTTPTransport):
    lost = False

    async def handle_async_request(self, request):
        response = await super().handle_async_request(request)
        if not self.lost:
            self.lost = True
            await response.aread()
            await response.aclose()
            raise httpx.ReadError("connection reset by peer")
        return response
