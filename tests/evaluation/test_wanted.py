"""Which pictures a model is scored by."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fst.bundle import Recipe
from fst.errors import UsageError
from fst.evaluation.wanted import find_styles
from fst.paths import carried

WOODCUT = carried("conf") / "style" / "pictures" / "woodcut.jpg"


def recipe(*styles: dict[str, Any], **inputs: Any) -> Recipe:
    return Recipe(name="m", styles=list(styles), inputs=inputs)


def part(path: Path, box: tuple[float, ...], side: int) -> np.ndarray:
    """A part of a picture, in fractions, at a longest side: (h, w, 3)."""
    with Image.open(path) as whole:
        box = tuple(round(b * n) for b, n in zip(box, [*whole.size, *whole.size], strict=True))
        cut = whole.convert("RGB").crop(box)
    factor = side / max(cut.size)
    return np.asarray(cut.resize((round(cut.width * factor), round(cut.height * factor)), Image.Resampling.LANCZOS))


def assert_is(picture: torch.Tensor, wanted: np.ndarray) -> None:
    assert picture.shape[2:] == wanted.shape[:2]
    assert np.abs(255 * picture[0].permute(1, 2, 0).numpy() - wanted).mean() < 2  # another way to make it smaller


def test_a_style_is_found_by_name_and_seen_as_it_was_learnt() -> None:
    sha = hashlib.sha256(WOODCUT.read_bytes()).hexdigest()
    (found,) = find_styles(
        recipe({"name": "woodcut", "size_px": [64, 96], "crop": [0, 0.25, 0.5, 1], "sha256": sha}), {}
    )
    assert (found.name, found.share) == ("woodcut", 1)
    for picture, side in zip(found.pictures, (64, 96), strict=True):
        assert_is(picture, part(WOODCUT, (0, 0.25, 0.5, 1), side))
    assert found.says == "woodcut at 64 and 96 px"
    (large,) = find_styles(recipe({"name": "woodcut", "size_px": [64]}), {"stroke": 2.0})
    assert max(large.pictures[0].shape[2:]) == 128
    (chosen,) = find_styles(recipe({"name": "woodcut", "size_px": [64]}), {}, size_px=[48])
    assert max(chosen.pictures[0].shape[2:]) == 48


def test_a_mix_is_scored_by_its_parts() -> None:
    of = recipe(
        *({"name": n, "size_px": [64]} for n in ("woodcut", "stained_glass", "pointillism")), styles=[1.0, 0, 0]
    )
    found = find_styles(of, {"styles": [0.25, 0.0, 0.75]})
    assert [(each.name, each.share) for each in found] == [("woodcut", 0.25), ("pointillism", 0.75)]
    assert found[1].says == "75% pointillism at 64 px"
    with pytest.raises(UsageError, match="one picture, and 2 styles are mixed"):
        find_styles(of, {"styles": [0.25, 0.0, 0.75]}, image=WOODCUT)


def test_a_given_picture_has_the_crop_of_the_one_learnt_where_it_is_that(
    tmp_path: Path, photo: Callable[..., Image.Image]
) -> None:
    same, other = tmp_path / "same.jpg", tmp_path / "other.png"
    shutil.copy(WOODCUT, same)
    photo(0, 90, 60).save(other)
    of = recipe({"name": "unknown", "size_px": [48], "crop": [0, 0, 0.5, 0.5],
                 "sha256": hashlib.sha256(WOODCUT.read_bytes()).hexdigest()})  # fmt: skip
    (found,) = find_styles(of, {}, image=same)
    assert_is(found.pictures[0], part(WOODCUT, (0, 0, 0.5, 0.5), 48))
    (found,) = find_styles(of, {}, image=other)
    assert_is(found.pictures[0], part(other, (0, 0, 1, 1), 48))
    assert max(find_styles(recipe(), {}, image=other)[0].pictures[0].shape) == 512


def test_what_is_not_to_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(of: Recipe, **options: Any) -> str:
        with pytest.raises(UsageError) as caught:
            find_styles(of, {}, **options)
        return str(caught.value)

    assert "m does not say what its style is called: add --style-image" in refused(recipe())
    for name in ("mine", "wave"):
        assert f"the picture that m learnt as {name!r} is not here" in refused(recipe({"name": name}))
    shutil.copy(WOODCUT, tmp_path / "wave.jpg")
    monkeypatch.setenv("FST_STYLES", str(tmp_path))
    assert find_styles(recipe({"name": "wave"}), {})[0].name == "wave"
    assert "wave.jpg is not the picture that m learnt as 'wave'" in refused(
        recipe({"name": "wave", "sha256": "0" * 64})
    )
    assert "none.jpg: no such file" in refused(recipe(), image=tmp_path / "none.jpg")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    assert "dot.png is 1x1 px: too small" in refused(recipe(), image=tmp_path / "dot.png")
