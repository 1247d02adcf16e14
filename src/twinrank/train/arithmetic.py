"""The precision of the matrix products of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from twinrank.encode.hardware import cpu_flags

UNROUNDED, ROUNDED = "avx512_bf16", "amx_bf16"  # what oneDNN does with leave for bf16


@contextmanager
def products_in(precision: str, device: torch.device) -> Iterator[None]:
    """Matrix products of fp32 tensors on a CPU in this precision, until the block is left.

    `bf16` lets oneDNN round what it multiplies, where the processor gains by that (AMX); it adds
    up in fp32. With AVX-512 alone it computes in fp32 as before, but by its own kernels, on AMD
    at twice the rate of MKL's. Holds for the whole process, and leaves accelerators alone.

    Args:
        precision: `fp32`, `bf16`, or `auto`: `bf16` where that is faster and rounds nothing.
        device: where towers are trained.
    """
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    if precision == "auto":
        precision = "bf16" if UNROUNDED in cpu_flags() and ROUNDED not in cpu_flags() else "fp32"
    if device.type == "cpu" and precision == "bf16":
        products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before
