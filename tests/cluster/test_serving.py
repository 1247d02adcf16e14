"""`twinrank serve --ray`: what it refuses, and replicas on a real cluster."""

import asyncio
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from fastapi.testclient import TestClient

from tests.service.test_server import PATIENCE_S, QUERY, Load, kept, served, until
from tests.test_cli import twinrank
from twinrank.client import Client
from twinrank.encoding import FeatureStore
from twinrank.errors import ClusterError, ServeError
from twinrank.service.app import create_app
from twinrank.service.settings import Settings
from twinrank.training import train

serving_ray = pytest.importorskip("twinrank.cluster.serving")
TEXTS = [QUERY["text"], "my clients say the page shows nothing they could book", "invoice refund"]


@pytest.fixture
def settings(trained, tmp_path):
    return Settings(ranker=trained, feedback=str(tmp_path / "feedback.db"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "0.0.0.0"), "give --keys FILE"),  # noqa: S104
        (("--index", "answers.db"), "a file of Milvus Lite has one process"),
        (("--feedback", "mysql://db/x"), "feedback is not kept in 'mysql'"),
        (("--keys", "/nowhere/keys"), "give a file of keys"),
    ],
)
def test_what_is_refused_is_refused_before_a_cluster_is_joined(trained, options, said, monkeypatch):
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("joined"))
    refused = twinrank("serve", trained, "--ray", "local", *options, check=False)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_replicas_are_given_whole_paths(settings, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    told = settings.model_copy(update={"feedback": "mine.db"})
    assert serving_ray._resolve_paths(told).feedback == f"{tmp_path / 'mine.db'}"
    server = told.model_copy(update={"feedback": "postgresql://u@db/x", "index": "local"})
    assert serving_ray._resolve_paths(server) == server
    with pytest.raises(ServeError, match="one process"):
        serving_ray._resolve_paths(told.model_copy(update={"index": "answers.db#mine"}))


def test_a_request_is_logged_and_answered_under_the_proxys_id():
    heard, sent = {}, []

    async def app(scope, _, send):
        heard.update(scope)
        headers = [(b"x-request-id", b"its own"), (b"x-more", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": [(b"x-request-id", b"the proxy's")]}
    asyncio.run(serving_ray.ProxiedApp(app)(scope, None, send))
    assert heard["twinrank.request"] == "the proxy's"
    assert sent[0]["headers"] == [(b"x-more", b"1")]


@pytest.mark.usefixtures("whole_cluster")
def test_what_other_machines_would_not_share_is_refused(settings, tmp_path, monkeypatch):
    shared = settings.model_copy(update={"feedback": "postgresql://u@db/x", "host": "0.0.0.0"})  # noqa: S104
    serving_ray._check_machines(settings)  # this machine alone
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    serving_ray._check_machines(shared)
    with pytest.raises(ClusterError, match="--feedback postgresql"):
        serving_ray._check_machines(settings)
    with pytest.raises(ClusterError, match=r"would listen on 127\.0\.0\.1: run the command there"):
        serving_ray._check_machines(shared.model_copy(update={"host": "127.0.0.1"}))
    missing = shared.model_copy(update={"keys": tmp_path / "keys"})
    with pytest.raises(ClusterError, match=r"does not see .*/keys of this machine"):
        serving_ray._check_machines(missing)


@pytest.fixture(scope="module")
def running(two_nodes, trained, tmp_path_factory):
    """A service of two replicas that several tests share: its folder, command and address."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("running") / "ranker")
    with served(folder, "--ray", two_nodes.address, "--workers", "2") as (process, address):
        yield folder, process, address


def replicas():
    """The processes that rank, of all nodes that this process has started."""
    every = psutil.Process().children(recursive=True)
    return [one for one in every if is_replica(one)]


def is_replica(process):
    try:
        return process.cmdline()[0].startswith("ray::ServeReplica")
    except (psutil.NoSuchProcess, IndexError):
        return False


def test_replicas_answer_as_one_machine_does(running, settings):
    _, _, address = running
    with TestClient(create_app(settings)) as alone, httpx.Client(base_url=address) as client:
        for text in TEXTS:
            body = {"text": text, "k": 10}
            replies = [one.post("/v1/rank", json=body) for one in (alone, client, client)]
            ranked = [{**reply.json(), "ranker": ""} for reply in replies]
            assert ranked[0] == ranked[1] == ranked[2]
        assert len(replies[1].headers.get_list("x-request-id")) == 1
        assert replies[1].headers["content-security-policy"]
        assert client.post("/v1/rank", json={"text": ""}).status_code == 422
        assert client.get("/readyz").json() == alone.get("/readyz").json()


def test_what_one_replica_is_told_all_know(running):
    _, _, address = running
    with Client(address) as client:
        client.put_answer("new", title="New", text="Something new")

    def seen():  # by which replica, and what it said
        told = [httpx.get(f"{address}/metrics").text for _ in range(20)]
        return {name for text in told for name in re.findall(r'replica="([^"]+)"', text)}

    until(lambda: len(seen()) == 2)
    until(lambda: {httpx.get(f"{address}/v1/answers/new").status_code for _ in range(20)} == {200})


def test_a_new_ranker_is_taken_up_with_no_failed_request(running, recipes, help_centre):
    folder, _, address = running
    with Load(address) as load:
        until(lambda: load.rankers)
        before = set(load.rankers)
        train(help_centre, recipes["fused"], seed=1, store=FeatureStore()).save(folder)
        until(lambda: set(load.rankers[-20:]).isdisjoint(before))
    assert set(load.statuses) == {200}


def test_a_replica_that_is_killed_comes_back_and_no_acknowledged_verdict_is_lost(running):
    folder, _, address = running
    until(lambda: len(replicas()) == 2)
    victim = replicas()[0]
    keys = [f"killed-{i}" for i in range(400)]
    with Client(address) as client, ThreadPoolExecutor(4) as threads:

        def verdict(key):
            client.feedback("hello", right=False, key=key)
            return key

        acknowledged = threads.map(verdict, keys)
        time.sleep(0.5)
        victim.kill()
        assert list(acknowledged) == keys  # asked again where the replica died over one
        until(lambda: len(replicas()) == 2)
        assert client.rank(TEXTS[0], k=1).answers
    assert kept(folder) >= set(keys)


def test_one_command_serves_on_a_cluster_and_takes_the_place_of_one_that_was_killed(running):
    folder, process, address = running
    command = ("serve", folder, "--port", "0", "--ray", ray_address(process))
    refused = twinrank(*command, check=False)
    assert refused.returncode == 2
    assert "another `twinrank serve` runs on this cluster" in refused.stderr

    process.kill()
    process.wait()
    assert httpx.post(f"{address}/v1/rank", json=QUERY, timeout=PATIENCE_S).status_code == 200
    again = ("--ray", ray_address(process), "--workers", "2")
    with served(folder, *again) as (process, address):
        batch = [{"text": f"{QUERY['text']} {i}", "k": 1} for i in range(64)]
        with ThreadPoolExecutor(1) as thread:
            reply = thread.submit(httpx.post, f"{address}/v1/rank", json=batch, timeout=PATIENCE_S)
            time.sleep(0.05)
            process.terminate()
            assert reply.result().status_code == 200
        assert process.wait(PATIENCE_S) == 0
    assert not replicas()


def ray_address(process):
    return process.args[process.args.index("--ray") + 1]


def test_what_a_replica_raised_is_told_without_how_it_came():
    told = "The deployment failed.\nTraceback:\ntwinrank.errors.EncoderError: no encoder is there\n"
    assert serving_ray._last_line(told) == "no encoder is there"
    assert serving_ray._last_line("it waits for cores") == "it waits for cores"
