"""Photos found, repainted and timed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fst import images
from fst.errors import UsageError
from fst.evaluation.paintings import find_photos, means, medians, paint
from fst.inference import memory
from fst.inference.stylizer import Stylizer


def test_photos_are_found_once_and_pages_are_none(photos: Path) -> None:
    out = photos / "page"
    images.write(out / "pictures" / "x.jpg", np.zeros((16, 16, 3), np.uint8))
    eight = [photos / f"{number:02}.jpg" for number in range(8)]
    assert find_photos([photos / "03.jpg", photos], out=out) == [eight[3], *eight[:3], *eight[4:]]
    assert find_photos([out], out=out) == [out / "pictures" / "x.jpg"]  # asked for by name


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none: no such file or folder"):
        find_photos([tmp_path / "none"])
    with pytest.raises(UsageError, match="no pictures in it"):
        find_photos([tmp_path])


def test_a_photo_is_painted_as_the_stylizer_paints_it(photos: Path, painting_model: Path) -> None:
    wishes = [{"strength": 0.0}, {"stroke": 2.0, "styles": "green"}]
    first, second = paint(Stylizer(painting_model), sorted(photos.iterdir())[:2], max_side=40, wishes=wishes)
    assert first.photo.shape == (40, 32, 3)
    np.testing.assert_array_equal(first.results[0], first.photo)
    assert np.abs(first.results[1] - 255 * np.array([0.1, 0.6, 0.4])).max() <= 0.51
    assert second.photo.shape == (34, 40, 3)
    assert second.described() == {
        "photo": str(photos / "01.jpg"),
        "width": 40,
        "height": 34,
        "note": None,
        "milliseconds": second.milliseconds,
    }
    assert 0 < second.milliseconds < 1e4


def test_transparency_is_white(tmp_path: Path, inverting_model: Path) -> None:
    Image.new("RGBA", (20, 20), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    (painted,) = paint(Stylizer(inverting_model), [tmp_path / "clear.png"], max_side=512)
    assert painted.photo.min() == 255
    assert painted.results[0].max() == 0


def test_one_that_fails_does_not_stop_the_others(photos: Path, inverting_model: Path) -> None:
    (photos / "bad.jpg").write_text("no picture")
    Image.new("RGB", (15, 60)).save(photos / "thin.png")
    Image.new("RGB", (400, 20)).save(photos / "wide.png")
    names = ["bad.jpg", "thin.png", "wide.png", "00.jpg"]
    found = list(paint(Stylizer(inverting_model), [photos / name for name in names], max_side=64))
    assert "bad.jpg: is no picture" in str(found[0].error)
    assert "thin.png (15x60 px) is too small: 16 px at least are needed each way" in str(found[1].error)
    assert "wide.png (400x20 px) becomes 64x3 px and is too small" in str(found[2].error)
    np.testing.assert_array_equal(found[3].results[0], 255 - found[3].photo)


def test_memory_that_shrinks_on_the_way_changes_no_size(
    photos: Path, painting_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stylizer = Stylizer(painting_model)
    needed, least = (memory.needed_bytes(count, stylizer.recipe.net, frugal=True) for count in (40 * 32, 0))
    free = iter(np.linspace((needed + least) / 2, least, 1000, endpoint=False) / 0.85)
    monkeypatch.setattr(memory, "available_bytes", lambda: next(free))
    (painted,) = paint(stylizer, [photos / "00.jpg"], max_side=40, wishes=[{"strength": 0.0}, {"strength": 1.0}])
    assert painted.photo.shape[0] < 40
    assert [each.shape for each in painted.results] == [painted.photo.shape] * 2


def test_medians_and_means() -> None:
    rows = [{"photo": "a", "width": 9, "note": None, "style": s, "gatys_iterations": g}
            for s, g in ((1.0, 4), (2.0, None), (9.0, 7))]  # fmt: skip
    bad = {"photo": "b", "error": "no picture"}
    assert medians([bad, *rows]) == {"style": 2.0, "gatys_iterations": 7}
    assert medians(rows[:2]) == {"style": 1.5, "gatys_iterations": None}
    assert medians([rows[0], rows[2]])["gatys_iterations"] == 6  # of 5.5, to be reached
    assert medians([bad]) == {}
    assert means([bad, *rows]) == {"style": 4.0}
