"""The process that watches the workers of a service: no wait for one hides what another does."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections import deque
from socket import socket

from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from twinrank.service.settings import GRACE_S

START_S = 600  # for a worker to load what it needs
KILLED_S = 5  # for a killed process to be gone

log = logging.getLogger(__name__)


class Worker(Process):
    """A worker process, asked how it is without waiting for its answer."""

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self.ready = False
        self._begun = time.monotonic()
        self._heard: float | None = None  # when it last answered, if it did
        self._asked = False

    def start(self) -> None:
        """Start it; the pipe ends with it, since nobody else holds its end."""
        super().start()
        self.child_conn.close()

    def target(self, sockets: list[socket] | None = None) -> None:
        """Work; then end in order, where uvicorn raises the signal again that stopped it."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        super().target(sockets)

    def fault(self) -> str | None:
        """Why it must be replaced, if it must."""
        now = time.monotonic()
        try:
            while self.parent_conn.poll():
                self.ready = self.parent_conn.recv()
                self._heard, self._asked = now, False
            if not self._asked:
                self.parent_conn.send(b"ping")
                self._asked = True
        except (OSError, EOFError):
            return "died"
        if not self.process.is_alive():
            return "died"
        if self._heard is not None and now - self._heard > GRACE_S:
            return f"did not answer for {GRACE_S} s"
        if not self.ready and now - self._begun > START_S:
            return f"was not ready after {START_S} s"
        return None

    def end(self) -> None:
        """Kill it, if it is not gone."""
        self.kill()
        self.process.join(KILLED_S)


class Supervisor(Multiprocess):
    """Starts workers again that die or hang, and ends all in time.

    uvicorn's own waits for each worker in turn: for an answer of one that is dead (its pipe is held
    open), and at the end without limit.
    """

    processes: list[Worker]  # type: ignore[assignment]

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self._leaving: list[tuple[Worker, float]] = []  # and when they are killed
        self._to_replace: deque[Worker] = deque()  # at a restart
        self._next: Worker | None = None  # in place of the first of them

    def init_processes(self) -> None:
        """Start all."""
        self.processes = [self._started() for _ in range(self.processes_num)]

    def keep_subprocess_alive(self) -> None:
        """Replace workers that are gone, and go on with a restart."""
        for place, worker in enumerate(self.processes):
            if (why := worker.fault()) is None:
                continue
            worker.end()
            if worker.exitcode == STARTUP_FAILURE:
                log.error("worker %d cannot start; the service stops", worker.pid)
                self.should_exit.set()
                return
            log.error("worker %d %s; another is started", worker.pid, why)
            self.processes[place] = self._started()
        self._replace()
        self._end_late()

    def restart_all(self) -> None:
        """Replace the workers one after the other, each once its successor answers."""
        self._to_replace = deque(self.processes)

    def handle_ttou(self) -> None:
        """One worker less."""
        if self.processes_num > 1:
            self.processes_num -= 1
            self._retire(self.processes.pop())

    def handle_ttin(self) -> None:
        """One worker more."""
        self.processes_num += 1
        self.processes.append(self._started())

    def join_all(self) -> None:
        """Wait until all have ended; whoever has not in time is killed."""
        if self._next:
            self._next.end()
        end = time.monotonic() + GRACE_S
        for worker in [*self.processes, *(each for each, _ in self._leaving)]:
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.process.is_alive():
                log.error("worker %d did not stop within %d s, and is killed", worker.pid, GRACE_S)
                worker.end()

    def _started(self) -> Worker:
        worker = Worker(self.config, self.sockets)
        worker.start()
        return worker

    def _replace(self) -> None:
        while self._to_replace and self._to_replace[0] not in self.processes:
            self._to_replace.popleft()  # it died, and has a successor
        if not self._to_replace:
            if self._next:
                self._next.end()
                self._next = None
            return
        if self._next is None:
            self._next = self._started()
        elif why := self._next.fault():
            log.error("worker %d %s; the former ones stay", self._next.pid, why)
            self._next.end()
            self._next = None
            self._to_replace.clear()
        elif self._next.ready:
            old = self._to_replace.popleft()
            self.processes[self.processes.index(old)] = self._next
            self._next = None
            self._retire(old)

    def _retire(self, worker: Worker) -> None:
        worker.terminate()
        self._leaving.append((worker, time.monotonic() + GRACE_S))

    def _end_late(self) -> None:
        for worker, end in self._leaving:
            if worker.process.is_alive() and time.monotonic() > end:
                worker.end()
        self._leaving = [pair for pair in self._leaving if pair[0].process.is_alive()]
