"""fst.nets against a plain construction of the same network."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from fst import nets
from fst.errors import UsageError
from fst.nets.blocks import ConvNorm
from fst.nets.johnson import JohnsonNet


def picture(height: int, width: int, *, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def small(output: str = "sigmoid") -> JohnsonNet:
    """A narrow network with random weights, norms included."""
    net = JohnsonNet(width=4, blocks=2, output=output)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + (parameter.dim() == 1) * 0.5)
    return net.eval()


def plain(net: JohnsonNet, image: torch.Tensor) -> torch.Tensor:
    """The same network in functional calls, in float64, not cropped."""
    weights = {name: value.double() for name, value in net.state_dict().items()}

    def conv(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        weight = weights[f"{name}.weight"]
        edge = weight.shape[-1] // 2
        return F.conv2d(F.pad(x, (edge,) * 4, mode="reflect"), weight, weights[f"{name}.bias"], stride)

    def unit(x: torch.Tensor, name: str, stride: int = 1, relu: bool = True) -> torch.Tensor:
        x = conv(x, f"{name}.conv", stride)
        centred = x - x.mean((2, 3), keepdim=True)
        x = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
        x = x * weights[f"{name}.norm.weight"].view(-1, 1, 1) + weights[f"{name}.norm.bias"].view(-1, 1, 1)
        return x.clamp(min=0) if relu else x

    x = unit(unit(unit(image.double(), "down.0"), "down.1", 2), "down.2", 2)
    for block in range(net.settings["blocks"]):
        x = x + unit(unit(x, f"trunk.{block}.first"), f"trunk.{block}.second", relu=False)
    for step in range(2):
        x = unit(x.repeat_interleave(2, 2).repeat_interleave(2, 3), f"up.{step}.unit")
    return conv(x, "last.1")


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (18, 16), (19, 64), (70, 101)])
@pytest.mark.parametrize("output", ["sigmoid", "clamp"])
def test_against_functional_calls_at_any_size(height: int, width: int, output: str) -> None:
    net, image = small(output), picture(height, width, batch=2)
    with torch.no_grad():
        got = net(image)
    raw = plain(net, image)[..., :height, :width]
    assert got.shape == image.shape
    assert got.dtype == torch.float32
    expected = raw.sigmoid() if output == "sigmoid" else raw.clamp(0, 1)
    np.testing.assert_allclose(got.numpy(), expected.numpy(), atol=2e-4)
    assert 0 <= got.min() < got.max() <= 1


def test_against_nn_sequential_at_full_width() -> None:
    """The network as the well-known scripts write it, with the weights copied in order."""

    def unit(n_in: int, n_out: int, kernel: int, stride: int = 1, up: bool = False, relu: bool = True) -> nn.Sequential:
        parts: list[nn.Module] = [nn.Upsample(scale_factor=2, mode="nearest")] if up else []
        parts += [nn.ReflectionPad2d(kernel // 2), nn.Conv2d(n_in, n_out, kernel, stride)]
        parts += [nn.InstanceNorm2d(n_out, affine=True), *([nn.ReLU()] if relu else [])]
        return nn.Sequential(*parts)

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(unit(128, 128, 3), unit(128, 128, 3, relu=False))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.branch(x)

    torch.manual_seed(0)
    net = JohnsonNet().eval()
    reference = nn.Sequential(
        unit(3, 32, 9),
        unit(32, 64, 3, 2),
        unit(64, 128, 3, 2),
        *[Residual() for _ in range(5)],
        unit(128, 64, 3, up=True),
        unit(64, 32, 3, up=True),
        nn.ReflectionPad2d(4),
        nn.Conv2d(32, 3, 9),
        nn.Sigmoid(),
    ).eval()
    assert sum(p.numel() for p in net.parameters()) == 1_679_235
    with torch.no_grad():
        for theirs, ours in zip(reference.parameters(), net.parameters(), strict=True):
            theirs.copy_(ours)
        image = picture(48, 36)
        torch.testing.assert_close(net(image), reference(image), atol=1e-5, rtol=0)


def test_the_crop_takes_nothing_but_the_surplus_away() -> None:
    """Uncropped, 70x101 comes back as 72x104."""
    net, image = small(), picture(70, 101)
    whole = plain(net, image)
    assert whole.shape[-2:] == (72, 104)
    with torch.no_grad():
        np.testing.assert_allclose(net(image).numpy(), whole[..., :70, :101].sigmoid().numpy(), atol=2e-4)


def test_no_frame_at_the_border() -> None:
    """A flat picture stays flat to the last pixel: zero padding would darken its edge."""
    net = small("clamp")
    with torch.no_grad():
        got = net(torch.full((1, 3, 40, 44), 0.6))
    assert (got - got[..., 20:21, 20:21]).abs().max() < 1e-4


def test_settings_make_the_round_trip() -> None:
    net = JohnsonNet(width=6, blocks=1, output="clamp")
    recipe = nets.recipe_of(net)
    assert recipe == {"name": "johnson", "width": 6, "blocks": 1, "output": "clamp"}
    again = nets.build(recipe)
    assert recipe == {"name": "johnson", "width": 6, "blocks": 1, "output": "clamp"}, "build changed its argument"
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(picture(16, 20)), net.eval()(picture(16, 20)))


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({"name": "jonson"}, "did you mean johnson"),
        ({}, "no network is called ''"),
        ({"name": "os.system"}, "no network is called 'os.system': known: adain, conditional, fast, johnson"),
        ({"name": "johnson", "depth": 3}, "unexpected keyword argument 'depth'"),
        ({"name": "johnson", "width": 0}, "width must be a whole number of at least 1, not 0"),
        ({"name": "johnson", "width": "32"}, "width must be a whole number of at least 1, not '32'"),
        ({"name": "johnson", "blocks": 1.5}, "blocks must be a whole number of at least 0, not 1.5"),
        ({"name": "johnson", "output": "tanh"}, '"sigmoid" or "clamp", not \'tanh\''),
        ({"name": "johnson", "width": 10**9}, "cannot be built"),
    ],
)
def test_recipes_that_cannot_be_built(recipe: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        nets.build(recipe)
    assert says in str(caught.value)


def test_instance_norm_keeps_its_precision_under_autocast() -> None:
    """Features far from zero: variance summed in bfloat16 would be lost altogether."""
    unit = ConvNorm(1, 1, 1, activate=False)
    with torch.no_grad():
        unit.conv.weight.fill_(1)
        unit.conv.bias.fill_(0)  # type: ignore[union-attr]
        x = (100 + torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))).bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            got = unit(x)
    exact = x.double()
    exact = (exact - exact.mean()) / exact.std(correction=0)
    np.testing.assert_allclose(got.float().numpy(), exact.numpy(), atol=0.02)
