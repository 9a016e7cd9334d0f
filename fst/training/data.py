"""Training photos: where they come from, how they are cropped, and in which order.

The order is a pure function of the seed and the position in the stream: position p of the stream is the same crop of
the same photo whoever reads it. A run that goes on starts at the position where it stopped, and several processes share
the stream batch by batch, so that neither a restart nor the number of processes changes what is learnt.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from fst import images
from fst.errors import FstError, UsageError
from fst.training.coco import COCO_ARCHIVES, CocoProgress, fetch_coco
from fst.training.crops import MIN_SIDE_PX, Crops, HubRow, Sample, check_whole, crop_photo, open_photo


class PhotoStream(Dataset[Sample]):
    """Random crops of picture files: item p is position p of the endless, shuffled stream.

    In the place of a picture that cannot be read stands the next in the listing that can.
    """

    def __init__(self, files: Sequence[Path], crops: Crops) -> None:
        self.files, self.crops = list(files), crops

    def __getitem__(self, position: int) -> Sample:
        skipped: list[str] = []
        for attempt in range(len(self.files)):
            try:
                return Sample(self.crops.cut(self._file(position, attempt), position), skipped)
            except FstError as error:
                skipped.append(str(error))
        return Sample(torch.empty(0), skipped, f"none of the {len(self.files)} pictures can be read: {skipped[0]}")

    def _file(self, position: int, attempt: int) -> Path:
        epoch, index = divmod(position, len(self.files))
        return self.files[(int(_order(self.crops.seed, epoch, len(self.files))[index]) + attempt) % len(self.files)]


_orders: dict[tuple[int, int, int], np.ndarray] = {}


def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The shuffled order of an epoch, remembered while it is in use."""
    key = (seed, epoch, count)
    if key not in _orders:
        if len(_orders) > 1:  # the last epoch's and this one's are enough
            _orders.pop(next(iter(_orders)))
        _orders[key] = np.random.default_rng((seed, epoch, 0xF57)).permutation(count)
    return _orders[key]


class StreamSampler(Sampler[int]):
    """This process's share of the stream's positions, from `start` on, without end.

    Global batch g holds positions g * batch * world to (g + 1) * batch * world; process r reads the r-th part of it.
    """

    def __init__(self, start: int, batch: int, rank: int, world: int) -> None:
        self.start, self.batch, self.rank, self.world = start, batch, rank, world

    def __iter__(self) -> Iterator[int]:
        first = self.start + self.rank * self.batch
        while True:
            yield from range(first, first + self.batch)
            first += self.batch * self.world


class PhotoData(pl.LightningDataModule):
    """Photos to learn from and a few to watch. Sub-classes say where they come from.

    Args:
        size: side of the training crops, in pixels.
        start_size: side of the first crops, which grow to `size` over `grow_share` of the run; None: all are alike.
        grow_share: fraction of the run's steps with crops below `size`.
        batch_size: photos per step and process.
        crop_scale: smallest and largest side of a crop as a fraction of the photo's short side.
        flip: mirror half of the crops.
        val_count: photos that are restyled as it goes, and scored; they are kept from training where there are at least
            four times as many.
        num_workers: processes that read photos; None picks by the machine.
        seed: of order and crops.

    Raises:
        UsageError: a value that cannot be.
    """

    def __init__(
        self,
        *,
        size: int = 256,
        batch_size: int = 4,
        crop_scale: Sequence[float] = (0.6, 1.0),
        flip: bool = True,
        val_count: int = 8,
        num_workers: int | None = None,
        seed: int = 0,
        start_size: int | None = None,
        grow_share: float = 0.7,
    ) -> None:
        super().__init__()
        check_whole("batch_size", batch_size, 1)
        if not (isinstance(grow_share, int | float) and 0 < grow_share <= 1):
            raise UsageError(f"data.grow_share must be in (0, 1], not {grow_share!r}")
        check_whole("val_count", val_count, 1)
        if num_workers is not None:
            check_whole("num_workers", num_workers, 0)
        self.size, self.batch_size, self.val_count = size, batch_size, val_count
        self.crops = Crops(size, seed, crop_scale, flip, start_size)
        self.grow_share = grow_share
        self.num_workers = min(8, max(1, (os.cpu_count() or 1) // 2)) if num_workers is None else num_workers
        self.on_transfer: Callable[[CocoProgress], None] | None = None  # told how a download goes
        self.skipped: dict[str, None] = {}  # lines, in the order in which they came up, each once
        self.val_photos = torch.empty(0)  # (val_count, 3, size, size) float32 in [0, 1]

    def stream(self, start: int, rank: int, world: int) -> tuple[Dataset[Sample], Sampler[int] | None]:
        """The photos from position `start` of the stream on, this process's share of them."""
        raise NotImplementedError

    def recipe(self) -> dict[str, Any]:
        """What the model file says of the photos."""
        return {
            "size": self.size,
            **({"start_size": self.crops.sizes[0], "grow_share": self.grow_share} if len(self.crops.sizes) > 1 else {}),
            "batch_size": self.batch_size,
            "crop_scale": list(self.crops.scale),
            "flip": self.crops.flip,
        }

    def train_dataloader(self) -> DataLoader[Sample]:
        """The loader, from where the run stands on."""
        assert self.trainer is not None
        world, rank = self.trainer.world_size, self.trainer.global_rank
        accumulated = self.trainer.accumulate_grad_batches
        done = self.trainer.global_step * accumulated
        if len(self.crops.sizes) > 1:
            if self.trainer.max_steps < 1:
                raise UsageError("data.start_size grows over trainer.max_steps: set it")
            per_step = self.batch_size * world * accumulated
            self.crops.grow_until(round(self.grow_share * self.trainer.max_steps), per_step)
        dataset, sampler = self.stream(done * self.batch_size * world, rank, world)
        workers = self.num_workers if sampler is not None else min(1, self.num_workers)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_leave_signals_to_the_run,
        )

    def on_before_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Tensor:
        """Note what was skipped; the pixels go on. Raises FstError where there are none."""
        self.skipped.update(dict.fromkeys(batch.skipped))
        if batch.failure:
            raise FstError(batch.failure)
        return batch.pixels

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
        """uint8 -> float32 in [0, 1], on the device: a quarter of the bytes travel."""
        return batch.float().div_(255)

    def _watch(self, candidates: Iterable[Any]) -> list[Any]:
        """Take the first `val_count` readable pictures as validation photos (centre crops); return those taken."""
        taken, crops = [], []
        for source in candidates:
            try:
                photo = open_photo(source, self.size)
            except FstError as error:
                self.skipped[str(error)] = None
                continue
            taken.append(source)
            crops.append(crop_photo(photo, self.size, 1.0, (0.5, 0.5), False))
            if len(taken) == self.val_count:
                break
        if taken:
            self.val_photos = torch.stack(crops).float().div_(255)
        return taken


def _collate(samples: Sequence[Sample]) -> Sample:
    """(B, 3, size, size) uint8, everything that was skipped, and the first failure."""
    skipped = [line for sample in samples for line in sample.skipped]
    failure = next((sample.failure for sample in samples if sample.failure), "")
    return Sample(torch.empty(0) if failure else torch.stack([s.pixels for s in samples]), skipped, failure)


def _leave_signals_to_the_run(worker: int) -> None:
    """Leave the process group, which Ctrl-C and many a SIGTERM are sent to: the run ends its workers itself."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()


class FolderData(PhotoData):
    """Any tree of pictures.

    Args:
        dir: the folder.
        val_dir: a folder of photos to watch; None keeps `val_count` of `dir`'s for it (where it has enough).
        **options: see PhotoData.

    Raises:
        UsageError: no such folder, or no picture in it.
    """

    def __init__(self, *, dir: str | Path | None, val_dir: str | Path | None = None, **options: Any) -> None:  # noqa: A002
        super().__init__(**options)
        if not dir:
            raise UsageError("no photos to learn from: set data.dir=FOLDER")
        self.dir, self.val_dir = Path(dir).expanduser(), Path(val_dir).expanduser() if val_dir else None
        self.files: list[Path] = []

    def setup(self, stage: str | None = None) -> None:
        """List the photos and read those to watch."""
        self.files = _list(self.dir, "data.dir")
        if self.val_dir is not None:
            taken = self._watch(_list(self.val_dir, "data.val_dir"))
        else:
            # Spread over the listing, so that sorted names do not put one kind of photo aside.
            step = max(1, len(self.files) // self.val_count)
            taken = self._watch(file for offset in range(step) for file in self.files[offset::step])
        if not taken:
            raise UsageError(
                f"none of the pictures in {self.val_dir or self.dir} can be read: {next(iter(self.skipped))}"
            )
        kept = set(taken)
        others = [file for file in self.files if file not in kept]
        if len(self.files) >= 4 * len(taken) and any(map(_is_readable, others)):
            self.files = others

    def stream(self, start: int, rank: int, world: int) -> tuple[Dataset[Sample], Sampler[int]]:
        return PhotoStream(self.files, self.crops), StreamSampler(start, self.batch_size, rank, world)

    def recipe(self) -> dict[str, Any]:
        return {"source": self.dir.name, "photos": len(self.files), **super().recipe()}


def _is_readable(file: Path) -> bool:
    try:
        open_photo(file, MIN_SIDE_PX)
    except FstError:
        return False
    return True


def _list(folder: Path, key: str) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{key}={folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    files = images.find_pictures(folder)
    if not files:
        kinds = " ".join(sorted(images.READABLE_SUFFIXES))
        raise UsageError(f"{key}={folder}: no pictures in it or in the folders under it (looked for {kinds})")
    return files


class CocoData(FolderData):
    """The photos of COCO (Lin et al. 2014), as its archives unpack them.

    Args:
        dir: the folder that holds, or will hold, train2017/ and perhaps val2017/; or one of those itself.
        split: the archive to learn from.
        download: fetch and unpack the official archive (18 GB) first when it is not there.
        **options: see FolderData.
    """

    def __init__(
        self,
        *,
        dir: str | Path | None,  # noqa: A002
        split: str = "train2017",
        download: bool = False,
        val_dir: str | Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(dir=dir, val_dir=val_dir, **options)
        if split not in COCO_ARCHIVES:
            raise UsageError(f"data.split must be one of {', '.join(COCO_ARCHIVES)}, not {split!r}")
        self.root = self.dir.parent if self.dir.name == split else self.dir
        self.dir, self.split, self.download = self.root / split, split, download
        if self.val_dir is None and split == "train2017" and (self.root / "val2017").is_dir():
            self.val_dir = self.root / "val2017"

    def prepare_data(self) -> None:
        """Fetch the archive where asked; only one process of a machine does."""
        if self.download:
            fetch_coco(self.root, self.split, on_progress=self.on_transfer)
        elif not self.dir.is_dir():
            raise UsageError(f"{self.dir}: no such folder; data.download=true fetches and unpacks COCO there (18 GB)")


class HubData(PhotoData):
    """Photos streamed from a Hugging Face dataset, without keeping them on disk. Needs the package `datasets`.

    Args:
        path: the dataset's name on the hub, or what else `datasets.load_dataset` takes ("imagefolder").
        column: its column of pictures.
        split: its split.
        load_options: more arguments for `datasets.load_dataset`.
        **options: see PhotoData.
    """

    def __init__(
        self,
        *,
        path: str | None,
        column: str = "image",
        split: str = "train",
        load_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not path:
            raise UsageError("no dataset to learn from: set data.path=NAME")
        self.path, self.column, self.split, self.load_options = path, column, split, dict(load_options or {})
        self.photos: Any = None
        self.watched_rows = 0  # at the head of the dataset, kept from training

    def setup(self, stage: str | None = None) -> None:
        """Open the stream; its first photos are the ones to watch."""
        try:
            import datasets
        except ModuleNotFoundError:
            raise UsageError("data=hub needs the package datasets: pip install '.[train]' in fst's checkout") from None
        try:
            photos = datasets.load_dataset(self.path, split=self.split, streaming=True, **self.load_options)
            columns = photos.column_names or list(next(iter(photos)))
            kind = getattr((photos.features or {}).get(self.column), "dtype", "string")
        except Exception as error:  # it lets through whatever a dataset's loader and the network raise
            raise self._failed(error) from error
        if self.column not in columns:
            raise UsageError(f"data.column={self.column}: the dataset's columns are {', '.join(columns)}")
        if kind not in ("PIL.Image.Image", "string", "binary", "large_string", "large_binary"):
            raise UsageError(f"data.column={self.column} holds {kind}, not pictures; the columns: {', '.join(columns)}")
        # Decoding is left to us, so that one unreadable picture is skipped and does not end the stream.
        photos = photos.cast_column(self.column, datasets.Image(decode=False))
        try:
            first = [HubRow(i, row[self.column]) for i, row in enumerate(photos.take(4 * self.val_count))]
        except Exception as error:  # see above
            raise self._failed(error) from error
        taken = self._watch(first)
        if not taken:
            raise UsageError(f"data.path={self.path}: none of its first {len(first)} pictures can be read")
        self.watched_rows = taken[-1].number + 1 if len(first) == 4 * self.val_count else 0
        self.photos = photos.skip(self.watched_rows)

    def _failed(self, error: Exception) -> FstError:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return FstError(f"data.path={self.path}, split {self.split}: {reason[0]}")

    def stream(self, start: int, rank: int, world: int) -> tuple[Dataset[Sample], None]:
        return _HubStream(self.photos, self, start, rank, world), None

    def recipe(self) -> dict[str, Any]:
        return {"source": self.path, "split": self.split, **super().recipe()}


class _HubStream(IterableDataset[Sample]):
    """This process's share of a streamed dataset, begun again whenever it ends.

    Position p of the stream is row p, counted on over the passes; in the place of a row that cannot be read stands the
    next that can. So every process knows which rows are its own without looking at the others'.
    """

    def __init__(self, photos: Any, data: HubData, start: int, rank: int, world: int) -> None:
        self.photos, self.column, self.crops, self.first_row = photos, data.column, data.crops, data.watched_rows
        self.start, self.batch, self.rank, self.world = start, data.batch_size, rank, world

    def __iter__(self) -> Iterator[Sample]:
        position, skipped = 0, []
        due: list[int] = []  # positions that wait for a row that can be read
        while True:
            begun_at, found = position, not due
            for number, row in enumerate(self.photos, self.first_row):
                if position >= self.start and position // self.batch % self.world == self.rank:
                    due.append(position)
                position += 1
                if not due:
                    continue
                try:
                    crops = [self.crops.cut(HubRow(number, row[self.column]), p) for p in due]
                except FstError as error:
                    skipped.append(str(error))
                    continue
                for crop in crops:
                    yield Sample(crop, skipped)
                    skipped = []
                due, found = [], True
            if position == begun_at or not found:
                yield Sample(torch.empty(0), skipped, "the dataset has no picture that can be read")
                return
