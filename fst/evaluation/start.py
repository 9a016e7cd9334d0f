"""What a whole `fst stylize` costs, beside the shortest script that does the same with the same model."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from fst import bundle, images
from fst.errors import FstError
from fst.evaluation.rounds import Result, Say
from fst.inputs import neutral

MINIMAL = """
import sys
import numpy as np
import onnxruntime
from PIL import Image
pixels = np.asarray(Image.open(sys.argv[1]).convert("RGB"), dtype=np.float32) / 255
session = onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
further = {name: np.array([value], np.float32) for name, value in FURTHER.items()}
(out,) = session.run(None, {"image": pixels.transpose(2, 0, 1)[None], **further})
Image.fromarray((out[0].transpose(1, 2, 0) * 255).round().clip(0, 255).astype(np.uint8)).save(sys.argv[3], quality=95)
"""
# Starts a command and waits for it. Small on purpose: Linux counts the memory of the process that starts another as
# the other's own peak.
_LAUNCHER = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - began
mb = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
print(json.dumps({"seconds": seconds, "peak_rss_mb": mb, "code": os.waitstatus_to_exitcode(status)}))
"""


def measure(
    style: str = "starry_night", photo: Path | None = None, *, rounds: int = 7, say: Say = lambda line: None
) -> dict[str, list[Result]]:
    """Wall seconds and peak MB of both, in turn; a first round, which warms the file cache, does not count.

    Args:
        style: a shipped style or a model file.
        photo: None draws one of 512x512.
        rounds: how often each is run.
        say: told which round it is.

    Returns:
        {"fst": [...], "minimal": [...]}, each round as {"seconds", "peak_rss_mb"}.

    Raises:
        FstError: one of them failed.
        UsageError: a model that needs more than a photo.
    """
    found: dict[str, list[Result]] = {"fst": [], "minimal": []}
    with tempfile.TemporaryDirectory(prefix="fst-bench-") as name:
        folder = Path(name)
        if photo is None:
            coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            photo = folder / "photo.jpg"
            images.write(photo, images.resize(coarse, (512, 512)))
        model, out = bundle.locate(style), [str(folder / "a.jpg"), str(folder / "b.jpg")]
        further = {name: neutral(name, declared) for name, declared in bundle.read_recipe(model).inputs.items()}
        script = folder / "minimal.py"
        script.write_text(f"FURTHER = {further!r}{MINIMAL}", encoding="utf-8")
        command = Path(sys.executable).with_name("fst")
        fst = [str(command)] if command.exists() else [sys.executable, "-m", "fst"]
        commands = {
            "fst": [*fst, "stylize", str(photo), "-s", str(model), "-o", out[0], "--overwrite"],
            "minimal": [sys.executable, str(script), str(photo), str(model), out[1]],
        }
        for number in range(rounds + 1):
            say(f"round {number} of {rounds}" if number else "warming up")
            for side, words in commands.items():
                turn = _launch(words)
                if number:
                    found[side].append(turn)
    return found


def _launch(words: list[str]) -> Result:
    """Run a command; its wall seconds and peak MB."""
    launched = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *words], capture_output=True, text=True, check=False
    )
    if launched.returncode:
        raise FstError(f"cannot measure {words[0]}: {(launched.stderr.strip().splitlines() or ['?'])[-1]}")
    turn: Result = json.loads(launched.stdout)
    if turn.pop("code"):
        raise FstError(f"{' '.join(words[:3])} failed: {(launched.stderr.strip().splitlines() or ['?'])[-1]}")
    return turn
