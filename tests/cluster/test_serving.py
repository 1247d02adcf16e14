"""`twinrank serve --ray`: what it refuses, and replicas on a real cluster."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.processes import PATIENCE_S, until
from tests.service.test_server import QUERY, kept, served
from tests.test_cli import twinrank
from twinrank.client import Client
from twinrank.service.settings import Settings

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
        reply = httpx.get(f"{address}/readyz")
        assert reply.headers["content-security-policy"]
        assert list(acknowledged) == keys  # asked again where the replica died over one
        until(lambda: len(replicas()) == 2)
        assert client.rank(TEXTS[0], k=1).answers
    assert kept(folder) >= set(keys)


def test_a_command_takes_the_place_of_one_that_was_killed(running):
    folder, process, address = running
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
