"""Networks of other projects, made into fst's own.

Read so far: checkpoints of the fast neural style example of pytorch/examples, the most widely copied implementation of
Johnson et al. 2016. It is the network of nets/johnson.py but for its units: 0 to 255 in and out, and nothing
bounds them. The units are folded into the first and the last convolution.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fst.errors import FstError
from fst.nets.johnson import JohnsonNet

_CONVOLUTIONS = {
    "conv1": "down.0",
    "conv2": "down.1",
    "conv3": "down.2",
    "deconv1": "up.0.unit",
    "deconv2": "up.1.unit",
}
_NORMS = {"in1": "down.0", "in2": "down.1", "in3": "down.2", "in4": "up.0.unit", "in5": "up.1.unit"}


def load_pytorch_examples(path: str | Path) -> JohnsonNet:
    """Read a checkpoint of pytorch/examples' fast neural style: RGB in [0, 1] in and out, any size, same size out.

    Its running_mean and running_var of old files are not used by instance norm and are left out. Departure from the
    original: it returns up to 3 pixels more where a side is no multiple of 4; those are cut off here.

    Raises:
        FstError: no such file, not such a checkpoint, or a pickle that holds more than weights.
    """
    theirs = _read_state(Path(path))
    ours: dict[str, Tensor] = {}
    blocks = len({name.split(".")[0] for name in theirs if name.startswith("res")})
    try:
        for their_name, our_name in _CONVOLUTIONS.items():
            _copy(theirs, f"{their_name}.conv2d", ours, f"{our_name}.conv")
        for their_name, our_name in _NORMS.items():
            _copy(theirs, their_name, ours, f"{our_name}.norm")
        for block in range(blocks):
            for number, half in ((1, "first"), (2, "second")):
                _copy(theirs, f"res{block + 1}.conv{number}.conv2d", ours, f"trunk.{block}.{half}.conv")
                _copy(theirs, f"res{block + 1}.in{number}", ours, f"trunk.{block}.{half}.norm")
        _copy(theirs, "deconv3.conv2d", ours, "last.1")
        ours["down.0.conv.weight"] = ours["down.0.conv.weight"] * 255
        ours["last.1.weight"], ours["last.1.bias"] = ours["last.1.weight"] / 255, ours["last.1.bias"] / 255
        net = JohnsonNet(width=len(ours["down.0.conv.weight"]), blocks=blocks, output="clamp")
        net.load_state_dict(ours)
    except KeyError as error:
        raise FstError(
            f"{path} is not a checkpoint of pytorch/examples' fast neural style: it has no {error}"
        ) from error
    except RuntimeError as error:
        shape = str(error).strip().splitlines()[-1].strip()
        raise FstError(f"{path} is not the network of pytorch/examples' fast neural style: {shape}") from error
    return net


def _copy(theirs: Mapping[str, Tensor], their_name: str, ours: dict[str, Tensor], our_name: str) -> None:
    for part in ("weight", "bias"):
        ours[f"{our_name}.{part}"] = theirs[f"{their_name}.{part}"].float()


def _read_state(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a pickled checkpoint, read by torch's restricted unpickler: code in it is refused, not run."""
    if not path.is_file():
        raise FstError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    with path.open("rb") as file:
        head = file.read(2)
    if head != b"PK" and head[:1] != b"\x80":  # the zip that torch writes; the bare pickle of old files
        raise FstError(f"{path}: not a PyTorch checkpoint; give a .pth of another project")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's protocol
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        unsafe = "Unsupported" in str(error) or "weights_only" in str(error).lower() or "WeightsUnpickler" in str(error)
        why = (
            "it holds more than weights, which may be code, and is not opened"
            if unsafe
            else "damaged, or no checkpoint"
        )
        raise FstError(f"{path}: {why}") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    named = isinstance(state, Mapping) and all(isinstance(name, str) for name in state)
    if not named or not all(isinstance(value, Tensor) for value in state.values()):
        raise FstError(f"{path}: not weights by name")
    return {name.removeprefix("module."): value for name, value in state.items()}
