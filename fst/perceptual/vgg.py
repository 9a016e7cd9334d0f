"""VGG-19, frozen, evaluated only as deep as asked (Simonyan & Zisserman 2015, configuration E)."""

import hashlib
import os
import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from fst.convolution import frozen_conv_relu, halve
from fst.download import DownloadProgress, download
from fst.errors import FstError, UsageError, nearest

WEIGHTS_VARIABLE = "FST_VGG19_WEIGHTS"
_NAME_IT = f"{WEIGHTS_VARIABLE}=FILE (or fst train perceptual.weights=FILE)"
_ANOTHER = f"delete it or name another: {_NAME_IT}"
_BLOCKS = {1: (2, 64), 2: (2, 128), 3: (4, 256), 4: (4, 512), 5: (4, 512)}  # block: (convolutions, channels)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, RGB in [0, 1]


def _torchvision_indices() -> dict[str, int]:
    """Index of each convolution in torchvision's `features`: {"conv1_1": 0, "conv1_2": 2, "conv2_1": 5, ...}."""
    indices, at = {}, 0
    for block, (convolutions, _) in _BLOCKS.items():
        for number in range(1, convolutions + 1):
            indices[f"conv{block}_{number}"] = at
            at += 2  # the convolution and its ReLU
        at += 1  # the pooling
    return indices


_INDEX = _torchvision_indices()
TAPS = tuple(name.replace("conv", "relu") for name in _INDEX)


def check_taps(taps: Iterable[str]) -> None:
    """Raise UsageError for a name that is not one of VGG-19's taps, relu1_1 to relu5_4."""
    for tap in taps:
        if tap not in TAPS:
            raise UsageError(f"VGG-19 has no layer {tap!r}: {nearest(tap, TAPS)}")


class VGG19Net(nn.Module):
    """The network itself, with random weights.

    Args:
        taps: the layers that will be asked for ("relu3_1"); only the convolutions up to the deepest are built.
        padding: what lies beyond the border for each convolution.

    Raises:
        UsageError: no tap, or one that VGG-19 does not have; another padding.
    """

    def __init__(self, *, taps: Iterable[str], padding: Literal["zeros", "replicate"] = "replicate") -> None:
        super().__init__()
        taps = tuple(taps)
        check_taps(taps)
        if not taps:
            raise UsageError("VGG-19 needs the name of at least one layer, such as relu3_1")
        if padding not in ("zeros", "replicate"):
            raise UsageError(f'perceptual.padding must be "zeros" or "replicate", not {padding!r}')
        self.padding: Literal["zeros", "replicate"] = padding
        self.convolutions = nn.ModuleDict()
        channels = 3
        for name in list(_INDEX)[: 1 + max(map(TAPS.index, taps))]:
            width = _BLOCKS[int(name[4])][1]
            self.convolutions[name] = nn.Conv2d(channels, width, 3)
            channels = width
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor, taps: Iterable[str]) -> dict[str, Tensor]:
        """(B, 3, H, W) RGB in [0, 1] -> {tap: (B, C, h, w)}, computing nothing deeper than the deepest of `taps`."""
        wanted = set(taps)
        found: dict[str, Tensor] = {}
        check_taps(wanted)
        x = (pictures - self.mean) / self.std
        for name, convolution in self.convolutions.items():
            if len(found) == len(wanted):
                break
            if name[4] != "1" and name.endswith("_1"):
                x = halve(x)
            x = frozen_conv_relu(x, convolution.weight, convolution.bias, self.padding)  # type: ignore[arg-type]
            tap = name.replace("conv", "relu")
            if tap in wanted:
                found[tap] = x
        if missing := wanted - found.keys():
            raise UsageError(f"this VGG-19 was built without {', '.join(sorted(missing))}")
        return found


class VGG19(VGG19Net):
    """The features of VGG-19 by name. Frozen: it has gradients to its input, none to its weights.

    Args:
        taps, padding: see VGG19Net.
        weights: a file with torchvision's weights; None looks at FST_VGG19_WEIGHTS, then at torchvision's cache, then
            downloads (see `find_weights`).
        on_progress: told how a download goes.

    Raises:
        UsageError: as VGG19Net; a file of weights that is not there.
        FstError: no weights, damaged weights, or weights that end before a tap.
    """

    def __init__(
        self,
        *,
        taps: Iterable[str],
        weights: str | Path | None = None,
        padding: Literal["zeros", "replicate"] = "replicate",
        on_progress: Callable[[DownloadProgress], None] | None = None,
    ) -> None:
        super().__init__(taps=taps, padding=padding)
        self.weights_path = find_weights(weights, on_progress)
        self.weights_sha256 = self._load(self.weights_path)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "VGG19":
        """Stay in evaluation mode: a frozen network is never trained."""
        return super().train(False)

    def _load(self, path: Path) -> str:
        """Copy the weights in and return the SHA-256 of what was used, the same for every file that holds them."""
        tensors, digest = _read(path), hashlib.sha256()
        for name, convolution in self.convolutions.items():
            for part, parameter in convolution.named_parameters():  # weight, then bias
                tensor = tensors.get(f"features.{_INDEX[name]}.{part}")
                if tensor is None:
                    held = [n.replace("conv", "relu") for n, i in _INDEX.items() if f"features.{i}.weight" in tensors]
                    deepest = f"holds VGG-19 only to {held[-1]}" if held else "holds no weights of VGG-19"
                    wanted = list(self.convolutions)[-1].replace("conv", "relu")
                    raise FstError(
                        f"{path} {deepest}, and {wanted} was asked for: choose other layers"
                        " (loss=default needs relu3_4 at most) or another file"
                    )
                if tensor.shape != parameter.shape:
                    raise FstError(
                        f"{path} is not VGG-19: {name} is {tuple(tensor.shape)}, not {tuple(parameter.shape)}"
                    )
                with torch.no_grad():
                    parameter.copy_(tensor)
                digest.update(parameter.detach().contiguous().numpy().tobytes())
        return digest.hexdigest()


def find_weights(
    weights: str | Path | None = None, on_progress: Callable[[DownloadProgress], None] | None = None
) -> Path:
    """The file with VGG-19's weights: the one given, else FST_VGG19_WEIGHTS, else torchvision's, fetched if need be."""
    if (known := find_local_weights(weights)) is not None:
        return known
    from torchvision.models import VGG19_Weights

    url = VGG19_Weights.IMAGENET1K_V1.url
    target = cached_weights()
    prefix = target.stem.rpartition("-")[2]
    try:
        return download(url, target, sha256=prefix, on_progress=on_progress)
    except FstError as error:
        raise FstError(
            f"{error}; or name a file: {_NAME_IT}; or fst train perceptual=lite, which needs none"
        ) from error


def find_local_weights(weights: str | Path | None = None) -> Path | None:
    """Like `find_weights`, but None instead of a download."""
    for source, value in (("perceptual.weights", weights), (WEIGHTS_VARIABLE, os.environ.get(WEIGHTS_VARIABLE))):
        if value:
            path = Path(value).expanduser()
            if not path.is_file():
                raise UsageError(f"{source}={value}: no such file")
            return path
    return cached_weights() if cached_weights().is_file() else None


def cached_weights() -> Path:
    """Where torchvision keeps VGG-19's weights, whether they are there or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / "vgg19-dcbb9e9d.pth"


def _read(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a .safetensors file or of a .pth file; code in a pickle is refused, not run."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its own message says how to run the code
        raise FstError(f"{path} holds code or is damaged: it was not opened; {_ANOTHER}") from error
    except Exception as error:  # the two readers raise a dozen kinds for damaged files
        raise FstError(f"{path} is damaged or no file of weights; {_ANOTHER}") from error
    if not isinstance(tensors, Mapping):
        raise FstError(f"{path} holds {type(tensors).__name__}, not weights by name; {_ANOTHER}")
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
