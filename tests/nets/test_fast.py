"""fst.nets.fast against functional calls, and for what it must never do."""

from collections.abc import Sequence

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from fst import nets
from fst.errors import UsageError
from fst.nets.fast import DoublingConv, FastNet, smooth


def picture(height: int, width: int, *, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def small() -> FastNet:
    net = FastNet(width=4, blocks=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + (parameter.dim() == 1) * 0.5)
    return net.eval()


def plain(net: FastNet, image: torch.Tensor, phases: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
    """The same network in functional calls, in float64.

    `phases` are those of each grain and of what bends it, (B, waves) and (B, bends) radians; None takes the fixed ones.
    """
    weights = {name: value.double() for name, value in (*net.state_dict().items(), *net.named_buffers())}

    def conv(x: torch.Tensor, name: str, stride: int = 1, border: int = 1) -> torch.Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, border)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean((2, 3), keepdim=True)
        x = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
        return x * weights[f"{name}.weight"].view(-1, 1, 1) + weights[f"{name}.bias"].view(-1, 1, 1)

    def unit(x: torch.Tensor, name: str, border: int = 1) -> torch.Tensor:
        return norm(conv(x, f"{name}.conv", border=border), f"{name}.norm")

    def double(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def smooth(x: torch.Tensor, dim: int) -> torch.Tensor:
        """Doubled along one side; each of a pair is nearer to its position, three to one, than to the next one."""
        count = x.shape[dim]
        before = x.index_select(dim, torch.arange(-1, count - 1).clamp(min=0))
        after = x.index_select(dim, torch.arange(1, count + 1).clamp(max=count - 1))
        return torch.stack([(3 * x + before) / 4, (3 * x + after) / 4], dim + 1).flatten(dim, dim + 1)

    def softened(x: torch.Tensor, dim: int) -> torch.Tensor:
        """1 2 1 over a reflected border."""
        count = x.shape[dim]
        before = x.index_select(dim, torch.arange(-1, count - 1).abs())
        after = x.index_select(dim, torch.tensor([*range(1, count), count - 2]))
        return (before + 2 * x + after) / 4

    def grained(x: torch.Tensor, name: str, phases: Sequence[torch.Tensor] | None) -> torch.Tensor:
        fixed = (weights[f"{name}.phase"][None], weights[f"{name}.bend_phase"][None])
        phase, bend_phase = fixed if phases is None else phases
        down, right = torch.arange(x.shape[2]).double()[:, None], torch.arange(x.shape[3]).double()
        for wave, mix in enumerate(weights[f"{name}.mix.weight"][..., 0, 0].T):
            turn = weights[f"{name}.down"][wave] * down + weights[f"{name}.right"][wave] * right
            turn = phase[:, wave, None, None] + turn
            for bend, by in enumerate(weights[f"{name}.bend"][wave]):
                along = weights[f"{name}.bend_down"][bend] * down + weights[f"{name}.bend_right"][bend] * right
                turn = turn + by * (bend_phase[:, bend, None, None] + along).sin()
            x = x + mix.view(-1, 1, 1) * turn.sin()[:, None]
        return x

    height, width = image.shape[2:]
    rows = torch.arange(-16, height + -height % 8 + 16).clamp(0, height - 1)
    columns = torch.arange(-16, width + -width % 8 + 16).clamp(0, width - 1)
    x = conv(image.double()[:, :, rows][..., columns], "stem.0.conv", 2, border=0).clamp(min=0)
    quarter = conv(x, "stem.1.conv", 2, border=0).clamp(min=0)
    x = norm(conv(quarter, "down.conv", 2, border=0), "down.norm").clamp(min=0)
    x = grained(x, "grain", None if phases is None else phases[:2])
    for block in range(net.settings["blocks"]):
        around = unit(F.pad(x, (1,) * 4, mode="reflect"), f"trunk.{block}.first", border=0).clamp(min=0)
        x = x + unit(F.pad(around, (1,) * 4, mode="reflect"), f"trunk.{block}.second", border=0)
    x = softened(softened(x, 2), 3)
    x = quarter[..., 1:-1, 1:-1] + smooth(smooth(conv(x, "up", border=0), 2), 3)
    x = grained(x, "fine_grain", None if phases is None else phases[2:])
    x = x + unit(conv(x, "fine.0.conv").clamp(min=0), "fine.1")
    x = unit(double(conv(x.clamp(min=0), "narrow", border=0)), "finer").clamp(min=0)
    return conv(double(x), "last").sigmoid()[..., 8 : 8 + height, 8 : 8 + width]


def test_against_functional_calls() -> None:
    net, image = small(), picture(24, 40, batch=2)
    with torch.no_grad():
        torch.testing.assert_close(net(image), plain(net, image).float(), rtol=1e-4, atol=1e-5)


def test_in_training_every_photo_has_a_grain_of_its_own() -> None:
    net, image = small().train(), picture(24, 40).repeat(2, 1, 1, 1)
    torch.manual_seed(1)
    with torch.no_grad():
        got = net(image)
    torch.manual_seed(1)
    phases = [2 * torch.pi * torch.rand(2, waves) for waves in (16, 4, 8, 4)]
    torch.testing.assert_close(got, plain(net, image, phases).float(), rtol=1e-4, atol=1e-5)
    assert (got[0] - got[1]).abs().mean() > 0.01


def test_waves_of_the_grain_are_bent_by_a_few_positions() -> None:
    """By long waves, so that neighbours move alike."""
    net = FastNet()
    grain = net.grain
    assert min(2 * torch.pi / torch.hypot(grain.bend_down, grain.bend_right)) >= 20
    moved = torch.linalg.lstsq(torch.stack([grain.down, grain.right], 1), grain.bend).solution  # positions, (2, bends)
    torch.testing.assert_close(moved.norm(dim=0), torch.full((4,), 2.0))
    flat = FastNet()
    flat.grain.bend.zero_()
    flat.load_state_dict(net.state_dict())
    photo = torch.full((1, 3, 64, 64), 0.4)
    with torch.no_grad():
        assert not torch.equal(net.eval()(photo), flat.eval()(photo))
    assert not any("bend" in name for name in net.state_dict()), "model files from before have none"


def test_a_flat_photo_is_not_painted_flat() -> None:
    net = small()
    with torch.no_grad():
        painted = net(torch.full((1, 3, 128, 128), 0.4))
        assert painted.std((2, 3)).max() > 0.01
        assert torch.equal(painted, net(torch.full((1, 3, 128, 128), 0.4)))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (18, 16), (70, 101), (23, 64)])
def test_any_size(height: int, width: int) -> None:
    net, image = small(), picture(height, width)
    with torch.no_grad():
        got = net(image)
        assert got.shape == image.shape
        torch.testing.assert_close(got, plain(net, image).float(), rtol=1e-4, atol=1e-5)


def test_a_gigaflop() -> None:
    net = FastNet().eval()
    with FlopCounterMode(display=False) as counter:
        net(picture(256, 256))
    assert counter.get_total_flops() == pytest.approx(1.15e9, rel=0.01)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(0.35e6, rel=0.02)


def test_no_grid_and_no_frame_on_a_flat_picture() -> None:
    """A flat picture is flat to the trunk: nothing repeats every 2, 4 or 8 pixels, or begins at the border."""
    net = FastNet(width=8, blocks=1).eval()
    before_trunk = net.down(net.stem(torch.full((1, 3, 64, 64), 0.3)))
    torch.testing.assert_close(before_trunk, before_trunk[..., :1, :1].expand_as(before_trunk), rtol=0, atol=1e-4)


def test_what_changes_from_position_to_position_of_the_trunk_is_not_painted() -> None:
    rows, columns = torch.arange(6)[:, None] % 2, torch.arange(7) % 2
    for pattern in (rows + 0 * columns, 0 * rows + columns, (rows + columns) % 2):
        torch.testing.assert_close(smooth(pattern[None, None].float()), torch.full((1, 1, 6, 7), 0.5))
    slope = torch.arange(7.0).expand(1, 1, 6, 7)
    torch.testing.assert_close(smooth(slope)[..., 1:-1], slope[..., 1:-1])


def test_no_grid_where_the_last_features_are_flat() -> None:
    last = DoublingConv(8, 3)
    painted = last(torch.full((1, 8, 6, 6), 0.7))[..., 2:-2, 2:-2]  # what meets no zeros beyond the border
    torch.testing.assert_close(painted, painted[..., :1, :1].expand_as(painted))


def test_every_weight_learns() -> None:
    net = small().train()
    net(picture(32, 32, batch=2)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        # A bias before an instance norm is taken away again by it.
        assert name.endswith("conv.bias") or parameter.grad.abs().sum() > 0, name


def test_round_trip_by_recipe() -> None:
    net = FastNet(width=6, blocks=1)
    assert nets.recipe_of(net) == {"name": "fast", "width": 6, "blocks": 1}
    assert nets.build(nets.recipe_of(net)).state_dict().keys() == net.state_dict().keys()


@pytest.mark.parametrize("wrong", [{"width": 1}, {"width": 3.5}, {"blocks": -1}, {"depth": 3}])
def test_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        nets.build({"name": "fast", **wrong})
