"""What the machine has, found without importing torch wherever that is possible."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from twinrank.errors import EncoderError

# A Linux machine with none of these has no accelerator, so torch need not be asked.
ACCELERATOR_FILES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def resolve_device(asked: str) -> str:
    """`asked`, or for `auto` the best there is.

    Raises:
        EncoderError: if it is not there.
    """
    if asked == "cpu":
        return asked
    if asked == "auto" and sys.platform == "linux":
        if not any(Path(file).exists() for file in ACCELERATOR_FILES):
            return "cpu"
    import torch  # seconds to import

    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return next(device for device, there in has.items() if there)
    if not has[asked.split(":")[0]]:
        raise EncoderError(f"device {asked!r} is not on this machine; choose auto or cpu")
    return asked


def resolve_precision(asked: str, device: str) -> str:
    """`asked`, or for `auto` bf16 where the hardware multiplies it faster than fp32."""
    if asked != "auto":
        return asked
    if device == "cpu":
        return "bf16" if BF16_FLAGS & cpu_flags() else "fp32"
    if device == "mps":
        return "fp32"
    import torch  # seconds to import

    return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp32"


def cpu_name() -> str:
    """What the processor calls itself."""
    return next(iter(_cpu_info("model name")), "") or platform.processor() or platform.machine()


def cpu_flags() -> set[str]:
    """The instruction sets that the processor has, on Linux; elsewhere none are known."""
    return set(next(iter(_cpu_info("flags")), "").split())


def _cpu_info(key: str) -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(key)]
