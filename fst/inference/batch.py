"""Many pictures: which file becomes which, and one after the other."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fst import images
from fst.errors import FstError, UsageError
from fst.inference.regions import Regions
from fst.inference.stylizer import Stylizer
from fst.inference.variations import draw


@dataclass(frozen=True)
class Job:
    """A picture to repaint, the file to write, and the number of the variation (see variations.py)."""

    source: Path
    target: Path
    number: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of a job: the size of the result and what there is to say of it, or the error."""

    job: Job
    size: tuple[int, int] = (0, 0)
    milliseconds: float = 0.0
    note: str | None = None
    error: str | None = None


def plan(
    sources: Sequence[str | Path], out: str | Path, *, overwrite: bool = False, variations: int | None = None
) -> list[Job]:
    """Which files will be read and written.

    `out` with a picture's suffix is a file, and takes one picture; else it is a folder. Outputs keep the name and the
    place below a given folder; kinds that cannot be written become .png. So many `variations` of x.png are x_1.png,
    x_2.png and so on.

    Raises:
        UsageError: nothing to repaint, two pictures for one file, or a file that would be overwritten.
    """
    out = Path(out).expanduser()
    found: list[tuple[Path, Path]] = []  # the file, and its name below the output folder
    for source in map(Path, sources):
        if source.is_dir():
            found += [(file, file.relative_to(source)) for file in images.pictures_below(source, out=out)]
        else:
            found.append((source, Path(source.name)))
    if out.suffix.lower() in images.WRITABLE_SUFFIXES and not out.is_dir():
        if len(found) != 1:
            raise UsageError(f"-o {out} is one file, and there are {len(found)} pictures: give a folder")
        jobs = [Job(found[0][0], out)]
    else:
        if out.suffix.lower() in images.READABLE_SUFFIXES and not out.is_dir():
            kinds = " ".join(images.WRITABLE_SUFFIXES)
            raise UsageError(f"-o {out}: pictures of this kind are not written: end the name with one of {kinds}")
        if out.exists() and not out.is_dir():
            raise UsageError(f"-o {out} is a file, but not a picture's: give a folder")
        jobs = [Job(file, out / _writable(name)) for file, name in found]
    if variations is not None:
        jobs = [Job(job.source, _numbered(job.target, n + 1), n) for job in jobs for n in range(variations)]
    _refuse_collisions(jobs, overwrite)
    return jobs


def _writable(name: Path) -> Path:
    return name if name.suffix.lower() in images.WRITABLE_SUFFIXES else name.with_suffix(".png")


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}_{number}{path.suffix}")


def _refuse_collisions(jobs: Sequence[Job], overwrite: bool) -> None:
    by_target: dict[Path, Path] = {}
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        target = job.target.resolve()
        if target in by_target and by_target[target] != job.source.resolve():
            raise UsageError(f"{by_target[target]} and {job.source} would both become {job.target}: use two folders")
        if target == job.source.resolve():
            raise UsageError(f"{job.source} would be replaced by its own repainting: choose another -o")
        if target in sources:  # x_1.jpg, where x.jpg is painted in many ways
            raise UsageError(f"{job.target} would be replaced by a repainting of {job.source}: choose another -o")
        if job.target.exists() and not overwrite:
            raise UsageError(f"{job.target} exists: --overwrite replaces it")
        by_target[target] = job.source.resolve()


def run(
    jobs: Iterable[Job],
    stylizer: Stylizer | Regions,
    *,
    quality: int = 95,
    seed: int | None = None,
    diversity: float | None = None,
    **wishes: Any,
) -> Iterator[Outcome]:
    """Repaint one after the other; what fails is reported and does not stop the others.

    Args:
        jobs: see `plan`.
        stylizer: the model.
        quality: of JPEG and WebP, 1 to 100.
        seed: of the variations, which are the jobs' numbers; None draws none.
        diversity: see variations.draw.
        wishes: see `Stylizer.inputs`.

    Raises:
        UsageError: wishes that the model cannot fulfil, or variations of a model that has none; before the first
            picture.
    """
    declared, name, settled = stylizer.recipe.inputs, stylizer.recipe.name, stylizer.inputs(**wishes)
    if seed is not None:
        draw(declared, seed, 0, diversity=diversity, model=name)
    for job in jobs:
        started = time.perf_counter()
        try:
            images.writable_format(job.target)
            picture = images.read(job.source)
            plan = stylizer.plan(picture.size)
            drawn = {} if seed is None else draw(declared, seed, job.number, diversity=diversity, model=name)
            restyled = stylizer.restyle(picture, plan, **settled | drawn)
            images.write(job.target, restyled, quality=quality)
        except FstError as error:
            yield Outcome(job, error=str(error))
            continue
        yield Outcome(job, restyled.size, (time.perf_counter() - started) * 1e3, plan.note)
