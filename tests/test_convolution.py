"""fst.convolution against torch's own pieces: the slow, readable reference."""

import pytest
import torch
from torch.nn import functional as F

from fst.convolution import Border, double, frozen_conv_relu, halve, pad, reflected_conv


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (9, 1), (5, 2), (1, 1)])
@pytest.mark.parametrize("size", [(12, 17), (16, 16)])
def test_reflected_conv(kernel: int, stride: int, size: tuple[int, int]) -> None:
    x, weight, bias = values(2, 3, *size), values(4, 3, kernel, kernel, seed=1), values(4, seed=2)
    pixels = kernel // 2
    got, wanted = (
        [t.clone().requires_grad_() for t in (x, weight, bias)],
        [t.clone().requires_grad_() for t in (x, weight, bias)],
    )
    expected = F.conv2d(F.pad(wanted[0], (pixels,) * 4, mode="reflect"), *wanted[1:], stride)
    result = reflected_conv(*got, stride)
    torch.testing.assert_close(result, expected)
    assert result.shape[-2:] == tuple(-(-length // stride) for length in size)
    push = values(*expected.shape, seed=3)
    (expected * push).sum().backward()
    (result * push).sum().backward()
    for mine, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_reflected_conv_of_doubled_pictures() -> None:
    x, weight, bias = values(2, 3, 6, 9), values(4, 3, 3, 3, seed=1), values(4, seed=2)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = reflected_conv(F.interpolate(theirs, scale_factor=2.0, mode="nearest"), weight, bias)
    result = reflected_conv(mine, weight, bias, doubled=True)
    torch.testing.assert_close(result, expected)
    push = values(*expected.shape, seed=3)
    (expected * push).sum().backward()
    (result * push).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("size", [(8, 6), (9, 7)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_halve(size: tuple[int, int], dtype: torch.dtype) -> None:
    """As max_pool2d, where several pixels are the largest, too: zeros after a ReLU often are."""
    x = values(2, 3, *size).clamp(min=0).mul(4).round().to(dtype).to(memory_format=torch.channels_last)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, result = F.max_pool2d(theirs, 2), halve(mine)
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    push = values(*expected.shape, seed=3).to(dtype)
    (expected * push).sum().backward()
    (result * push).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=0)


def test_reflected_conv_without_bias_and_of_a_picture_that_does_not_learn() -> None:
    weight = values(4, 3, 3, 3).requires_grad_()
    reflected_conv(values(1, 3, 8, 8), weight, None).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("border", ["zeros", "replicate", "reflect"])
def test_frozen_conv_relu(border: Border) -> None:
    x, weight, bias = values(2, 3, 9, 13), values(4, 3, 3, 3, seed=1), values(4, seed=2)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    mode = "constant" if border == "zeros" else border
    expected = F.relu(F.conv2d(F.pad(theirs, (1, 1, 1, 1), mode=mode), weight, bias))
    result = frozen_conv_relu(mine, weight, bias, border)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(frozen_conv_relu(x, weight, bias, border), expected)
    push = values(*expected.shape, seed=3)
    (expected * push).sum().backward()
    (result * push).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


def test_what_backward_keeps() -> None:
    """The result of a frozen convolution, the input of one that learns: nothing that is padded."""
    x, weight, bias = values(1, 4, 16, 16).requires_grad_(), values(4, 4, 3, 3), values(4)
    learning = weight.clone().requires_grad_()
    for call in (
        lambda: frozen_conv_relu(x, weight, bias, "replicate"),
        lambda: reflected_conv(x, learning, None),
    ):
        kept: list[torch.Size] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):  # noqa: B023
            call()
        assert sorted(kept) == [(1, 4, 16, 16), (4, 4, 3, 3)]


def test_formats_under_autocast() -> None:
    """Borders and doubling keep bfloat16, convolutions compute in it, gradients come in the parameters' own."""
    x = values(1, 3, 16, 16).bfloat16()
    weight = values(4, 3, 3, 3).float().requires_grad_()
    picture = x.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        assert pad(x, 1, "reflect").dtype == double(x).dtype == torch.bfloat16
        result = reflected_conv(picture, weight, None)
        frozen = frozen_conv_relu(result, values(2, 4, 3, 3).float(), values(2).float(), "replicate")
    assert result.dtype == frozen.dtype == torch.bfloat16
    frozen.float().sum().backward()
    assert [t.grad.dtype for t in (weight, picture) if t.grad is not None] == [torch.float32] * 2
    assert pad(x, 1, "replicate").shape == (1, 3, 18, 18)


def test_double() -> None:
    x = values(1, 1, 2, 3)
    torch.testing.assert_close(double(x), x.repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_reflected_conv_of_weights_that_do_not_learn() -> None:
    mine, theirs = (values(1, 3, 8, 8).requires_grad_() for _ in range(2))
    weight, bias = values(4, 3, 3, 3), values(4)
    reflected_conv(mine, weight, bias).square().sum().backward()
    F.conv2d(F.pad(theirs, (1,) * 4, mode="reflect"), weight, bias).square().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)
    assert weight.grad is None
    assert bias.grad is None
