import subprocess
import sys

import pytest
import torch

from twinrank.training.precision import AdamW, matmul_precision

CPU = torch.device("cpu")


def step_thrice(optimizer_class):
    """A weight after three steps, the moments saved and loaded between them."""
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
    optimizer = optimizer_class([{"params": [weight]}], lr=0.1, weight_decay=0.01, fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        (weight.sin() ** 2).sum().backward()
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    return weight.detach()


def test_the_optimiser_is_torch_s_to_the_bit():
    assert torch.equal(step_thrice(AdamW), step_thrice(torch.optim.AdamW))


@pytest.mark.slow
def test_the_optimiser_does_not_import_torch_s_compiler():
    code = (
        "import sys, torch; from twinrank.training.precision import AdamW\n"
        "weight = torch.nn.Parameter(torch.ones(2)); optimizer = AdamW([weight], fused=True)\n"
        "optimizer.zero_grad(); weight.sum().backward(); optimizer.step()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bf16_products_round_no_more_than_what_is_multiplied():
    torch.manual_seed(0)
    a, b = torch.randn(64, 256), torch.randn(256, 64)
    exact = a @ b
    with matmul_precision("bf16", CPU):
        rounded = a @ b
    assert torch.equal(a @ b, exact)  # as before
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() < 2**-8 * exact.norm()


def test_precision_is_a_matter_of_the_block_on_a_cpu_alone():
    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    for precision, device in (("fp32", CPU), ("bf16", torch.device("cuda"))):
        with matmul_precision(precision, device):
            assert products.fp32_precision == before
    with pytest.raises(ZeroDivisionError), matmul_precision("bf16", CPU):
        assert products.fp32_precision == "bf16"
        raise ZeroDivisionError
    assert products.fp32_precision == before
