"""Processes that begin at once or are killed, and the wait for what becomes of them."""

import multiprocessing
import os
import time
from contextlib import suppress

IMPORTED = ("pytest", "hypothesis", "twinrank.experiments.sweep", "twinrank.feedback.database")

if os.name == "posix":
    _CONTEXT = multiprocessing.get_context("forkserver")
    _CONTEXT.set_forkserver_preload(list(IMPORTED))
else:
    _CONTEXT = multiprocessing.get_context("spawn")

PATIENCE_S = 180  # other tests share the cores


class Killed(BaseException):
    """In the place of a kill, where a test goes on in the same process."""


def until(condition):
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def started(function, *args):
    """A process that calls a function, and the end of the pipe whose other end it is given last."""
    hears, says = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=function, args=(*args, says))
    process.start()
    says.close()
    return process, hears


def heard(hears):
    """All that a process says until it ends, or is killed."""
    said = []
    with suppress(EOFError):
        while True:
            said.append(hears.recv())
    return said


def results(function, *args, processes=10):
    """What a call gives in each of several processes, made in all of them in the same moment."""
    barrier = _CONTEXT.Barrier(processes)
    begun = [started(_called, function, args, barrier) for _ in range(processes)]
    said = [one for _, hears in begun for one in heard(hears)]
    for process, _ in begun:
        process.join()
    return said


def _called(function, args, barrier, says):
    barrier.wait(120)
    try:
        says.send(function(*args))
    except Exception as error:
        says.send(repr(error))
