import pytest
import torch

from twinrank.train.arithmetic import products_in

CPU = torch.device("cpu")


def test_bf16_products_round_no_more_than_what_is_multiplied():
    torch.manual_seed(0)
    a, b = torch.randn(64, 256), torch.randn(256, 64)
    exact = a @ b
    with products_in("bf16", CPU):
        rounded = a @ b
    assert torch.equal(a @ b, exact)  # as before
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() < 2**-8 * exact.norm()


def test_fp32_and_accelerators_are_left_alone():
    before = torch.backends.mkldnn.matmul.fp32_precision
    for precision, device in (("fp32", CPU), ("bf16", torch.device("cuda"))):
        with products_in(precision, device):
            assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_precision_is_put_back_after_an_error():
    before = torch.backends.mkldnn.matmul.fp32_precision
    with pytest.raises(ZeroDivisionError), products_in("bf16", CPU):
        raise ZeroDivisionError
    assert torch.backends.mkldnn.matmul.fp32_precision == before
