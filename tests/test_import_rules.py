"""Repainting never imports torch; training works where wandb and datasets are absent."""

import subprocess
import sys

import numpy as np
import pytest

from fst import images

_HEAVY = ("torch", "torchvision", "pytorch_lightning", "hydra", "omegaconf", "datasets", "wandb", "onnx")


def imported_by(code):
    """The heavy modules in sys.modules after running `code` in a fresh interpreter."""
    probe = f"import sys\n{code}\nprint('HEAVY', [m for m in {_HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return done.stdout.rpartition("HEAVY ")[2].strip()


@pytest.mark.parametrize(
    "code",
    [
        "import fst",
        "import fst; fst.Stylizer",
        "from fst.cli import main; main(['--help'])",
        "from fst.cli import main; main(['styles', '--no-timing'])",
        "from fst.cli import main; assert main(['show', 'any']) == 0",
        "from fst.cli import main; main(['completion', 'bash'])",
    ],
)
def test_light_half_imports_nothing_heavy(code):
    assert imported_by(code) == "[]"


def test_a_whole_stylize_imports_nothing_heavy(tmp_path, inverting_model):
    images.write(tmp_path / "a.jpg", np.zeros((20, 20, 3), np.uint8))
    argv = ["stylize", str(tmp_path / "a.jpg"), "--style", str(inverting_model), "-o", str(tmp_path / "out")]
    assert imported_by(f"from fst.cli import main; assert main({argv!r}) == 0") == "[]"
    assert (tmp_path / "out" / "a.jpg").is_file()


def test_a_comparison_without_scores_imports_nothing_heavy(tmp_path, inverting_model):
    images.write(tmp_path / "a.jpg", np.zeros((20, 20, 3), np.uint8))
    model, out = str(inverting_model), tmp_path / "out"
    argv = ["compare", model, model, "--content", str(tmp_path / "a.jpg"), "-o", str(out)]
    assert imported_by(f"from fst.cli import main; assert main({argv!r}) == 0") == "[]"
    assert (out / "index.html").is_file()


def test_a_gallery_imports_nothing_heavy(tmp_path, painting_model):
    images.write(tmp_path / "a.jpg", np.zeros((20, 20, 3), np.uint8))
    model, out = str(painting_model), tmp_path / "out"
    argv = ["gallery", "--style", model, "--content", str(tmp_path / "a.jpg"), "-o", str(out)]
    assert imported_by(f"from fst.cli import main; assert main({argv!r}) == 0") == "[]"
    assert (out / "index.html").is_file()


def test_import_fst_is_cheap():
    assert imported_by("import fst; assert not {'numpy', 'PIL', 'onnxruntime', 'rich'} & set(sys.modules)") == "[]"


def test_training_imports_where_wandb_and_datasets_are_absent():
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('wandb', 'datasets', 'tensorboard'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import fst.training.train\n"
        "print('imported')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "imported", done.stderr
