"""fst.training.style_pool: where style pictures come from, and how they are cut."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fst.errors import FstError, UsageError
from fst.training import style_pool
from fst.training.style_pool import StylePool, recolored


def flat(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (48, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    """A folder of four dark red pictures, one below another folder, and a dark green picture."""
    for number in range(4):
        flat(tmp_path / "red" / ("deep" if number else ".") / f"{number}.png", (60 + number, 0, 0))
    return [str(tmp_path / "red"), str(flat(tmp_path / "green.png", (0, 60, 0)))]


def test_every_place_is_drawn_as_often_as_the_others(places: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pool = StylePool(places)
    assert (len(pool), pool.names) == (5, ["red", "green"])
    monkeypatch.setattr(style_pool, "recolored", lambda crop: crop)
    torch.manual_seed(0)
    crops = pool.draw(400, 8)
    assert crops.shape == (400, 3, 8, 8)
    assert crops.dtype == torch.float32
    green = (crops[:, 1].mean((1, 2)) > 0.1).float().mean().item()
    assert green == pytest.approx(0.5, abs=0.08)
    reds = (crops[crops[:, 0, 0, 0] > 0.1][:, 0, 0, 0] * 255).round().long()
    assert set(reds.tolist()) == {60, 61, 62, 63}
    torch.manual_seed(0)
    assert torch.equal(pool.draw(400, 8), crops)


def test_crops_are_parts_of_the_picture_mirrored_and_turned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two ramps, red to the right and green down, every crop is a ramp, from three tenths of it to all."""
    down, right = np.mgrid[:200, :300]
    ramps = np.stack([right * 255 // 299, down * 255 // 199, 0 * down], 2).astype(np.uint8)
    Image.fromarray(ramps).save(tmp_path / "ramp.png")
    monkeypatch.setattr(style_pool, "recolored", lambda crop: crop)
    torch.manual_seed(0)
    crops = StylePool([str(tmp_path / "ramp.png")]).draw(200, 16)
    across, along = crops.diff(dim=3).mean((2, 3)), crops.diff(dim=2).mean((2, 3))  # (200, 3)
    red_across = across[:, 0].abs() > along[:, 0].abs()
    assert 0.3 < red_across.float().mean() < 0.7, "turned"
    assert 0.3 < (across[red_across][:, 0] > 0).float().mean() < 0.7, "mirrored"
    spans = (crops[:, 1].amax((1, 2)) - crops[:, 1].amin((1, 2))) * 16 / 15  # of the short side
    assert 0.25 < spans.min() < 0.4
    assert 0.9 < spans.max() < 1.1


def test_recoloured_pictures_keep_their_shapes() -> None:
    """Every channel is a rising or falling curve of one of the picture's."""
    picture = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    orders = {tuple(each.flatten().argsort().tolist()) for channel in picture for each in (channel, -channel)}
    seen = set()
    for _ in range(20):
        other = recolored(picture)
        assert 0 <= other.min() < other.max() <= 1
        seen |= {tuple(channel.flatten().argsort().tolist()) for channel in other}
    assert seen == orders


def test_the_middle_of_the_first_picture(tmp_path: Path) -> None:
    wide = Image.new("RGB", (90, 40), (255, 0, 0))
    wide.paste((0, 0, 255), (25, 0, 65, 40))
    wide.save(tmp_path / "wide.png")
    middle = StylePool([str(tmp_path / "wide.png")]).whole(0, 32)
    assert middle.shape == (1, 3, 32, 32)
    inner = middle[..., 4:-4, 4:-4]  # it was enlarged: edges are soft
    torch.testing.assert_close(inner, torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1).expand_as(inner), atol=0.03, rtol=0)


def test_large_pictures_are_kept_smaller_and_large_folders_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat(tmp_path / "one.png", (1, 2, 3), (1600, 1280))
    assert StylePool([str(tmp_path / "one.png")]).pictures[0][0].shape == (3, 512, 640)
    for number in range(9):
        flat(tmp_path / "many" / f"{number}.png", (number, 0, 0))
    monkeypatch.setattr(style_pool, "_MOST", 4)
    (kept,) = StylePool([str(tmp_path / "many")]).pictures
    assert [int(picture[0, 0, 0]) for picture in kept] == [0, 3, 6]


def test_in_a_folder_what_cannot_be_used_is_passed_over(tmp_path: Path) -> None:
    flat(tmp_path / "good.png", (9, 9, 9))
    flat(tmp_path / "small.png", (9, 9, 9), (31, 40))
    (tmp_path / "text.jpg").write_text("no picture")
    assert len(StylePool([str(tmp_path)])) == 1


def test_places_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "text.jpg").write_text("no picture")
    for place, said in (
        ("empty", "styles=empty: no pictures in it"),
        ("bad", "styles=bad: none of its 1 pictures can be read and has 32 pixels a side"),
        ("none/", "styles=none/: no such folder or picture"),
        ("bad/none.jpg", "no such folder or picture"),
        ("wav", "no style is called 'wav': did you mean wave?"),
        ("bad/text.jpg", "is no picture"),
    ):
        with pytest.raises(FstError, match=said) as caught:
            StylePool([place])
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"learns from styles=\[FOLDER,wave"):
        StylePool([])
