"""Arithmetic of training on a CPU: the precision of products, the optimiser, freed memory."""

from __future__ import annotations

import ctypes
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from twinrank.encoding.encoder import cpu_flags

UNROUNDED_FLAG, ROUNDED_FLAG = "avx512_bf16", "amx_bf16"  # what oneDNN does with leave for bf16
# Of glibc's malloc.h: from how many bytes on memory is mapped, and how many free ones are kept.
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1
MMAP_THRESHOLD_BYTES, TRIM_THRESHOLD_BYTES = 32 << 20, 1 << 30  # the highest that glibc takes


class AdamW(torch.optim.AdamW):
    """torch's, called past the wrappers that import its compiler, which takes a second or more."""

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)


@contextmanager
def matmul_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Compute products of fp32 matrices on a CPU in a precision, until the block is left.

    `bf16` lets oneDNN round what it multiplies, where the processor gains by that (AMX); it adds
    up in fp32. With AVX-512 alone it computes in fp32 as before, but by its own kernels, on AMD
    at twice the rate of MKL's. The setting is the whole process's; accelerators ignore it.

    Args:
        precision: `fp32`, `bf16`, or `auto`: `bf16` where that is faster and rounds nothing.
        device: where towers are trained.
    """
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    if precision == "auto":
        unrounded = UNROUNDED_FLAG in cpu_flags() and ROUNDED_FLAG not in cpu_flags()
        precision = "bf16" if unrounded else "fp32"
    if device.type == "cpu" and precision == "bf16":
        products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


@cache
def reuse_freed_memory() -> None:
    """Have glibc hand a step's tensors to the next step; elsewhere, do nothing.

    By default it gives each back to the system, and every step pays for its pages again: a
    seventh of its time.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
