"""The service as its users start it: processes, signals, and rankers that change under load."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.client import HTTPConnection

import httpx
import psutil
import pytest

from tests.processes import PATIENCE_S, until
from tests.ranker_files import edit_manifest, version_folder
from twinrank.encoding import FeatureStore
from twinrank.feedback.database import Feedback
from twinrank.training import train

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("TWINRANK_KILLS", "1"))
QUERY = {"text": "it wont let me in again", "k": 1, "explain": False}


@contextmanager
def served(folder, *options, python=sys.executable):
    """A running service: its process and address."""
    command = [python, "-m", "twinrank.cli", "serve", str(folder), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said, address = [], None
        while not address and (line := process.stderr.readline()):  # on a cluster, not the first
            said.append(line)
            address = re.search(r"http://\S+", line)
        assert address, "".join(said)
        drain = threading.Thread(target=lambda: list(process.stderr), daemon=True)
        drain.start()
        ready(address[0])
        yield process, address[0]
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def ready(address):
    """What the service says of itself, as soon as it answers."""
    replies = []

    def answers():
        with suppress(httpx.TransportError):
            replies.append(httpx.get(f"{address}/readyz", timeout=PATIENCE_S))
        return replies and replies[-1].status_code == 200

    until(answers)
    return replies[-1].json()


def workers(process):
    """Its processes that rank."""
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess):  # a zombie is one
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


class Load(threading.Thread):
    """Asks over and over, and keeps what was answered."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.statuses, self.rankers, self.over = address, [], [], False

    def run(self):
        with httpx.Client(timeout=PATIENCE_S) as client:
            while not self.over:
                try:
                    reply = client.post(f"{self.address}/v1/rank", json=QUERY)
                except httpx.TransportError:
                    self.statuses.append(0)  # refused, or lost
                    continue
                self.statuses.append(reply.status_code)
                if reply.status_code == 200:
                    self.rankers.append(reply.json()["ranker"])

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.join(PATIENCE_S)


@pytest.fixture(scope="module")
def running(trained, tmp_path_factory):
    """A service of two workers that several tests share, and its folder."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("running") / "ranker")
    with served(folder, "--workers", "2") as (process, address):
        yield folder, process, address


def test_what_one_worker_is_told_all_know(running):
    _, process, address = running
    assert len(workers(process)) == 2
    reply = httpx.put(f"{address}/v1/answers/new", json={"title": "New"}, timeout=PATIENCE_S)
    assert reply.status_code == 201

    def statuses():  # each request is a connection of its own, to either of the two
        return {httpx.get(f"{address}/v1/answers/new").status_code for _ in range(20)}

    until(lambda: statuses() == {200})
    told = httpx.get(f"{address}/metrics").text
    assert "server" not in reply.headers
    total = sum(float(n) for n in re.findall(r'route="/v1/answers/{id}".* ([\d.]+)', told))
    assert total >= 21  # both workers' together


def test_a_new_ranker_is_taken_up_with_no_failed_request(running, recipes, help_centre):
    folder, _, address = running
    with Load(address) as load:
        until(lambda: load.rankers)
        before = set(load.rankers)
        train(help_centre, recipes["fused"], seed=1, store=FeatureStore()).save(folder)
        until(lambda: load.rankers[-1] not in before)
    assert set(load.statuses) == {200}


def test_a_folder_that_breaks_leaves_the_former_ranker(running):
    folder, _, address = running
    card = (folder / "current.json").read_bytes()
    with Load(address) as load:
        (folder / "current.json").write_text("{")
        time.sleep(3)
    (folder / "current.json").write_bytes(card)
    assert set(load.statuses) == {200}


def test_a_worker_that_is_killed_comes_back_and_no_acknowledged_verdict_is_lost(running):
    folder, process, address = running
    acknowledged = []
    for turn in range(KILLS):
        victim, *_ = workers(process)
        acknowledged += verdicts_until_killed(address, victim, turn)
        until(lambda gone=victim.pid: gone not in [w.pid for w in workers(process)])
        until(lambda: len(workers(process)) == 2)
        assert ready(address)["ready"]
    assert kept(folder) >= set(acknowledged)


def test_it_answers_what_it_began_before_it_stops_and_starts_from_where_it_was(folder):
    with served(folder) as (process, address):
        acknowledged = verdicts_until_killed(address, process, 0)
        for worker in workers(process):  # nobody would start them again: they stop by themselves
            worker.wait(PATIENCE_S)
    assert kept(folder) >= set(acknowledged)
    with served(folder) as (process, address):
        batch = json.dumps([{"text": f"{QUERY['text']} {i}", "k": 1} for i in range(64)]).encode()
        asked = HTTPConnection(address.removeprefix("http://"), timeout=PATIENCE_S)
        asked.putrequest("POST", "/v1/rank")
        asked.putheader("Content-Type", "application/json")
        asked.putheader("Content-Length", str(len(batch)))
        asked.putheader("Expect", "100-continue")
        asked.endheaders()
        asked.sock.recv(1, socket.MSG_PEEK)  # it has begun, and asks for the rest
        process.send_signal(signal.SIGTERM)
        asked.send(batch)
        assert asked.getresponse().status == 200
        assert process.wait(PATIENCE_S) == 0


def verdicts_until_killed(address, victim, turn):
    """Keys of the verdicts that were acknowledged before a process was killed -9."""
    acknowledged = []
    threading.Timer(0.5, victim.kill).start()
    with httpx.Client(timeout=PATIENCE_S) as client, suppress(httpx.TransportError):
        until_s = time.monotonic() + 2  # the other worker may be the one that answers
        while time.monotonic() < until_s:
            key = f"{turn}-{len(acknowledged)}"
            body = {"key": key, "text": "hello", "right": False}
            reply = client.post(f"{address}/v1/feedback", json=body)
            if reply.status_code == 201:
                acknowledged.append(key)
    assert acknowledged
    return acknowledged


def kept(folder):
    return {verdict.key for verdict in Feedback.open(f"{folder}.feedback.db").verdicts()}


def test_keys_are_changed_by_a_signal_and_no_request_fails(folder, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"read {'o' * 20} old\n")
    with served(folder, "--keys", str(file)) as (process, address):

        def status(letter):
            key = {"Authorization": f"Bearer {letter * 20}"}
            reply = httpx.post(f"{address}/v1/rank", json=QUERY, headers=key, timeout=PATIENCE_S)
            return reply.status_code

        assert (status("o"), status("n")) == (200, 401)
        file.write_text(f"read {'n' * 20} new\nfeedback {'f' * 20}\n")
        process.send_signal(signal.SIGHUP)
        until(lambda: (status("o"), status("n")) == (401, 200))
        file.write_text("nonsense\n")
        process.send_signal(signal.SIGHUP)
        time.sleep(2)
        assert (status("o"), status("n")) == (401, 200)


def start_in_vain(folder, *options):
    """The lines of a service that cannot start."""
    command = [sys.executable, "-m", "twinrank.cli", "serve", str(folder), *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2
    return done.stderr.strip().splitlines()


def test_what_it_cannot_start_with_is_said_in_a_line(running):
    folder, _, address = running
    (line,) = start_in_vain(folder, "--port", address.rpartition(":")[2])
    assert "(Address already in use); choose another --port" in line
    (line,) = start_in_vain(folder, "--port", "0", "--index", "nowhere")
    assert "nowhere: no index" in line
    (line,) = start_in_vain(folder, "--port", "0", "--where", "locale")
    assert "'locale' is no filter; write FIELD=VALUE" in line


def test_where_no_worker_can_start_it_ends(folder):
    recipe = json.loads((version_folder(folder) / "manifest.json").read_text())["recipe"]
    recipe["encoder"]["name"] = "/gone"
    edit_manifest(folder, recipe=recipe)
    (line,) = start_in_vain(folder, "--port", "0", "--workers", "2")
    assert "/gone" in line
