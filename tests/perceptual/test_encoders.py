"""fst.perceptual.encoders: one layer of a perceptual network, scaled."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fst.errors import FstError, UsageError
from fst.perceptual import encoders
from fst.perceptual.lite import Lite
from fst.perceptual.vgg import VGG19


def picture(height: int = 40, width: int = 52) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "tap", "factor"), [("lite", "relu3_1", 4), ("vgg19", "relu3_1", 4), ("vgg19", "relu4_1", 8)]
)
def test_features_are_the_networks_own_over_256(
    random_vgg: Callable[..., Path], name: str, tap: str, factor: int
) -> None:
    weights = random_vgg(convolutions=9) if name == "vgg19" else None
    encoder = encoders.pretrained(name, tap=tap, weights=weights)
    full = VGG19(taps=[tap], weights=weights) if name == "vgg19" else Lite(taps=[tap])
    got, wanted = encoder(picture()), full(picture(), [tap])[tap] / 256
    assert got.shape == (2, encoder.channels, 40 // factor, 52 // factor)
    assert encoder.factor == factor
    torch.testing.assert_close(got, wanted)
    assert got.std() > 1e-4
    assert not any(weight.requires_grad for weight in encoder.parameters())


def test_of_lite_nothing_deeper_than_its_layer_is_kept() -> None:
    encoder = encoders.pretrained("lite", tap="relu3_1")
    assert {name.split(".")[2] for name in encoder.state_dict() if ".thin." in name} == {"2_1", "2_2", "3_1"}


def test_a_recipe_builds_the_same_make_and_takes_the_weights() -> None:
    encoder = encoders.pretrained("lite", tap="relu3_2")
    again = encoders.build({"name": encoder.name, **encoder.settings})
    assert not torch.equal(again(picture()), encoder(picture()))
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(picture()), encoder(picture()))


@pytest.mark.parametrize(
    ("name", "tap", "said"),
    [
        ("vgg", "relu3_1", "no encoder is called 'vgg': did you mean vgg19?"),
        ("vgg19", "relu9_1", "VGG-19 has no layer 'relu9_1'"),
        ("lite", "relu4_1", "relu4_1"),
        ("vgg19", "relu2_1", "an encoder of relu2_1 cannot be painted from: choose a layer of block 3 or 4"),
        ("vgg19", "relu5_1", "an encoder of relu5_1 cannot be painted from"),
    ],
)
def test_encoders_that_cannot_be(name: str, tap: str, said: str) -> None:
    for make in (lambda: encoders.build({"name": name, "tap": tap}), lambda: encoders.pretrained(name, tap=tap)):
        with pytest.raises(UsageError, match=said):
            make()


def test_weights_that_end_before_the_layer(random_vgg: Callable[..., Path]) -> None:
    with pytest.raises(FstError, match="holds VGG-19 only to relu3_4"):
        encoders.pretrained("vgg19", tap="relu4_1", weights=random_vgg(convolutions=8))
