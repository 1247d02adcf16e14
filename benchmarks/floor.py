"""The least time that a transformer's arithmetic takes: its FLOPs over the rate of the machine.

FLOPs are those of the products that no padding needs, counted in torch. The rate is that of the
product with the most of them, a batch's tokens by the feed-forward matrix, in the library that
multiplies it faster here, each thread with products of its own. What is no product (softmax,
norms, GELU, memory) is not in it, so that no encoder gets there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from twinrank.encoding import Encoder
from twinrank.encoding.batches import TOKENS_A_BATCH, map_in_threads
from twinrank.encoding.model_files import EncoderFiles, resolve
from twinrank.encoding.openvino_backend import core, load_openvino
from twinrank.encoding.torch_backend import DTYPES

RATE_S = 0.2
TOKENS = TOKENS_A_BATCH["cpu"]

Product = Callable[[], object]


def flops(files: EncoderFiles) -> Callable[[Sequence[int]], float]:
    """FLOPs to encode texts of given numbers of tokens: a n + b n^2 each, for n tokens."""
    model = AutoModel.from_pretrained(files.folder, attn_implementation="eager").eval()
    counted = []
    for tokens in (16, 32):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(input_ids=torch.ones(1, tokens, dtype=torch.long))
        counted.append(counter.get_total_flops())
    square = (counted[1] - 2 * counted[0]) / (32**2 - 2 * 16**2)
    line = (counted[0] - square * 16**2) / 16
    return lambda lengths: float(sum(line * n + square * n**2 for n in lengths))


class Floor:
    """The least seconds for some texts, in each precision whose rate can be measured.

    Args:
        ours: encoders of one model on one device; rates are measured on a CPU alone.
        texts: what they encode.
    """

    def __init__(self, ours: Sequence[Encoder], texts: list[str]) -> None:
        self.rates: dict[str, Rate] = {}
        if ours[0].device == "cpu":
            files = resolve(ours[0].name)
            self._flops = flops(files)([len(ids) for ids in ours[0].tokens(texts)])
            kinds = {one.precision for one in ours} & {"fp32", "bf16"}
            self.rates = {kind: Rate(files, kind, torch.get_num_threads()) for kind in kinds}

    def seconds(self) -> dict[str, float]:
        """By precision, at the rates that the machine has now."""
        return {kind: self._flops / rate() for kind, rate in self.rates.items()}


class Rate:
    """FLOP/s of a product with a matrix of a model's shape, to be measured again and again.

    Args:
        files: of the model; its widths are the matrix's.
        precision: fp32 or bf16.
        threads: how many multiply, each for itself.
    """

    def __init__(self, files: EncoderFiles, precision: str, threads: int) -> None:
        inner, outer = files.dim, int(files.config.get("intermediate_size") or 4 * files.dim)
        self._flops = 2 * TOKENS * inner * outer
        self._threads = threads
        self._products: list[list[Product]] = [
            [_in_torch(inner, outer, precision) for _ in range(threads)]
        ]
        try:
            load_openvino()
        except ImportError:
            return
        self._products.append([_in_openvino(inner, outer, precision) for _ in range(threads)])

    def __call__(self) -> float:
        """Of the faster library now, all threads together."""
        return max(self._measured(products) for products in self._products)

    def _measured(self, products: list[Product]) -> float:
        def work(batch: Sequence[np.ndarray]) -> np.ndarray:
            product = products[int(batch[0])]
            product()
            done, began = 0, time.perf_counter()
            while time.perf_counter() - began < RATE_S:
                product()
                done += 1
            return np.array(done * self._flops / (time.perf_counter() - began))

        before = torch.get_num_threads()
        try:
            each = [[np.array(number)] for number in range(self._threads)]
            one_thread = partial(torch.set_num_threads, 1)
            return float(sum(map_in_threads(work, each, self._threads, one_thread)))
        finally:
            torch.set_num_threads(before)


def _in_torch(inner: int, outer: int, precision: str) -> Product:
    a, b = (torch.rand(rows, inner).to(DTYPES[precision]) for rows in (TOKENS, outer))
    return lambda: torch.nn.functional.linear(a, b)


def _in_openvino(inner: int, outer: int, precision: str) -> Product:
    openvino = load_openvino()
    from openvino import opset13 as ops

    given = ops.parameter([TOKENS, inner], np.float32)
    matrix = ops.constant(np.random.default_rng(0).random((outer, inner), np.float32))
    model = openvino.Model([ops.matmul(given, matrix, False, True)], [given])
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    settings = {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
    request = core().compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(np.ones((TOKENS, inner), np.float32)))
    infer: Product = request.infer
    return infer
