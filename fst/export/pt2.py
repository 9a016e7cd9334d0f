"""torch -> a .pt2 program of torch.export, or a package compiled by AOTInductor; and back.

Unlike a bundle, a .pt2 file can run code as it is loaded (torch unpickles parts of it, and a package is machine code):
it is for programs of one's own, in C++ or Python, and not for files from others.
"""

import copy
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.fx.experimental import _config

from fst import bundle
from fst.errors import FstError
from fst.export.onnx import PARITY_SIZES, compare, example_inputs, quiet
from fst.files import whole_file

RECIPE_FILE = "fst.recipe"


def program_of(net: nn.Module) -> "torch.export.ExportedProgram":
    """`net` as a program: `image` (B, 3, H, W) float32 in [0, 1], any batch, H, W >= 16 -> the same.

    Its further inputs go by keyword.
    """
    net = copy.deepcopy(net).float().cpu().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    image, further = torch.rand(2, 3, 64, 80, generator=generator), example_inputs(net, 2, generator)
    dynamic = torch.export.Dim.DYNAMIC
    axes: dict[str, Any] = {"image": {0: dynamic, 2: dynamic(min=16), 3: dynamic(min=16)}}
    axes |= {name: {0: dynamic} for name in further}
    # Else the program holds only for sizes that are multiples of what the network divides by, as those of `image` are.
    with quiet(), _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        return torch.export.export(net, (image,), further, dynamic_shapes=axes)


def write(path: Path, net: nn.Module, recipe: bundle.Recipe, *, aot: bool = False) -> float:
    """Write `net` as a .pt2 file and return its largest absolute difference from `net`.

    Args:
        aot: compile it, for this machine's processor, with AOTInductor.

    Raises:
        FstError: it does not compile here, or differs from `net` by 1/255 or more; the disk refuses.
    """
    program, extra = program_of(net), {RECIPE_FILE: recipe.to_json()}
    with whole_file(path) as part:
        if aot:
            _compile(program, part)
            with zipfile.ZipFile(part, "a") as archive:
                archive.writestr(f"{_root(archive)}/extra/{RECIPE_FILE}", recipe.to_json())
        else:
            with quiet():
                torch.export.save(program, part, extra_files=extra)
        again, _ = read(part)
        return compare(copy.deepcopy(net).float().cpu().eval(), again, (*PARITY_SIZES, (64, 80)))


def _compile(program: "torch.export.ExportedProgram", path: Path) -> None:
    try:
        with quiet():
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    except Exception as error:  # a missing or failing compiler, and all that inductor may raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FstError(
            f"AOTInductor cannot compile it here ({reason[0][:200]}); leave --aot out, or install g++"
        ) from error


def read(path: Path) -> tuple[nn.Module, bundle.Recipe]:
    """The network and recipe in a .pt2 file, compiled or not. It may run code: only for files that one trusts.

    Raises:
        FstError: not a .pt2 file that fst wrote, or one that this torch cannot load.
    """
    recipe, compiled = _look(path)
    try:
        with quiet():
            if compiled:
                return _Compiled(torch._inductor.aoti_load_package(str(path))), recipe
            return torch.export.load(path).module(), recipe
    except Exception as error:  # another version's file, another machine's code
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FstError(f"{path}: torch {torch.__version__} cannot load it ({reason[:200]}); export it again") from error


class _Compiled(nn.Module):
    def __init__(self, package: Any) -> None:
        super().__init__()
        self._package = package

    def forward(self, image: torch.Tensor, **further: torch.Tensor) -> torch.Tensor:
        stylized: torch.Tensor = self._package(image, **further)
        return stylized


def _look(path: Path) -> tuple[bundle.Recipe, bool]:
    """The recipe in a .pt2 file, and whether it is compiled."""
    try:
        with zipfile.ZipFile(path) as archive:
            recipe = bundle.Recipe.from_json(archive.read(f"{_root(archive)}/extra/{RECIPE_FILE}").decode())
            return recipe, any("/aotinductor/" in name for name in archive.namelist())
    except OSError as error:
        raise FstError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from error
    except (zipfile.BadZipFile, KeyError, IndexError, UnicodeDecodeError, bundle.BundleError) as error:
        raise FstError(f"{path}: damaged, or not a .pt2 file of fst export ({type(error).__name__})") from error


def _root(archive: zipfile.ZipFile) -> str:
    return archive.namelist()[0].split("/")[0]
