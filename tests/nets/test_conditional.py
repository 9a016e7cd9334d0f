"""fst.nets.conditional against functional calls in float64, and against what must not change when a style is added."""

import itertools
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from fst import nets
from fst.errors import UsageError
from fst.export.onnx import to_onnx
from fst.nets.conditional import ConditionalNet, ConditionalNorm

JOHNSON = {"name": "johnson", "width": 4, "blocks": 1}
FAST = {"name": "fast", "width": 4, "blocks": 1}


def picture(height: int, width: int, *, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def made(inner: dict[str, Any] = JOHNSON, *, styles: int = 3, adjustable: bool = True) -> ConditionalNet:
    """With random numbers for every style."""
    torch.manual_seed(0)
    net = nets.build({"name": "conditional", "net": inner, "styles": styles, "adjustable": adjustable})
    assert isinstance(net, ConditionalNet)
    with torch.no_grad():
        for parameter in net.styles:
            parameter.add_(0.4 * torch.randn_like(parameter))
    return net.eval()


def plain(net: ConditionalNet, image: np.ndarray, strength: float, stroke: float, mix: list[float]) -> np.ndarray:
    """(3, H, W) through the network, in float64: sides that are multiples of 4."""
    weights = {name.removeprefix("net."): value.double() for name, value in net.state_dict().items()}
    a, b = 1 - strength, np.log2(stroke)
    terms = torch.tensor([1, a, b, a**2, b**2, a * b], dtype=torch.float64)
    numbers = sum(share * (terms @ weights[f"styles.{number}"]) for number, share in enumerate(mix))
    assert isinstance(numbers, torch.Tensor)
    at = 0

    def unit(x: torch.Tensor, name: str, stride: int = 1, relu: bool = True) -> torch.Tensor:
        nonlocal at
        weight = weights[f"{name}.conv.weight"]
        edge, channels = weight.shape[-1] // 2, len(weight)
        x = F.conv2d(F.pad(x, (edge,) * 4, mode="reflect"), weight, weights[f"{name}.conv.bias"], stride)
        centred = x - x.mean((2, 3), keepdim=True)
        x = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
        gain, shift = numbers[at : at + channels], numbers[at + channels : at + 2 * channels]
        at += 2 * channels
        x = x * gain.view(-1, 1, 1) + shift.view(-1, 1, 1)
        return x.clamp(min=0) if relu else x

    def double(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    photo = torch.from_numpy(image).double()[None]
    x = unit(unit(unit(photo, "down.0"), "down.1", 2), "down.2", 2)
    x = x + unit(unit(x, "trunk.0.first"), "trunk.0.second", relu=False)
    x = unit(double(unit(double(x), "up.0.unit")), "up.1.unit")
    x = F.conv2d(F.pad(x, (4,) * 4, mode="reflect"), weights["last.1.weight"], weights["last.1.bias"]).sigmoid()
    share = 1 - (1 - strength) ** 2
    result: np.ndarray = ((1 - share) * photo + share * x)[0].numpy()
    return result


WISHES = [(1.0, 1.0, [1.0, 0.0, 0.0]), (0.3, 1.7, [0.2, 0.5, 0.3]), (0.8, 0.5, [0.0, 0.0, 1.0])]


def test_against_functional_calls() -> None:
    """Three pictures with wishes of their own, at once."""
    net, image = made(), picture(24, 40, batch=3)
    strength, stroke, styles = (torch.tensor(each) for each in zip(*WISHES, strict=True))
    wanted = np.stack([plain(net, x.numpy(), *wish) for x, wish in zip(image, WISHES, strict=True)])
    with torch.no_grad():
        for net_now in (net.eval(), net.train()):  # the sums are others in training
            got = net_now(image, strength=strength, stroke=stroke, styles=styles).numpy()
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inner", [JOHNSON, FAST])
def test_a_new_one_gives_the_inner_networks_picture(inner: dict[str, Any]) -> None:
    """Whatever it is told: init=MODEL goes on from a network that was learnt without."""
    torch.manual_seed(0)
    net = nets.build(inner).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        image = picture(33, 47, batch=2)
        wanted = net(image)
        told = ConditionalNet(net=net, styles=2, adjustable=True).eval()
        assert torch.equal(told(image), wanted)
        stroke, styles = torch.tensor([0.5, 2.0]), torch.tensor([[0.0, 1.0], [0.5, 0.5]])
        torch.testing.assert_close(told(image, stroke=stroke, styles=styles), wanted)


def test_what_is_left_out_is_neutral() -> None:
    net, image = made(FAST), picture(32, 48, batch=2)
    neutral = {name: torch.tensor([value, value]) for name, value in net.inputs.items()}
    assert {name: value.tolist()[0] for name, value in neutral.items()} == {
        "strength": 1.0,
        "stroke": 1.0,
        "styles": [1.0, 0.0, 0.0],
    }
    with torch.no_grad():
        torch.testing.assert_close(net(image), net(image, **neutral))


@pytest.mark.parametrize("inner", [JOHNSON, FAST])
def test_strength_0_is_the_photo(inner: dict[str, Any]) -> None:
    net, image = made(inner), picture(33, 47, batch=2)
    with torch.no_grad():
        got = net(image, strength=torch.zeros(1), stroke=torch.tensor([2.0]))
    assert (got - image).abs().max() < 1e-6
    assert (net(image) - image).abs().mean() > 0.05


@pytest.mark.parametrize("adjustable", [True, False])
def test_a_style_that_is_added_changes_no_bit_of_the_others(adjustable: bool) -> None:
    net, image = made(FAST, adjustable=adjustable), picture(40, 56, batch=2)
    given = {"strength": torch.tensor([0.7, 0.2]), "stroke": torch.tensor([1.5, 0.6])} if adjustable else {}
    mixes = torch.tensor([[0.1, 0.3, 0.6], [0.0, 1.0, 0.0]])
    with torch.no_grad():
        before = [net(image), net(image, styles=mixes, **given)]
        added = net.add_style()
        torch.testing.assert_close(added.detach(), torch.stack(list(net.styles[:3])).mean(0).detach())
        added.add_(torch.randn_like(added))
        wider = torch.cat([mixes, torch.zeros(2, 1)], 1)
        after = [net(image), net(image, styles=wider, **given)]
        new = net(image, styles=torch.tensor([[0.0, 0.0, 0.0, 1.0]]), **given)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert (new - before[0]).abs().mean() > 0.01
    assert nets.recipe_of(net)["styles"] == 4
    assert net.inputs["styles"] == [1.0, 0.0, 0.0, 0.0]


def test_onnx_too_leaves_the_others_as_they_were() -> None:
    net = made(FAST)
    graphs = [to_onnx(net, sizes=[(20, 24)]).graph]
    with torch.no_grad():
        net.add_style().add_(1.0)
    graphs.append(to_onnx(net, sizes=[(20, 24)]).graph)
    given = {"image": picture(40, 56).numpy(), "strength": np.float32([0.7]), "stroke": np.float32([1.5])}
    mix = np.float32([[0.1, 0.3, 0.6]])
    pictures = []
    for graph, styles in zip(graphs, (mix, np.pad(mix, ((0, 0), (0, 1)))), strict=True):
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        pictures.append(session.run(None, given | {"styles": styles})[0])
    assert np.array_equal(*pictures)


@pytest.mark.parametrize(("inner", "styles", "adjustable"), [(JOHNSON, 2, False), (FAST, 1, True)])
def test_round_trip_by_recipe_and_export(inner: dict[str, Any], styles: int, adjustable: bool) -> None:
    net = made(inner, styles=styles, adjustable=adjustable)
    recipe = nets.recipe_of(net)
    assert recipe == {
        "name": "conditional",
        "net": nets.recipe_of(nets.build(inner)),
        "styles": styles,
        "adjustable": adjustable,
    }
    again = nets.build(recipe)
    again.load_state_dict(net.state_dict())
    image = picture(32, 32)
    with torch.no_grad():
        assert torch.equal(again.eval()(image), net(image))
    assert to_onnx(net).max_difference < 1e-4


@pytest.mark.parametrize("inner", [{"name": "johnson"}, {"name": "fast"}])
def test_it_costs_next_to_nothing(inner: dict[str, Any]) -> None:
    """Convolutions are the same; what comes beside them is below a fiftieth of a percent of their sums."""
    flops = []
    told = nets.build({"name": "conditional", "net": inner, "styles": 4, "adjustable": True}).eval()
    one = {"strength": torch.ones(1), "stroke": torch.ones(1), "styles": torch.eye(4)[:1]}
    for net, given in ((nets.build(inner).eval(), {}), (told, one)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(picture(256, 256), **given)
        flops.append(counter.get_total_flops())
    assert flops[0] == flops[1]
    assert isinstance(told, ConditionalNet)
    numbers = sum(each.numel() for each in told.styles)
    blend = 3 * 3 * 256 * 256
    assert 3 * numbers + blend < 2e-3 * flops[0]


def test_every_style_learns_in_training_and_only_what_it_is_told() -> None:
    net = made(FAST).train()
    styles = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    net(picture(32, 32, batch=2), strength=torch.tensor([0.5, 0.7]), styles=styles).square().mean().backward()
    first, second, third = (each.grad for each in net.styles)
    assert second is not None
    assert second[[0, 1, 3]].abs().sum(1).min() > 0
    assert not second[[2, 4, 5]].any(), "no stroke was given"
    for other in (first, third):
        assert other is not None
        assert not other.any()


def test_norms_are_told_and_none_is_left() -> None:
    net = made(FAST)
    kinds = [type(module) for module in net.modules()]
    assert kinds.count(ConditionalNorm) == len(net._sizes) / 2
    assert not any(isinstance(module, torch.nn.InstanceNorm2d) for module in net.modules())
    assert not list(itertools.chain(*(m.parameters() for m in net.modules() if isinstance(m, ConditionalNorm))))


def noisy(inner: dict[str, Any] = FAST, **settings: Any) -> ConditionalNet:
    """With a noise of 5 numbers, and gains, shifts and grains that heed it."""
    torch.manual_seed(0)
    net = nets.build({"name": "conditional", "net": inner, "noise": 5, **settings})
    assert isinstance(net, ConditionalNet)
    with torch.no_grad():
        net.spread.mul_(3)
        net.net.get_submodule("trunk.0").mix.weight.mul_(10)
    return net.eval()


def noises(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


def test_noise_adds_sines_to_the_numbers_and_turns_the_grains() -> None:
    """What it does to the inner network, worked out in float64 and told to a network that has no noise to be told."""
    net, image, noise = noisy(), picture(40, 56), noises(1)
    weights = {name: value.double().numpy() for name, value in net.state_dict().items()}
    angles = weights["angle"] + noise[0].double().numpy() @ weights["turn"]
    numbers = weights["styles.0"][0] + np.sin(angles[:32]) @ weights["spread"]
    spread, phases = net.state_dict()["spread"], dict(zip(("grain", "trunk.0"), np.split(angles[32:], 2), strict=True))
    with torch.no_grad():
        wanted = net(image, noise=noise)
        spread.zero_()
        net.turn.zero_()
        net.styles[0].copy_(torch.from_numpy(numbers)[None])
        net.angle.copy_(torch.from_numpy(np.concatenate([angles[:32], phases["grain"], phases["trunk.0"]])))
        torch.testing.assert_close(net(image), wanted, rtol=1e-4, atol=1e-5)
    at = weights["angle"][32:48]
    assert np.array_equal(at, net.net.get_submodule("grain").phase.double().numpy()), "none is as the grain alone"


@pytest.mark.parametrize("inner", [JOHNSON, FAST])
def test_every_noise_gives_another_picture_and_always_the_same(inner: dict[str, Any]) -> None:
    net, image, noise = noisy(inner), picture(40, 56), noises(4)
    with torch.no_grad():
        pictures = [net(image, noise=each[None]) for each in (torch.zeros(5), *noise)]
        assert torch.equal(net(image), pictures[0]), "left out, it is 0 everywhere"
        assert torch.equal(net(image, noise=noise[:1]), pictures[1])
        for one, other in itertools.combinations(pictures, 2):
            assert (one - other).abs().mean() > 0.01
        together = net(image.repeat(4, 1, 1, 1), noise=noise)
        torch.testing.assert_close(together, torch.cat(pictures[1:]), rtol=1e-4, atol=1e-5)


def test_told_phases_hold_in_training_too() -> None:
    """Else two pictures of one photo would differ for another reason than their noises."""
    net, image, noise = noisy().train(), picture(40, 56, batch=2), noises(2)
    with torch.no_grad():
        torch.testing.assert_close(net(image, noise=noise), net.eval()(image, noise=noise), rtol=1e-4, atol=1e-5)


def test_noise_goes_with_all_other_inputs() -> None:
    net, image, noise = noisy(styles=2, adjustable=True), picture(40, 56), noises(1)
    assert net.inputs == {"strength": 1.0, "stroke": 1.0, "styles": [1.0, 0.0], "noise": 5}
    with torch.no_grad():
        assert (net(image, strength=torch.zeros(1), noise=noise) - image).abs().max() < 1e-6
        full = {"strength": torch.ones(1), "stroke": torch.ones(1), "styles": torch.eye(2)[:1]}
        torch.testing.assert_close(net(image, noise=noise, **full), net(image, noise=noise))


@pytest.mark.parametrize("inner", [JOHNSON, FAST])
def test_noise_survives_recipe_and_export(inner: dict[str, Any]) -> None:
    net = noisy(inner)
    recipe = nets.recipe_of(net)
    assert recipe["noise"] == 5
    again = nets.build(recipe)
    again.load_state_dict(net.state_dict())
    image, noise = picture(33, 47), noises(2)
    export = to_onnx(net)
    session = onnxruntime.InferenceSession(export.graph, providers=["CPUExecutionProvider"])
    for each in noise.split(1):
        with torch.no_grad():
            wanted = net(image, noise=each)
            assert torch.equal(again.eval()(image, noise=each), wanted)
        (got,) = session.run(None, {"image": image.numpy(), "noise": each.numpy()})
        np.testing.assert_allclose(got, wanted.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"net": JOHNSON, "styles": 0},
        {"net": JOHNSON, "styles": 1},
        {"net": JOHNSON, "styles": 2.5},
        {"net": JOHNSON, "adjustable": 1},
        {"net": "johnson", "styles": 2},
        {"styles": 2},
        {"net": {"name": "conditional", "net": JOHNSON, "styles": 2}, "styles": 2},
        {"net": {"name": "nothing"}, "styles": 2},
        {"net": JOHNSON, "noise": -1},
        {"net": JOHNSON, "noise": True},
        {"net": {**FAST, "blocks": 0}, "noise": 5},
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        nets.build({"name": "conditional", **wrong})


def test_it_compiles() -> None:
    net, image = made(FAST), picture(32, 32, batch=2)
    given = {"strength": torch.tensor([0.3, 0.9]), "stroke": torch.tensor([0.6, 1.8]), "styles": torch.eye(3)[:2]}
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(image, **given), net(image, **given))
