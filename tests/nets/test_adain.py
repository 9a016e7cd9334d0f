"""fst.nets.adain: against its parts in float64, and for what holds whatever was learnt."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from fst import nets
from fst.errors import UsageError
from fst.export.onnx import encoder_to_onnx, to_onnx
from fst.nets.adain import AdaINNet
from fst.perceptual import encoders

LITE = {"name": "lite", "tap": "relu3_1"}


def picture(height: int, width: int, *, batch: int = 1, seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(batch, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def made(**settings: Any) -> AdaINNet:
    """With lite's own weights, and a decoder of random ones."""
    torch.manual_seed(0)
    net = nets.build({"name": "adain", "width": 8, "blocks": 1, "encoder": LITE, **settings}, encoder=_pretrained)
    assert isinstance(net, AdaINNet)
    with torch.no_grad():
        for parameter in net.decoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net.eval()


def _pretrained(recipe: dict[str, Any]) -> encoders.Encoder:
    return encoders.pretrained(recipe["name"], tap=recipe["tap"])


def test_codes_are_moments_and_roots_of_covariances() -> None:
    style = picture(48, 72, batch=2, seed=3)
    f = made().encoder(style).double().numpy().reshape(2, 256, -1)
    code = made().encode(style).numpy()
    assert code.shape == (2, 512)
    np.testing.assert_allclose(code[:, :256], f.mean(2), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(code[:, 256:], np.sqrt(f.var(2) + 1e-5), rtol=1e-4)
    code = made(transfer="wct").encode(style).numpy()
    assert code.shape == (2, 256 + 256**2)
    np.testing.assert_allclose(code[:, :256], f.mean(2), rtol=1e-4, atol=1e-6)
    for number in range(2):
        matrix, root = np.cov(f[number], bias=True), code[number, 256:].reshape(256, 256).astype(float)
        matrix += (1e-3 * np.diag(matrix).mean() + 1e-5) * np.eye(256)
        assert np.linalg.norm(root @ root - matrix) < 1e-3 * np.linalg.norm(matrix)


@pytest.mark.parametrize("transfer", ["adain", "wct"])
def test_a_photo_in_its_own_style_is_what_the_decoder_makes_of_its_features(transfer: str) -> None:
    net, photo = made(transfer=transfer), picture(40, 56)
    with torch.no_grad():
        got, other = net(photo, net.encode(photo)), net(photo, net.encode(picture(40, 56, seed=5)))
        wanted = net.decoder(net.encoder(photo))
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-3)
    assert (other - wanted).abs().mean() > 0.01


@pytest.mark.parametrize("transfer", ["adain", "wct"])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (70, 101)])
def test_at_strength_0_the_photo_and_at_1_the_whole_style(transfer: str, height: int, width: int) -> None:
    net, photo = made(transfer=transfer), picture(height, width, batch=2)
    code = net.encode(picture(33, 47, seed=2))
    with torch.no_grad():
        mixed = net(photo, code, torch.tensor([0.0, 1.0]))
        full = net(photo, code)
    assert mixed.shape == photo.shape
    assert torch.equal(mixed[0], photo[0])
    torch.testing.assert_close(mixed[1], full[1])
    assert (full - photo).abs().mean() > 0.02


def test_between_the_features_go_that_far_and_the_picture_twice_less_its_square() -> None:
    net, photo = made(), picture(40, 56)
    code, s = net.encode(picture(33, 47, seed=2)), 0.3
    with torch.no_grad():
        got = net(photo, code, torch.tensor([s]))
        f = net.encoder(photo).double()
        normal = (f - f.mean((2, 3), keepdim=True)) / (f.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        moved = normal * code[0, 256:].view(-1, 1, 1) + code[0, :256].view(-1, 1, 1)
        wanted = photo + (1 - (1 - s) ** 2) * (net.decoder((f + s * (moved - f)).float()) - photo)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)


def test_a_turn_is_the_identity_where_it_is_0_and_another_picture_else() -> None:
    net, photo = made(transfer="wct"), picture(40, 56)
    code = net.encode(picture(33, 47, seed=2))
    turn = torch.linalg.qr(torch.randn(256, 256, generator=torch.Generator().manual_seed(1)))[0] - torch.eye(256)
    with torch.no_grad():
        plain = net(photo, code)
        nothing = net(photo, code, rotation=torch.zeros(1, 256**2))
        torch.testing.assert_close(nothing, plain, rtol=0, atol=1e-3)  # it is whitened twice
        turned = net(photo, code, rotation=turn.reshape(1, -1))
    assert (turned - plain).abs().mean() > 0.01


@pytest.mark.parametrize("transfer", ["adain", "wct"])
def test_both_graphs_give_torchs_numbers(transfer: str) -> None:
    """The exports' own checks, and once more by hand, at a size that they do not look at."""
    net, photo, style = made(transfer=transfer), picture(19, 50, batch=2), picture(61, 40, seed=2)
    encoder, decoder = encoder_to_onnx(net), to_onnx(net)
    assert decoder.max_difference < 1 / 255
    assert encoder.max_difference < 1e-3
    run = [
        onnxruntime.InferenceSession(each.graph, providers=["CPUExecutionProvider"]).run for each in (encoder, decoder)
    ]
    (code,) = run[0](["style_code"], {"image": style.numpy()})
    with torch.no_grad():
        wanted = net.encode(style)
    assert np.linalg.norm(code - wanted.numpy()) < 1e-3 * np.linalg.norm(wanted.numpy())
    given = {"image": photo.numpy(), "style_code": code.repeat(2, 0), "strength": np.array([1.0, 0.4], np.float32)}
    told: dict[str, torch.Tensor] = {}
    if transfer == "wct":
        told["rotation"] = 0.01 * torch.randn(2, 256**2, generator=torch.Generator().manual_seed(1))
    (painted,) = run[1](["stylized"], given | {name: each.numpy() for name, each in told.items()})
    with torch.no_grad():
        expected = net(photo, wanted, torch.tensor([1.0, 0.4]), **told)
    np.testing.assert_allclose(painted, expected.numpy(), atol=1 / 255)


def test_half_the_bytes() -> None:
    net = made(transfer="wct")
    assert encoder_to_onnx(net, float16=True).max_difference < 0.01
    assert to_onnx(net, float16=True).max_difference < 1 / 255


def test_every_weight_of_the_decoder_learns_and_none_of_the_encoder() -> None:
    net = made().train()
    net(picture(32, 32, batch=2), net.encode(picture(32, 32, seed=2))).square().mean().backward()
    for name, parameter in net.named_parameters():
        if name.startswith("encoder."):
            assert parameter.grad is None, name
        else:  # a bias before an instance norm is taken away again by it
            assert name.endswith("conv.bias") or parameter.grad.abs().sum() > 0, name  # type: ignore[union-attr]


def test_round_trip_by_recipe() -> None:
    net = made(transfer="wct")
    recipe = nets.recipe_of(net)
    assert recipe == {"name": "adain", "encoder": LITE, "transfer": "wct", "width": 8, "blocks": 1}
    again = nets.build(recipe, encoder=encoders.build)
    again.load_state_dict(net.state_dict())
    photo = picture(24, 40)
    with torch.no_grad():
        assert torch.equal(again.eval()(photo, net.encode(photo)), net(photo, net.encode(photo)))
    assert nets.inputs_of(net) == {"style_code": 256 + 256**2, "strength": 1.0, "rotation": 256**2}
    assert nets.inputs_of(made()) == {"style_code": 512, "strength": 1.0}


@pytest.mark.parametrize(
    "wrong", [{"transfer": "gram"}, {"width": 1}, {"width": 8.0}, {"blocks": -1}, {"depth": 3}, {"encoder": "lite"}]
)
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        made(**wrong)
    with pytest.raises(UsageError, match="encoder"):
        nets.build({"name": "adain", "encoder": LITE})  # none is given to build it by
