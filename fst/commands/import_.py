"""`fst import`: a model file from another project's checkpoint."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from fst.commands.arguments import Parser
from fst.commands.train import require_training


def parser() -> argparse.ArgumentParser:
    """The arguments of `fst import`."""
    made = Parser(
        "fst import",
        "Make a model file of a checkpoint of pytorch/examples' fast neural style (.pth, .model).",
    )
    made.add_argument("checkpoint", type=Path, metavar="FILE", help="the checkpoint; code in it is refused, not run")
    made.add_argument(
        "--out", "-o", type=Path, required=True, metavar="FILE", help="X.onnx, or X.safetensors to train on"
    )
    made.add_argument("--license", help="of the checkpoint, for the model file")
    return made


def main(argv: Sequence[str]) -> int:
    """Run `fst import`."""
    a = parser().parse_args(argv)
    require_training()
    from fst import bundle, nets
    from fst.export import foreign, model

    model.check_target(a.out)
    net = foreign.load_pytorch_examples(a.checkpoint)
    data = {"source": f"imported from {a.checkpoint.name}, a checkpoint of pytorch/examples' fast neural style"}
    model.write(a.out, net, bundle.Recipe(name=a.out.stem, net=nets.recipe_of(net), data=data, license=a.license))
    print(a.out)
    return 0
