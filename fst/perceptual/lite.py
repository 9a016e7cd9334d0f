"""A small extractor that stands in for VGG-19: distilled from it by scripts/make_lite, and carried by fst."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from fst.convolution import pad
from fst.download import DownloadProgress
from fst.errors import FstError, UsageError
from fst.paths import carried

TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu3_2", "relu3_4")
_EVERY = 3  # pixels
_RANKS = {"2_1": 40, "2_2": 48, "3_1": 72, "3_2": 40, "3_3": 36, "3_4": 32}  # of VGG-19's convolutions
_WIDTHS = {"2": 128, "3": 256}  # channels of its blocks


def check_taps(taps: Iterable[str]) -> None:
    """Raise UsageError for a layer that the lite network does not stand in for."""
    for tap in taps:
        if tap not in TAPS:
            raise UsageError(f"perceptual=lite has {', '.join(TAPS)}, not {tap!r}: perceptual=vgg19 has every layer")


class ThinConv(nn.Module):
    """A 3x3 convolution of low rank, in three steps: down a column, along a row, and from few channels to all.

    Zhang et al. 2015, "Accelerating Very Deep Convolutional Networks", sections 3.1 and 3.4.
    """

    def __init__(self, n_in: int, rank: int, n_out: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(n_in, rank, (3, 1), bias=False)
        self.along = nn.Conv2d(rank, rank, (1, 3), bias=False)
        self.wide = nn.Conv2d(rank, n_out, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n_in, H, W) -> what it says in few channels, (B, rank, H, W), and after ReLU in (B, n_out, H, W)."""
        narrow = self.along(self.down(pad(x, 1, "replicate")))
        return narrow, self.wide(narrow).relu_()


class LiteNet(nn.Module):
    """The network itself, with random weights; it can be trained.

    Its features are VGG-19's own, channel by channel, as nearly as 0.27 M parameters and 4.3 GFLOP at 256x256 can say
    them (VGG-19: 2.3 M and 29.2 to relu3_4). From conv2_1 on it is VGG-19 with convolutions of low rank. At full
    resolution, where VGG-19 spends a sixth of its work and more of its time in 64 channels, there are 16: they lead to
    what VGG-19 has after its first pooling by a convolution of stride 2, which sees as many pixels, and one of 1x1.
    Of relu1_1 and relu2_1, which are there for their statistics, every third row and column is looked at: no pattern of
    2, 4 or 8 pixels, as networks like to make, keeps in step with that.

    Args:
        deepest: the deepest layer that will be asked for.
    """

    def __init__(self, deepest: str = TAPS[-1]) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, 64, 3, stride=_EVERY)
        self.pooled = nn.ModuleList([nn.Conv2d(3, 16, 3), nn.Conv2d(16, 96, 4, stride=2), nn.Conv2d(96, 64, 1)])
        self.thin = nn.ModuleDict()
        channels = 64
        for name, rank in _RANKS.items():
            self.thin[name] = ThinConv(channels, rank, _WIDTHS[name[0]])
            channels = _WIDTHS[name[0]]
            if f"relu{name}" == deepest:
                break

    def forward(self, pictures: Tensor, taps: Iterable[str]) -> dict[str, Tensor]:
        """(B, 3, H, W) RGB in [0, 1] -> {tap: (B, C, h, w)}, nothing deeper than the deepest of `taps`.

        C is VGG-19's; h and w are H and W over 3 for relu1_1, over 6 for relu2_1 (both rounded up), and over 4 for the
        others (rounded down).
        """
        wanted = set(taps)
        check_taps(wanted)
        x = scaled(pictures)
        found: dict[str, Tensor] = {}
        if "relu1_1" in wanted:
            found["relu1_1"] = self.colours(pad(x, 1, "replicate")).relu_()
        if wanted == found.keys():
            return found
        for name, narrow, wide in self.after_pool1(self.pool1(x)):
            if (tap := f"relu{name}") in wanted:
                found[tap] = wide
                if tap == "relu2_1":  # not a part of `wide`, whose gradient would be as large as all of it
                    layer = cast(ThinConv, self.thin[name])
                    found[tap] = layer.wide(narrow[..., ::_EVERY, ::_EVERY]).relu_()
            if wanted == found.keys():
                break
        return found

    def pool1(self, x: Tensor) -> Tensor:
        """What VGG-19 has after its first pooling: (B, 3, H, W), scaled -> (B, 64, H // 2, W // 2)."""
        x = pad(x, 2, "replicate")
        for convolution in self.pooled:
            x = convolution(x).relu_()
        return x

    def after_pool1(self, x: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """The number of each later convolution ("2_1") with what it says in few channels, and in VGG-19's."""
        for name, convolution in self.thin.items():
            if name == "3_1":
                x = F.max_pool2d(x, 2)
            narrow, x = convolution(x)
            yield name, narrow, x


def scaled(pictures: Tensor) -> Tensor:
    """RGB in [0, 1] -> in [-2, 2]."""
    return (pictures - 0.5) * 4


class Lite(LiteNet):
    """The carried network, frozen: it has gradients to its input, none to its weights. Needs no download.

    Args:
        taps: the layers that will be asked for, of `TAPS`.
        weights: another file that scripts/make_lite wrote; None takes the one that fst carries.
        on_progress: not called; every extractor takes it.

    Raises:
        UsageError: no tap, or one that it does not have; a file of weights that is not there.
        FstError: the file holds something else.
    """

    def __init__(
        self,
        *,
        taps: Iterable[str],
        weights: str | Path | None = None,
        on_progress: Callable[[DownloadProgress], None] | None = None,
    ) -> None:
        super().__init__()
        taps = tuple(taps)
        check_taps(taps)
        if not taps:
            raise UsageError(f"perceptual=lite needs the name of at least one layer: {', '.join(TAPS)}")
        self.weights_path = Path(weights).expanduser() if weights else carried("checkpoints") / "lite.safetensors"
        if not self.weights_path.is_file():
            raise UsageError(f"perceptual.weights={self.weights_path}: no such file")
        self.weights_sha256 = self._load()
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Lite":
        """Stay in evaluation mode: a frozen network is never trained."""
        return super().train(False)

    def _load(self) -> str:
        """Copy the weights in and return the SHA-256 of what was used."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            self.load_state_dict(load_file(self.weights_path))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise FstError(
                f"{self.weights_path} is no file of scripts/make_lite: leave perceptual.weights out to use fst's own"
            ) from error
        digest = hashlib.sha256()
        for tensor in self._tensors():
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _tensors(self) -> Iterator[Tensor]:
        return (tensor for _, tensor in sorted(self.state_dict().items()))
