"""`twinrank mcp` as a language model's program asks it: by the SDK's own client."""

import os
import subprocess
import sys

import mcp
import pytest
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.asynchronous import run
from tests.client.conftest import READ
from twinrank import Client

pytestmark = pytest.mark.slow

ASKED = "guessed too often, now blocked, and I still don't know the password"


def talk(url, key, ask):
    """Start the server in a process of its own, and ask it."""

    async def session():
        command = ["-m", "twinrank.cli", "mcp", url]
        environment = {**os.environ, "TWINRANK_KEY": key}
        server = StdioServerParameters(command=sys.executable, args=command, env=environment)
        async with mcp.Client(stdio_client(server)) as client:
            return await ask(client)

    return run(session())


def test_a_language_model_finds_answers(service):
    async def ask(client):
        tools = (await client.list_tools()).tools
        reply = await client.call_tool("find_answers", {"question": ASKED, "k": 2})
        return tools, reply

    tools, reply = talk(service.url, READ, ask)
    assert [tool.name for tool in tools] == ["find_answers"]
    assert tools[0].annotations.read_only_hint
    assert not reply.is_error
    with Client(service.url, READ) as client:
        best = client.rank(ASKED, k=2, passage="section").answers
    assert reply.structured_content["result"] == [
        {
            "id": answer.id,
            "title": answer.title,
            "url": answer.url,
            "passage": answer.passage,
            "likelihood": pytest.approx(answer.confidence, abs=1e-4),
        }
        for answer in best
    ]


@pytest.mark.parametrize(
    "arguments",
    [{}, {"question": " "}, {"question": "x" * 50_001}, {"question": "x", "k": 21}],
)
def test_what_is_out_of_bounds_is_refused(service, arguments):
    reply = talk(service.url, READ, lambda client: client.call_tool("find_answers", arguments))
    assert reply.is_error


def test_a_service_that_refuses_is_quoted(service):
    asked = {"question": ASKED}
    reply = talk(service.url, "nobody's-key", lambda c: c.call_tool("find_answers", asked))
    assert reply.is_error
    assert "this key is not known" in reply.content[0].text


def test_a_folder_is_no_address(tmp_path):
    command = [sys.executable, "-m", "twinrank.cli", "mcp", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is no service's address" in done.stderr
