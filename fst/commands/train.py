"""`fst train`: learn a style. The configuration is Hydra's, see conf/ and `fst train --help`."""

import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fst.commands.progress import display
from fst.errors import UsageError

if TYPE_CHECKING:
    from fst.training.callbacks import TrainProgress

_NEEDED = ("torch", "torchvision", "pytorch_lightning", "hydra", "onnx", "onnxscript")


def require_training() -> None:
    """Raise UsageError where the training half is not installed."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UsageError(f"this needs {', '.join(missing)}: pip install '.[train]' in fst's checkout")


def main(argv: Sequence[str]) -> int:
    """Run `fst train`."""
    began = time.monotonic()
    require_training()
    from fst.training import train

    shown = display()

    def show(progress: "TrainProgress") -> None:
        shown.show("training", "step", progress.step, progress.max_steps, _numbers(progress))

    try:
        return train.main(argv, on_progress=show, on_transfer=shown.transfer, say=shown.say, began=began)
    finally:
        shown.close()


def _numbers(progress: "TrainProgress") -> str:
    if not progress.terms:
        return ""
    terms = "  ".join(f"{name} {value:.4f}" for name, value in progress.terms.items() if name != "tv")
    return f"{terms}  {progress.images_per_second:.1f} images/s"
