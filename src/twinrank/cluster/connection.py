"""The connection to a Ray cluster, and the resources of one worker."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from twinrank.errors import TwinrankError, first_line

LOCAL = "local"
LOCAL_OPTIONS: dict[str, Any] = {
    "include_dashboard": False,
    "object_store_memory": 2**28,  # bytes of shared memory
    "_node_ip_address": "127.0.0.1",
}


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be a part of a cluster; a connection that is there already is used, and stays.

    Args:
        address: `host:port` of its head; `auto` for the one this machine belongs to; `local` for
            one of this machine alone, which begins and ends here and listens to this machine alone.

    Raises:
        TwinrankError: if no cluster answers there.
    """
    # Ray reads them as it starts: it reports nothing to its makers, and warns of nothing that is
    # right for us.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if ray.is_initialized():
        yield
        return
    host, _, port = address.rpartition(":")
    options = LOCAL_OPTIONS if address == LOCAL else {}
    try:
        if port.isdigit():  # where nobody listens Ray itself would try for ten minutes and more
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise TwinrankError(
            f"{address}: no Ray cluster can be joined there ({first_line(error)}); start one by "
            "`ray start --head`, or try --ray local"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Slot:
    """Resources of one worker: a core, and a GPU where it computes on that.

    Args:
        device: of the worker.
        options: of a Ray task or actor.
        count: of such slots in the cluster, busy ones included.
    """

    device: str
    options: dict[str, Any]
    count: int

    @classmethod
    def of(cls, device: str) -> Slot:
        """Choose a core; or a GPU, if `device` asks for one, or is `auto` and there are some.

        Raises:
            TwinrankError: if the cluster has none.
        """
        resources = ray.cluster_resources()
        cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        needs_gpu = device.startswith("cuda") or (device == "auto" and gpus > 0)
        if needs_gpu and not gpus:
            raise TwinrankError("no machine of the cluster has a GPU; choose --device cpu")
        if not cores:
            raise TwinrankError("no machine of the cluster lends a core; see `ray status`")
        if needs_gpu:
            return cls("cuda", {"num_cpus": 1, "num_gpus": 1}, gpus)
        return cls("cpu", {"num_cpus": 1}, cores)


def check_shared(storage: str | None) -> None:
    """Refuse a database of trials that not every worker reaches.

    Args:
        storage: its address, as SQLAlchemy writes it; None is SQLite in the sweep's folder.

    Raises:
        TwinrankError: if it is a file, and the cluster more than this machine; or if the file's
            path is relative, and would be another where workers run.
    """
    if storage is not None and not storage.startswith("sqlite"):
        return
    check_one_machine("storage")
    if storage is not None and not storage.partition(":///")[2].startswith("/"):
        raise TwinrankError(f"{storage}: give the file's whole path, sqlite:////...")


def check_one_machine(option: str) -> None:
    """Refuse SQLite, for the database of an option, on a cluster that is more than this machine.

    Raises:
        TwinrankError: if it is.
    """
    hosts = {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    if others := hosts - {socket.gethostname()}:
        raise TwinrankError(
            f"SQLite serves one machine, and the cluster has {len(others)} more: give a database "
            f"that all of them reach, --{option} postgresql://..."
        )


def worker_error(cause: BaseException) -> Exception:
    """Return what a worker raised, to be raised in this process."""
    if isinstance(cause, TwinrankError):
        return cause
    return TwinrankError(f"a worker failed: {first_line(cause)}")
