"""Device, precision and threads to compute with, found without torch wherever possible."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import psutil

from twinrank.errors import EncoderError

# A Linux machine with none of these has no accelerator, so torch need not be asked.
ACCELERATOR_FILES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def resolve_device(device: str) -> str:
    """Return `device`, or for `auto` the best one of this machine.

    Raises:
        EncoderError: if this machine does not have it.
    """
    if device == "cpu":
        return device
    if device == "auto" and sys.platform == "linux":
        if not any(Path(file).exists() for file in ACCELERATOR_FILES):
            return "cpu"
    import torch  # seconds to import

    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, available in has.items() if available)
    if not has[device.split(":")[0]]:
        raise EncoderError(f"device {device!r} is not on this machine; choose auto or cpu")
    return device


def resolve_precision(precision: str, device: str) -> str:
    """Return `precision`, or for `auto` bf16 where the device multiplies it faster than fp32."""
    if precision != "auto":
        return precision
    if device == "cpu":
        return "bf16" if BF16_FLAGS & cpu_flags() else "fp32"
    if device == "mps":
        return "fp32"
    import torch  # seconds to import

    return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp32"


def count_threads() -> int:
    """Return how many threads compute: as torch says where it is loaded, else its default."""
    torch_threads = getattr(sys.modules.get("torch"), "get_num_threads", None)
    if torch_threads:
        return int(torch_threads())
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    cores = min(psutil.cpu_count(logical=False) or usable, usable)
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return min(int(limit), cores) if limit.isdecimal() and int(limit) else cores


def cpu_name() -> str:
    """Return the processor's name for itself."""
    return next(iter(_read_cpu_info("model name")), "") or platform.processor()


def cpu_flags() -> set[str]:
    """Return the processor's instruction sets, on Linux; elsewhere none are known."""
    return set(next(iter(_read_cpu_info("flags")), "").split())


def _read_cpu_info(key: str) -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(key)]
