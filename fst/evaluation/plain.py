"""The plain recipe, the yardstick of `fst bench`: training as the well-known scripts do it, and nothing of fst.

Photos are opened by Pillow in the main process, one after the other; everything is float32, NCHW and eager; Adam at
1e-3, batches of centre crops; VGG-19 runs to relu3_4 with zero padding on both pictures; the losses are read back in
every step. Slow on purpose: what is measured against it must not have tuned it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision import transforms
from torchvision.models import vgg19

STYLE_LAYERS = {"relu1_1": 1, "relu2_1": 6, "relu3_1": 11, "relu3_4": 17}  # index in torchvision's `features`
CONTENT_LAYER, CONTENT_INDEX = "relu3_2", 13
_TRUNK = 5
# What fst.nets.johnson calls the layers, in the order in which they are applied.
_FST_NAMES = (
    *(f"down.{i}" for i in range(3)),
    *(f"trunk.{i}.{half}" for i in range(_TRUNK) for half in ("first", "second")),
    *(f"up.{i}.unit" for i in range(2)),
)


class Layer(nn.Sequential):
    """Reflection padding, convolution, instance norm and, where asked, ReLU after and doubling before."""

    def __init__(self, n_in: int, n_out: int, kernel: int, *, stride: int = 1, double: bool = False, relu: bool = True):
        super().__init__()
        if double:
            self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.pad = nn.ReflectionPad2d(kernel // 2)
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride)
        self.norm = nn.InstanceNorm2d(n_out, affine=True)
        if relu:
            self.relu = nn.ReLU()


class ResidualBlock(nn.Module):
    """x + two layers of it: (B, 128, H, W) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Layer(128, 128, 3), Layer(128, 128, 3, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)  # type: ignore[no-any-return]


class PlainNet(nn.Sequential):
    """Johnson et al. 2016 with instance norm and resize-convolution: (B, 3, H, W) in [0, 1] -> the same.

    20.2 GFLOP at 256x256. Sizes come back rounded up to a multiple of 4.
    """

    def __init__(self) -> None:
        super().__init__(
            Layer(3, 32, 9),
            Layer(32, 64, 3, stride=2),
            Layer(64, 128, 3, stride=2),
            *(ResidualBlock() for _ in range(_TRUNK)),
            Layer(128, 64, 3, double=True),
            Layer(64, 32, 3, double=True),
            nn.ReflectionPad2d(4),
            nn.Conv2d(32, 3, 9),
            nn.Sigmoid(),
        )

    def _names(self) -> dict[str, str]:
        """Each parameter's name in fst.nets.johnson, by its name here."""
        layers = [name for name, module in self.named_modules() if isinstance(module, Layer)]
        last = next(name for name, module in self.named_children() if isinstance(module, nn.Conv2d))
        renamed = {last: "last.1"}
        for ours, theirs in zip(layers, _FST_NAMES, strict=True):
            renamed |= {f"{ours}.{part}": f"{theirs}.{part}" for part in ("conv", "norm")}
        return {f"{ours}.{p}": f"{theirs}.{p}" for ours, theirs in renamed.items() for p in ("weight", "bias")}

    def to_fst(self) -> dict[str, Tensor]:
        """The weights by the names that fst's JohnsonNet of default settings gives them."""
        state = self.state_dict()
        return {theirs: state[ours].clone() for ours, theirs in self._names().items()}

    def from_fst(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the weights of fst's JohnsonNet of default settings; KeyError or RuntimeError for another's."""
        self.load_state_dict({ours: weights[theirs] for ours, theirs in self._names().items()})


class Vgg(nn.Module):
    """VGG-19 to relu3_4: (B, 3, H, W) RGB in [0, 1] -> features by layer, all of them, always.

    Args:
        weights: a file with torchvision's weights (.safetensors or .pth); None leaves them random.
    """

    def __init__(self, weights: str | Path | None) -> None:
        super().__init__()
        self.layers = vgg19(weights=None).features[:18]
        if weights is not None:
            if Path(weights).suffix == ".safetensors":
                from safetensors.torch import load_file

                stored = load_file(weights)
            else:
                stored = torch.load(weights, map_location="cpu", weights_only=True)
            wanted = {name: stored[f"features.{name}"] for name in self.layers.state_dict()}
            self.layers.load_state_dict(wanted)
        self.requires_grad_(False).eval()
        self.normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        names = {index: name for name, index in {**STYLE_LAYERS, CONTENT_LAYER: CONTENT_INDEX}.items()}
        features, x = {}, self.normalize(pictures)
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in names:
                features[names[index]] = x
        return features


def gram(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, C), divided by C H W."""
    b, c, h, w = features.shape
    rows = features.reshape(b, c, h * w)
    return rows @ rows.transpose(1, 2) / (c * h * w)


def losses(restyled: Mapping[str, Tensor], photos: Mapping[str, Tensor], grams: Mapping[str, Tensor]) -> list[Tensor]:
    """Content and style in fst's units, averaged over the batch: each error divided by its target's mean square."""
    wanted = photos[CONTENT_LAYER]
    content = (restyled[CONTENT_LAYER] - wanted).pow(2).mean((1, 2, 3)) / wanted.pow(2).mean((1, 2, 3))
    style = torch.zeros((), device=wanted.device)
    for name, target in grams.items():
        found = gram(restyled[name])
        style = style + F.mse_loss(found, target.expand_as(found)) / target.pow(2).mean()
    return [content.mean(), style / len(grams)]


def find_photos(folder: str | Path) -> list[Path]:
    """The .jpg, .jpeg and .png files under `folder`, sorted: the order in which they are learnt from."""
    return sorted(file for file in Path(folder).rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))


def centre_crop(size: int) -> transforms.Compose:
    """The short side to `size`, then the square in the middle: a Pillow image -> a Pillow image."""
    return transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])


class PlainTraining:
    """A run of the plain recipe; `step` is one step of it.

    Args:
        photos: a folder.
        style_image: the style picture's file.
        weights: VGG-19's, see Vgg.
        size: side of the crops, in pixels.
        batch: photos per step.
        style_size: longest side of the style picture, in pixels; it is never enlarged.
        seed: of the initial weights.
    """

    def __init__(
        self,
        *,
        photos: str | Path,
        style_image: str | Path,
        weights: str | Path | None,
        size: int = 256,
        batch: int = 4,
        style_size: int = 512,
        content_weight: float = 0.1,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.files, self.batch, self.content_weight, self.device = find_photos(photos), batch, content_weight, device
        self.vgg, self.net = Vgg(weights).to(device), PlainNet().to(device)
        self.load = transforms.Compose([centre_crop(size), transforms.ToTensor()])
        picture = Image.open(style_image).convert("RGB")
        picture.thumbnail((style_size, style_size), Image.Resampling.LANCZOS)
        features = self.vgg(transforms.ToTensor()(picture)[None].to(device))
        self.grams = {name: gram(features[name]) for name in STYLE_LAYERS}
        self.adam = torch.optim.Adam(self.net.parameters(), 1e-3)
        self.steps_done = 0

    def photo(self, file: Path) -> Tensor:
        """A photo as it is learnt from: (3, size, size) in [0, 1]."""
        cropped: Tensor = self.load(Image.open(file).convert("RGB"))
        return cropped

    def step(self) -> tuple[float, float]:
        """Learn from the next batch; returns content and style."""
        first = self.steps_done * self.batch
        batch = [self.files[(first + i) % len(self.files)] for i in range(self.batch)]
        x = torch.stack([self.photo(file) for file in batch]).to(self.device)
        y = self.net(x)
        content, style = losses(self.vgg(y), self.vgg(x), self.grams)
        self.adam.zero_grad()
        (self.content_weight * content + style).backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        self.steps_done += 1
        return content.item(), style.item()

    @torch.no_grad()
    def score(self, net: nn.Module, files: Sequence[Path]) -> tuple[float, float]:
        """Content and style of any network in float32, averaged over the photos in `files`."""
        net.eval()
        found = []
        for file in files:
            x = self.photo(file)[None].to(self.device)
            found.append(torch.stack(losses(self.vgg(net(x)), self.vgg(x), self.grams)))
        content, style = torch.stack(found).mean(0).tolist()
        return content, style
