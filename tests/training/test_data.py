"""fst.training.data and crops: which photo comes when, and what happens to files that are no photos."""

import builtins
import io
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from fst.errors import FstError, UsageError
from fst.training.crops import Crops, HubRow, crop_photo, open_photo
from fst.training.data import CocoData, FolderData, HubData, PhotoData, PhotoStream, StreamSampler

Photo = Callable[..., Image.Image]


def folder_data(folder: Path, **changes: Any) -> FolderData:
    """Small crops, read in this process."""
    return FolderData(dir=folder, **({"size": 32, "batch_size": 2, "val_count": 2, "num_workers": 0} | changes))


def batches(data: PhotoData, count: int, *, start: int = 0, rank: int = 0, world: int = 1) -> list[torch.Tensor]:
    """The next batches, as the training step gets them, with `start` steps done before."""
    trainer = SimpleNamespace(world_size=world, global_rank=rank, global_step=start, accumulate_grad_batches=1)
    data.trainer = trainer  # type: ignore[assignment]
    loader = data.train_dataloader()
    return [
        data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)
        for batch in itertools.islice(loader, count)
    ]


def ready(folder: Path, **changes: Any) -> FolderData:
    data = folder_data(folder, **changes)
    data.setup()
    return data


# Which crop


@pytest.mark.parametrize("size", [(200, 140), (140, 200), (64, 64), (1000, 700)])
@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_is_the_box_scaled(photo: Photo, size: tuple[int, int], flip: bool) -> None:
    picture, side = photo(0, *size), 0.7 * min(size)
    left, top = 0.25 * (size[0] - side), 1.0 * (size[1] - side)
    exact = picture.resize((48, 48), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    got = crop_photo(picture, 48, 0.7, (0.25, 1.0), flip)
    assert got.dtype == torch.uint8
    assert got.shape == (3, 48, 48)
    expected = np.asarray(exact).transpose(2, 0, 1).astype(int)
    np.testing.assert_allclose(got.numpy()[..., ::-1] if flip else got.numpy(), expected, atol=2)


def test_every_place_lies_within_the_photo(photo: Photo) -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        width, height = random.integers(32, 90, 2)
        fraction = random.choice([1.0, 0.3, random.random() * 0.9 + 0.1])
        at = random.choice([0.0, 1.0, np.nextafter(1, 0), random.random()], 2)
        crop_photo(
            Image.new("RGB", (int(width), int(height))), 32, float(fraction), (float(at[0]), float(at[1])), False
        )


def test_crops_are_drawn_by_position() -> None:
    crops = Crops(32, 5, (0.6, 0.9), True)
    drawn = [crops.draw(position) for position in range(400)]
    assert drawn == [Crops(32, 5, [0.6, 0.9], True).draw(position) for position in range(400)]
    assert drawn != [Crops(32, 6, (0.6, 0.9), True).draw(position) for position in range(400)]
    fractions = np.array([fraction for fraction, _, _ in drawn])
    assert 0.6 <= fractions.min() < 0.61 < 0.89 < fractions.max() <= 0.9
    assert 0.4 < np.mean([flip for _, _, flip in drawn]) < 0.6
    assert not any(Crops(32, 5, (0.6, 0.9), False).draw(position)[2] for position in range(50))


# Which photo


def test_each_epoch_holds_every_photo_once_in_another_order(photos: Path) -> None:
    files = sorted(photos.iterdir())
    stream = PhotoStream(files, Crops(32, 0, (0.6, 1), True))
    epochs = [[stream._file(position, 0) for position in range(e * 8, e * 8 + 8)] for e in range(6)]
    assert all(sorted(epoch) == files for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_a_position_gives_the_same_crop_whoever_reads_it(photos: Path) -> None:
    first, second = (PhotoStream(sorted(photos.iterdir()), Crops(32, 0, (0.6, 1), True)) for _ in range(2))
    forwards = [first[position].pixels for position in range(20)]
    backwards = [second[position].pixels for position in reversed(range(20))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    other = PhotoStream(sorted(photos.iterdir()), Crops(32, 1, (0.6, 1), True))
    assert not all(torch.equal(first[position].pixels, other[position].pixels) for position in range(20))


def test_the_number_of_workers_changes_nothing(photos: Path) -> None:
    alone, two = (batches(ready(photos, num_workers=workers), 8) for workers in (0, 2))
    assert all(torch.equal(a, b) for a, b in zip(alone, two, strict=True))
    assert alone[0].dtype == torch.float32
    assert alone[0].shape == (2, 3, 32, 32)
    assert 0 <= alone[0].min() < alone[0].max() <= 1


def test_two_processes_share_what_one_reads(photos: Path) -> None:
    one = batches(ready(photos, batch_size=4), 6)
    halves = [batches(ready(photos, batch_size=2), 6, rank=rank, world=2) for rank in (0, 1)]
    for whole, left, right in zip(one, *halves, strict=True):
        assert torch.equal(whole, torch.cat([left, right]))


def test_sampler_positions() -> None:
    assert list(itertools.islice(StreamSampler(0, 2, 1, 3), 6)) == [2, 3, 8, 9, 14, 15]
    assert list(itertools.islice(StreamSampler(12, 2, 0, 3), 4)) == [12, 13, 18, 19]


def test_a_run_goes_on_where_it_stopped(photos: Path) -> None:
    whole = batches(ready(photos), 9)
    for a, b in zip(whole[4:], batches(ready(photos), 5, start=4), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning_resumes_the_stream(photos: Path, tmp_path: Path, accumulate: int) -> None:
    """With the real trainer: a run of 2 + 2 steps sees the batches of a run of 4."""

    class Seen(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.batches: list[torch.Tensor] = []

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            self.batches.append(batch)
            return (self.weight * batch.mean()).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    def run(steps: int, ckpt: Path | None = None) -> tuple[list[torch.Tensor], pl.Trainer]:
        task = Seen()
        trainer = pl.Trainer(
            accelerator="cpu", max_steps=steps, max_epochs=-1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
            accumulate_grad_batches=accumulate,
        )  # fmt: skip
        trainer.fit(task, datamodule=folder_data(photos), ckpt_path=ckpt, weights_only=True)
        return task.batches, trainer

    whole, _ = run(4)
    first, trainer = run(2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    second, _ = run(4, tmp_path / "two.ckpt")
    assert len(whole) == 4 * accumulate
    assert all(torch.equal(a, b) for a, b in zip(whole, first + second, strict=True))


# Which files


def turned(picture: Image.Image) -> Image.Exif:
    exif = picture.getexif()
    exif[0x0112] = 6
    return exif


@pytest.fixture
def mixed(tmp_path: Path, photo: Photo) -> Path:
    """Pictures of every kind, and files that only look like pictures (bad_*)."""
    folder = tmp_path / "mixed"
    (folder / "deeper").mkdir(parents=True)
    good = photo(1, 60, 48)
    good.save(folder / "rgb.jpg")
    good.convert("L").save(folder / "grey.jpg")
    good.convert("CMYK").save(folder / "cmyk.jpg")
    good.quantize(16).save(folder / "palette.png")
    good.convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(np.asarray(good.convert("L")).astype(np.uint16) * 257).save(folder / "deeper" / "sixteen.png")
    good.save(folder / "deeper" / "turned.jpg", exif=turned(good))
    (folder / "bad_text.jpg").write_text("not a picture")
    (folder / "bad_empty.png").touch()
    (folder / "bad_cut.jpg").write_bytes((folder / "rgb.jpg").read_bytes()[:300])
    photo(2, 8, 8).save(folder / "deeper" / "bad_tiny.png")
    (folder / "notes.txt").write_text("not listed at all")
    return folder


def test_files_that_are_no_photos_are_skipped_and_listed_once(mixed: Path) -> None:
    data = ready(mixed, val_count=1, batch_size=3)
    seen = batches(data, 12)  # three times round
    assert len(seen) == 12
    lines = sorted(data.skipped)
    assert [Path(line.split(":")[0]).name for line in lines] == [
        "bad_cut.jpg",
        "bad_empty.png",
        "bad_text.jpg",
        "bad_tiny.png",
    ]
    assert any("8x8 px, too small to learn from" in line for line in lines)
    assert all("\n" not in line and str(mixed) in line for line in lines)


def test_workers_report_what_they_skipped(mixed: Path) -> None:
    data = ready(mixed, val_count=1, batch_size=3, num_workers=1)
    batches(data, 12)
    assert len(data.skipped) == 4


def test_in_the_place_of_a_bad_file_stands_the_next(mixed: Path) -> None:
    files = sorted(mixed.glob("*.jpg"))
    stream = PhotoStream(files, Crops(32, 0, (1, 1), False))
    for position in range(16):
        asked = stream._file(position, 0)
        while asked.name.startswith("bad"):
            asked = files[(files.index(asked) + 1) % len(files)]
        assert torch.equal(stream[position].pixels, Crops(32, 0, (1, 1), False).cut(asked, position))


def test_photos_are_opened_upright_and_in_rgb(mixed: Path) -> None:
    plain = np.asarray(open_photo(mixed / "rgb.jpg", 32)).astype(int)
    assert plain.shape == (48, 60, 3)
    upright = np.asarray(open_photo(mixed / "deeper" / "turned.jpg", 32)).astype(int)
    assert upright.shape == (60, 48, 3)
    np.testing.assert_allclose(upright, np.rot90(plain, -1), atol=3)
    grey = np.asarray(open_photo(mixed / "grey.jpg", 32)).astype(int)
    sixteen = np.asarray(open_photo(mixed / "deeper" / "sixteen.png", 32)).astype(int)
    np.testing.assert_allclose(sixteen, grey, atol=6)
    for name in ("cmyk.jpg", "alpha.png"):
        assert abs(np.asarray(open_photo(mixed / name, 32)).astype(int) - plain).mean() < 12, name
    with Image.open(mixed / "palette.png") as palette:
        np.testing.assert_array_equal(
            np.asarray(open_photo(mixed / "palette.png", 32)), np.asarray(palette.convert("RGB"))
        )


def test_pictures_that_go_away_end_the_run_in_one_line(photos: Path) -> None:
    for workers in (0, 1):
        data = ready(photos, num_workers=workers)
        for file in data.files:
            file.rename(file.with_suffix(f".gone{workers}"))
        with pytest.raises(FstError, match=r"none of the \d pictures can be read: .*no such file") as caught:
            batches(data, 1)
        assert "\n" not in str(caught.value)
        for file in data.files:
            file.with_suffix(f".gone{workers}").rename(file)


def test_folders_without_photos(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"set data\.dir=FOLDER"):
        FolderData(dir=None)
    with pytest.raises(UsageError, match=r"data\.dir=.*missing: no such folder"):
        ready(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: not a folder"):
        ready(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no pictures in it or in the folders under it \(looked for .*\.jpg"):
        ready(tmp_path / "empty")
    (tmp_path / "empty" / "text.jpg").write_text("text")
    with pytest.raises(UsageError, match=r"none of the pictures in .*empty can be read: .*text\.jpg"):
        ready(tmp_path / "empty")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": 16}, "data.size must be a whole number of at least 32, not 16"),
        ({"size": "big"}, "data.size must be a whole number of at least 32, not 'big'"),
        ({"batch_size": 0}, "data.batch_size"),
        ({"val_count": 0}, "data.val_count"),
        ({"num_workers": -1}, "data.num_workers"),
        ({"seed": -1}, "data.seed must be a whole number of at least 0, not -1"),
        ({"crop_scale": [0.5, 1.2]}, "data.crop_scale is [smallest, largest] in (0, 1], not [0.5, 1.2]"),
        ({"crop_scale": [0.9, 0.5]}, "data.crop_scale"),
        ({"crop_scale": [0, 1]}, "data.crop_scale"),
        ({"crop_scale": 0.5}, "data.crop_scale"),
        ({"crop_scale": ["a", "b"]}, "data.crop_scale"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        folder_data(tmp_path, **changes)
    assert says in str(caught.value)


# Validation photos


def test_validation_photos_are_spread_and_kept_from_training(photos: Path) -> None:
    data = ready(photos)
    assert [file.name for file in sorted(photos.iterdir()) if file not in data.files] == ["00.jpg", "04.jpg"]
    with Image.open(photos / "04.jpg") as opened:
        expected = crop_photo(opened.convert("RGB"), 32, 1, (0.5, 0.5), False) / 255
    assert data.val_photos.shape == (2, 3, 32, 32)
    torch.testing.assert_close(data.val_photos[1], expected, atol=12 / 255, rtol=0)  # JPEG's own half-size decoding
    assert data.recipe() == {
        "source": "photos", "photos": 6, "size": 32, "batch_size": 2, "crop_scale": [0.6, 1.0], "flip": True,
    }  # fmt: skip


def test_validation_photos_of_another_folder(photos: Path, mixed: Path) -> None:
    data = ready(photos, val_dir=mixed, val_count=20)
    assert len(data.files) == 8
    assert len(data.val_photos) == 7
    assert len(data.skipped) == 4
    with pytest.raises(UsageError, match=r"data\.val_dir=.*no such folder"):
        ready(photos, val_dir=photos / "none")


def test_validation_photos_of_a_folder_within(photos: Path) -> None:
    (photos / "watch").mkdir()
    (photos / "07.jpg").rename(photos / "watch" / "07.jpg")
    assert photos / "watch" / "07.jpg" not in ready(photos, val_dir=photos / "watch").files


def test_small_folders_learn_from_what_they_watch(photos: Path) -> None:
    for file in sorted(photos.iterdir())[3:]:
        file.unlink()
    data = ready(photos, val_count=8)
    assert len(data.files) == len(data.val_photos) == 3
    assert len(batches(data, 4)) == 4


def test_the_only_photo_among_bad_files_is_learnt_from(photos: Path) -> None:
    for file in sorted(photos.iterdir())[1:]:
        file.write_text("text")
    for val_count in (1, 8):
        data = ready(photos, val_count=val_count)
        assert len(data.val_photos) == 1
        assert len(batches(data, 4)) == 4
        assert len(data.skipped) == 7


# COCO


def test_coco_layout(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "coco"
    shutil.copytree(photos, root / "train2017")
    options = {"size": 32, "batch_size": 2, "val_count": 2, "num_workers": 0}
    for given in (root, root / "train2017"):
        data = CocoData(dir=given, **options)  # type: ignore[arg-type]
        data.prepare_data()
        data.setup()
        assert data.dir == root / "train2017"
        assert len(data.files) == 6
        assert data.recipe()["source"] == "train2017"
    (root / "val2017").mkdir()
    (photos / "03.jpg").rename(root / "val2017" / "03.jpg")
    data = CocoData(dir=root, **options)  # type: ignore[arg-type]
    data.setup()
    assert data.val_dir == root / "val2017"
    assert (len(data.files), len(data.val_photos)) == (8, 1)
    assert CocoData(dir=root, split="val2017", **options).val_dir is None  # type: ignore[arg-type]


def test_coco_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"train2017: no such folder; data\.download=true fetches and unpacks COCO there"
    ):
        CocoData(dir=tmp_path).prepare_data()
    with pytest.raises(UsageError, match=r"data\.split must be one of train2017, val2017, not 'train'"):
        CocoData(dir=tmp_path, split="train")


def test_the_real_coco_layout(shared: Path) -> None:
    if not (shared / "coco").is_dir():
        pytest.skip("needs the folder coco in shared")
    data = CocoData(dir=shared / "coco", size=32, batch_size=4, val_count=4, num_workers=0)
    data.prepare_data()
    data.setup()
    assert (len(data.files), len(data.val_photos)) == (60, 4)
    assert batches(data, 1)[0].std() > 0.1
    assert not data.skipped


# Hugging Face datasets


@pytest.fixture
def hub(photo: Photo, tmp_path: Path) -> Path:
    """A folder for `datasets`' imagefolder: 00.png to 11.png, of which 01 and 06 are broken; each of one grey level."""
    pytest.importorskip("datasets")
    folder = tmp_path / "hub"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (40, 36), (20 * number,) * 3).save(folder / f"{number:02}.png")
    for number in (1, 6):
        (folder / f"{number:02}.png").write_bytes(b"broken")
    return folder


def hub_data(folder: Path, **changes: Any) -> HubData:
    load = {"data_dir": str(folder), "cache_dir": str(folder.parent / "cache")}
    options = {"size": 32, "batch_size": 2, "val_count": 2, "num_workers": 0, "load_options": load}
    data = HubData(path="imagefolder", **(options | changes))
    data.setup()
    return data


def rows(found: list[torch.Tensor]) -> list[int]:
    """Which pictures these are, by their grey level."""
    return [round(float(picture.mean()) * 255 / 20) for batch in found for picture in batch]


def test_hub_streams_what_can_be_read(hub: Path) -> None:
    data = hub_data(hub)
    np.testing.assert_allclose(data.val_photos.mean((1, 2, 3)).numpy() * 255, [0, 40], atol=0.6)
    # Rows 0 to 2 are watched or broken. 6 is broken: 7 stands in its place. Then it begins again.
    assert rows(batches(data, 8)) == [3, 4, 5, 7, 7, 8, 9, 10, 11, 3, 4, 5, 7, 7, 8, 9]
    assert [line.split(":")[0] for line in data.skipped] == ["row 1", "row 6"]
    assert all("no picture" in line and "the picture" not in line for line in data.skipped)
    assert data.recipe()["source"] == "imagefolder"


def test_hub_is_shared_and_resumed_like_a_folder(hub: Path) -> None:
    one = batches(hub_data(hub, batch_size=4), 5)
    halves = [batches(hub_data(hub), 5, rank=rank, world=2) for rank in (0, 1)]
    for whole, left, right in zip(one, *halves, strict=True):
        assert torch.equal(whole, torch.cat([left, right]))
    resumed = batches(hub_data(hub, batch_size=4, num_workers=2), 3, start=2)
    assert all(torch.equal(a, b) for a, b in zip(one[2:], resumed, strict=True))


def test_hub_of_few_pictures(hub: Path) -> None:
    data = hub_data(hub, val_count=8)
    assert len(data.val_photos) == 8
    assert rows(batches(data, 2)) == [0, 2, 2, 3]


def test_hub_within_an_archive(hub: Path, tmp_path: Path) -> None:
    """Streamed out of a ZIP, pictures have addresses and no paths."""
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", hub)
    load = {"data_files": {"train": [archive]}, "cache_dir": str(tmp_path / "cache")}
    assert rows(batches(hub_data(hub, load_options=load), 2)) == [3, 4, 5, 7]


def test_hub_errors(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"set data\.path=NAME"):
        HubData(path=None)
    with pytest.raises(UsageError, match=r"data\.column=picture: the dataset's columns are image"):
        hub_data(hub, column="picture")
    with pytest.raises(FstError, match=r"data\.path=imagefolder, split test: ") as caught:
        hub_data(hub, split="test")
    assert "\n" not in str(caught.value)
    with pytest.raises(FstError, match=r"data\.path=imagefolder, split train: "):
        hub_data(hub, load_options={"data_dir": str(tmp_path / "none")})
    for kind in ("cats", "dogs"):
        shutil.copytree(hub, tmp_path / "labelled" / kind)
    with pytest.raises(UsageError, match=r"data\.column=label holds int64, not pictures; the columns: image, label"):
        hub_data(tmp_path / "labelled", column="label")
    for file in hub.iterdir():
        file.write_bytes(b"broken")
    with pytest.raises(UsageError, match=r"data\.path=imagefolder: none of its first 8 pictures can be read"):
        hub_data(hub)


def test_hub_without_the_package(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name == "datasets":
            raise ModuleNotFoundError("No module named 'datasets'", name="datasets")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r"needs the package datasets: pip install '\.\[train\]'"):
        hub_data(hub)


def test_rows_without_a_picture(photo: Photo) -> None:
    file = io.BytesIO()
    photo(0, 50, 40).save(file, "PNG")
    row = HubRow(3, {"bytes": file.getvalue(), "path": None})
    assert open_photo(row, 32).size == (50, 40)
    for empty in (None, {"bytes": None, "path": None}, {"bytes": b"", "path": ""}):
        with pytest.raises(FstError, match="row 4: holds no picture"):
            open_photo(HubRow(4, empty), 32)
    with pytest.raises(FstError, match=r"row 5: /no/such\.png cannot be fetched"):
        open_photo(HubRow(5, {"bytes": None, "path": "/no/such.png"}), 32)


def test_a_hub_stream_that_turns_bad_ends_in_one_line(hub: Path) -> None:
    data = hub_data(hub)

    class Spoilt:
        def __iter__(self) -> Iterator[dict[str, Any]]:
            return iter([{"image": {"bytes": b"broken", "path": None}}] * 3)

    data.photos = Spoilt()
    with pytest.raises(FstError, match="the dataset has no picture that can be read"):
        batches(data, 1)
    assert [line.split(":")[0] for line in data.skipped] == ["row 1", "row 3", "row 4", "row 5"]


def test_crops_grow_over_the_run() -> None:
    crops = Crops(128, 0, (0.6, 1.0), True, start_size=32)
    assert {crops.size_at(p) for p in (0, 7, 10**6)} == {128}  # nothing grows unless the run says how long it is
    crops.grow_until(8, 6)
    sizes = [crops.size_at(p) for p in range(60)]
    assert sizes == sorted(sizes)
    assert all(len(set(sizes[step : step + 6])) == 1 for step in range(0, 60, 6))  # no batch has two sizes
    assert sizes[::6] == [32, 32, 32, 64, 64, 64, 96, 96, 128, 128]
    assert {size % 32 for size in sizes} == {0}


def test_a_run_begins_with_small_crops(photos: Path) -> None:
    data = FolderData(dir=photos, size=64, start_size=32, grow_share=0.5, batch_size=2, val_count=1, num_workers=0)
    data.trainer = SimpleNamespace(world_size=1, global_rank=0, global_step=0, accumulate_grad_batches=1, max_steps=8)  # type: ignore[assignment]
    data.setup("fit")
    sides = [batch.pixels.shape[-1] for batch, _ in zip(data.train_dataloader(), range(6), strict=False)]
    assert sides == [32, 32, 32, 32, 64, 64]
    data.trainer.max_steps = -1
    with pytest.raises(UsageError, match="set it"):
        data.train_dataloader()


@pytest.mark.parametrize("wrong", [{"start_size": 96}, {"start_size": 8}, {"grow_share": 0}, {"grow_share": 2.0}])
def test_growth_that_cannot_be(photos: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        FolderData(dir=photos, size=64, **wrong)  # type: ignore[arg-type]
