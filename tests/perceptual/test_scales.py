"""fst.perceptual.scales: layers of smaller pictures, by name."""

import pytest
import torch

from fst.errors import UsageError
from fst.perceptual.scales import features_at, split, taps_of
from fst.perceptual.vgg import VGG19


def test_names() -> None:
    assert split("relu3_4") == ("relu3_4", 1)
    assert split("relu3_4/2") == ("relu3_4", 2)
    assert taps_of(["relu3_4/2", "relu1_1", "relu3_4"]) == ["relu3_4", "relu1_1"]


@pytest.mark.parametrize("layer", ["relu3_4/3", "relu3_4/", "relu3_4/2/2", "relu3_4/x"])
def test_other_divisors_are_refused(layer: str) -> None:
    with pytest.raises(UsageError, match="stands 2 or 4, as in relu3_4/2"):
        split(layer)


def test_layers_of_smaller_pictures(random_vgg) -> None:
    vgg = VGG19(taps=["relu1_1", "relu2_1"], weights=random_vgg())
    pictures = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    quarter = pictures.view(2, 3, 10, 4, 14, 4).mean((3, 5))
    found = features_at(vgg, pictures, ["relu1_1", "relu2_1/4", "relu1_1/4"])
    torch.testing.assert_close(found.pop("relu1_1"), vgg(pictures, ["relu1_1"])["relu1_1"])
    for tap, features in vgg(quarter, ["relu1_1", "relu2_1"]).items():
        torch.testing.assert_close(found.pop(f"{tap}/4"), features)
    assert not found
