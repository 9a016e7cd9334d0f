"""fst.perceptual.lite against functional calls, and against VGG-19, whose place it takes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from fst import images
from fst.errors import FstError, UsageError
from fst.feature_stats import gram
from fst.paths import carried
from fst.perceptual.lite import TAPS, Lite
from fst.perceptual.losses import style_loss
from fst.perceptual.vgg import VGG19

CARRIED = carried("checkpoints") / "lite.safetensors"
STYLE_LAYERS = dict.fromkeys(("relu1_1", "relu2_1", "relu3_1", "relu3_4"), 1.0)


def picture(height: int = 40, width: int = 33, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_against_functional_calls() -> None:
    weights = {name: tensor.double() for name, tensor in load_file(CARRIED).items()}

    def conv(x: torch.Tensor, name: str, stride: int = 1, border: int = 0) -> torch.Tensor:
        around = F.pad(x, (border,) * 4, mode="replicate")
        return F.conv2d(around, weights[f"{name}.weight"], weights.get(f"{name}.bias"), stride)

    def thin(x: torch.Tensor, name: str) -> torch.Tensor:
        down, along = (weights[f"thin.{name}.{part}.weight"] for part in ("down", "along"))
        square = torch.einsum("rmx,miy->riyx", along[:, :, 0], down[..., 0])  # one 3x3 convolution
        narrow = F.conv2d(F.pad(x, (1,) * 4, mode="replicate"), square)
        return conv(narrow, f"thin.{name}.wide").clamp(min=0)

    x = (picture(batch=2).double() - 0.5) / 0.25
    expected = {"relu1_1": conv(x, "colours", 3, border=1).clamp(min=0)}
    for part, stride, border in (("pooled.0", 1, 2), ("pooled.1", 2, 0), ("pooled.2", 1, 0)):
        x = conv(x, part, stride, border).clamp(min=0)
    x = thin(x, "2_1")
    expected["relu2_1"] = x[..., ::3, ::3]
    x = F.max_pool2d(thin(x, "2_2"), 2)
    for number in ("3_1", "3_2", "3_3", "3_4"):
        x = thin(x, number)
        if number != "3_3":
            expected[f"relu{number}"] = x
    assert tuple(expected) == TAPS
    for tap, found in Lite(taps=TAPS)(picture(batch=2), TAPS).items():
        torch.testing.assert_close(found, expected[tap].float(), rtol=1e-3, atol=1e-3)


def test_channels_are_those_of_vgg19(random_vgg) -> None:
    wanted = VGG19(taps=TAPS, weights=random_vgg())(picture(71, 102), TAPS)
    found = Lite(taps=TAPS)(picture(71, 102), TAPS)
    assert {tap: f.shape[1] for tap, f in found.items()} == {tap: f.shape[1] for tap, f in wanted.items()}
    assert found["relu1_1"].shape[2:] == (24, 34)
    assert found["relu2_1"].shape[2:] == (12, 17)
    assert found["relu3_4"].shape[2:] == wanted["relu3_4"].shape[2:] == (17, 25)


def test_only_as_deep_as_asked() -> None:
    lite, called = Lite(taps=TAPS), []
    for name, module in lite.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    assert list(lite(picture(), ["relu1_1"])) == ["relu1_1"]
    assert called == ["colours"]
    called.clear()
    assert list(lite(picture(), ["relu2_1"])) == ["relu2_1"]
    assert {name.split(".")[0] for name in called} == {"pooled", "thin"}
    assert {name.split(".")[1] for name in called if "thin" in name} == {"2_1"}


def test_frozen() -> None:
    lite, x = Lite(taps=["relu3_4"]).train(), picture().requires_grad_()
    assert not lite.training
    lite(x, ["relu3_4"])["relu3_4"].square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0
    assert [p for p in lite.parameters() if p.requires_grad or p.grad is not None] == []


def test_a_sixth_of_the_work_in_a_small_file(random_vgg) -> None:
    def flops(extractor: torch.nn.Module) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            extractor(picture(128, 128), TAPS)
        return counter.get_total_flops()

    lite = Lite(taps=TAPS)
    assert flops(VGG19(taps=TAPS, weights=random_vgg())) > 6 * flops(lite)
    assert sum(p.numel() for p in lite.parameters()) < 1e6
    assert CARRIED.stat().st_size < 4e6


@pytest.mark.parametrize(
    ("taps", "message"),
    [(["relu4_1"], "not 'relu4_1': perceptual=vgg19 has every layer"), ([], "needs the name of at least one layer")],
)
def test_wrong_layers_are_refused(taps: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Lite(taps=taps)


def test_wrong_files_are_refused(tmp_path: Path, random_vgg) -> None:
    with pytest.raises(UsageError, match=r"nothing\.safetensors: no such file"):
        Lite(taps=TAPS, weights=tmp_path / "nothing.safetensors")
    text = tmp_path / "text.safetensors"
    text.write_text("not weights")
    for file in (text, random_vgg()):
        with pytest.raises(FstError, match="is no file of scripts/make_lite"):
            Lite(taps=TAPS, weights=file)


def test_the_hash_is_of_the_weights_and_not_of_the_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(load_file(CARRIED), tmp_path / "same.safetensors", {"another": "header"})
    assert Lite(taps=TAPS, weights=tmp_path / "same.safetensors").weights_sha256 == Lite(taps=TAPS).weights_sha256


@pytest.mark.slow
def test_styles_are_as_far_from_photos_as_vgg19_finds(shared: Path, vgg_weights: Path) -> None:
    """On photos and styles that it has never seen."""

    def load(file: Path) -> torch.Tensor:
        pixels = np.asarray(Image.fromarray(images.read(file).pixels).resize((256, 256)))
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255

    photos = torch.cat([load(file) for file in images.find_pictures(shared / "photos" / "validation")[:8]])
    extractors = VGG19(taps=TAPS, weights=vgg_weights), Lite(taps=TAPS)
    with torch.no_grad():
        for name in ("mosaic", "candy"):
            style = load(shared / "styles" / f"{name}.jpg")
            by_vgg, by_lite = (
                style_loss(e(photos, TAPS), {tap: gram(f) for tap, f in e(style, TAPS).items()}, STYLE_LAYERS)
                for e in extractors
            )
            assert ((by_lite / by_vgg).log().abs() < 0.2).all(), (name, by_vgg, by_lite)
