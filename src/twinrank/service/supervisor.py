"""The process that watches the workers of a service: no wait for one hides another's death."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from socket import socket

from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from twinrank.service.settings import GRACE_S

START_S = 600  # for a worker to load what it needs
KILL_S = 5  # for a killed process to be gone

log = logging.getLogger(__name__)


class Worker(Process):
    """A worker process, whose state is asked for without waiting for its answer."""

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self._ready = False
        self._started_s = time.monotonic()
        self._answered_s: float | None = None
        self._asked = False

    def start(self) -> None:
        """Start it; the pipe ends with it, since nobody else has its end."""
        super().start()
        self.child_conn.close()

    def target(self, sockets: list[socket] | None = None) -> None:
        """Work, and exit in order on SIGTERM, where uvicorn raises the signal again."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        super().target(sockets)

    def find_fault(self) -> str | None:
        """Return why it must be replaced, or None."""
        now = time.monotonic()
        try:
            while self.parent_conn.poll():
                self._ready = self.parent_conn.recv()
                self._answered_s, self._asked = now, False
            if not self._asked:
                self.parent_conn.send(b"ping")
                self._asked = True
        except (OSError, EOFError):
            return "died"
        if not self.process.is_alive():
            return "died"
        if self._answered_s is not None and now - self._answered_s > GRACE_S:
            return f"did not answer for {GRACE_S} s"
        if not self._ready and now - self._started_s > START_S:
            return f"was not ready after {START_S} s"
        return None

    def end(self) -> None:
        """Kill it, if it is not gone."""
        self.kill()
        self.process.join(KILL_S)


class Supervisor(Multiprocess):
    """Starts workers again that die or hang, and stops all of them in time.

    uvicorn's own waits for each worker in turn: for an answer of one that is dead (its pipe is
    open), and at the end without limit.

    Args:
        config: of uvicorn.
        sockets: to listen on.
        reloads_keys: whether the workers read keys again on SIGHUP.
    """

    processes: list[Worker]  # type: ignore[assignment]

    def __init__(
        self, config: Config, sockets: list[socket], *, reloads_keys: bool = False
    ) -> None:
        super().__init__(config, sockets)
        self._reloads_keys = reloads_keys

    def init_processes(self) -> None:
        """Start all workers."""
        self.processes = [self._start_worker() for _ in range(self.processes_num)]

    def keep_subprocess_alive(self) -> None:
        """Replace workers that are dead or hang."""
        for i, worker in enumerate(self.processes):
            if (fault := worker.find_fault()) is None:
                continue
            worker.end()
            if worker.exitcode == STARTUP_FAILURE:
                log.error("worker %d cannot start; the service stops", worker.pid)
                self.should_exit.set()
                return
            log.error("worker %d %s; another is started", worker.pid, fault)
            self.processes[i] = self._start_worker()

    def handle_hup(self) -> None:
        """Have the workers read the keys again; one that is still starting is started again."""
        for worker in self.processes if self._reloads_keys else ():
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGHUP)

    def handle_ttin(self) -> None:
        """Ignore the signal: the number of workers is an option."""

    def handle_ttou(self) -> None:
        """Ignore the signal: the number of workers is an option."""

    def join_all(self) -> None:
        """Wait until all workers have ended, and kill those that have not in time."""
        end = time.monotonic() + GRACE_S
        for worker in self.processes:
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.process.is_alive():
                log.error("worker %d did not stop within %d s, and is killed", worker.pid, GRACE_S)
                worker.end()

    def _start_worker(self) -> Worker:
        worker = Worker(self.config, self.sockets)
        worker.start()
        return worker
