"""Processes that begin at once, for tests that kill them."""

import multiprocessing
import os
from contextlib import suppress

IMPORTED = ("pytest", "hypothesis", "twinrank.experiment", "twinrank.serve.feedback")

if os.name == "posix":
    _CONTEXT = multiprocessing.get_context("forkserver")
    _CONTEXT.set_forkserver_preload(list(IMPORTED))
else:
    _CONTEXT = multiprocessing.get_context("spawn")


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
