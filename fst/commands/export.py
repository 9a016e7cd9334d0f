"""`fst export`: a model file from a training run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from fst.commands.arguments import Parser
from fst.commands.train import require_training
from fst.errors import UsageError


def parser() -> argparse.ArgumentParser:
    """The arguments of `fst export`."""
    made = Parser("fst export", "Make a model file of a run's folder, a checkpoint (.ckpt) or another model file.")
    made.add_argument("source", type=Path, metavar="RUN", help="a run's folder, a .ckpt, a .safetensors or an .onnx")
    made.add_argument(
        "--out",
        "-o",
        type=Path,
        required=True,
        metavar="FILE",
        help="X.onnx; X.safetensors to train on; X.pt2 for torch.export",
    )
    made.add_argument("--float16", action="store_true", help="store the weights of an .onnx in half the bytes")
    made.add_argument("--int8", action="store_true", help="quantise an .onnx, and write it only if that is faster")
    made.add_argument("--calibrate", type=Path, metavar="PHOTOS", help="a folder of photos to quantise by (--int8)")
    made.add_argument("--aot", action="store_true", help="compile a .pt2 for this processor (needs a C++ compiler)")
    return made


def main(argv: Sequence[str]) -> int:
    """Run `fst export`."""
    a = parser().parse_args(argv)
    if a.int8 != (a.calibrate is not None):
        raise UsageError("--int8 and --calibrate PHOTOS go together")
    require_training()
    from fst import bundle
    from fst.export import model

    model.check_target(a.out)
    model.check_options(a.out, float16=a.float16, int8=a.int8, aot=a.aot)
    if a.source.suffix == ".pt2":
        raise UsageError(f"{a.source}: a .pt2 is not made into other files: give the model that it was made of")
    net, recipe = model.read(a.source if a.source.exists() else bundle.locate(a.source))
    model.write(a.out, net, recipe, float16=a.float16, calibration=a.calibrate, aot=a.aot)
    print(a.out)
    return 0
