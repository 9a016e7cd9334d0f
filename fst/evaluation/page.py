"""What `fst eval`, `fst compare` and `fst gallery` leave in a folder: index.html, pictures, results.json. No torch."""

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePath

from fst import images, page
from fst.errors import UsageError
from fst.evaluation.paintings import Painting, Result
from fst.files import whole_file
from fst.page import Cell, Grid

_COLUMNS = {
    "content": ("content", "{:.4f}"),
    "style": ("style", "{:.4f}"),
    "photo_style": ("photo's own", "{:.4f}"),
    "style_share": ("share", "{:.0%}"),
    "total": ("total", "{:.4f}"),
    "tv": ("tv", "{:.3f}"),
    "ssim": ("SSIM", "{:.3f}"),
    "pixel_distance": ("pixel distance", "{:.3f}"),
    "perceptual_distance": ("perceptual distance", "{:.3f}"),
    "gatys_iterations": ("Gatys iterations", "{}"),
    "times_reference": ("times reference", "{:.2f}"),
    "milliseconds": ("ms", "{:.0f}"),
}
_BELOW = ("content", "style", "style_share", "total", "ssim", "gatys_iterations", "times_reference", "milliseconds")
_EXPLAINED = (
    "content and style are the normalised losses of training, 0 the best; photo's own is the style loss of the "
    "unpainted photo, and share what is left of it. total is 0.1 content + style. tv is the roughness, over that of "
    "the style's picture. SSIM is the likeness to the photo, 1 the most. ms is for one repainting on this machine."
)
_TIME = "ms is for one repainting on this machine."
_DISTANCES = "pixel distance and perceptual distance are means over all pairs of the variations of a photo."
_SCALE = (
    "Gatys iterations: after so many steps of gradient descent on the photo's own pixels, the total is as low as the "
    "network's. times reference is the total over the lowest of those steps: 1 is as good."
)


class Folder:
    """A page that grows picture by picture, and is written at the end.

    Args:
        path: the folder.
        overwrite: whether a page that is there already may be replaced.

    Raises:
        UsageError: it is no folder, or there is a page in it.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise UsageError(f"-o {path} is a file: give a folder")
        for name in ("index.html", "results.json"):
            if (path / name).exists() and not overwrite:
                raise UsageError(f"{path / name} exists: --overwrite replaces it")

    def keep(self, name: str, pixels: images.Pixels, *, quality: int = 95) -> PurePath:
        """Write a picture, (H, W, 3) uint8, as JPEG; returns its place seen from the page."""
        safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).strip("._")
        place = PurePath("pictures", f"{safe}.jpg")
        images.write(self.path / place, pixels, quality=quality)
        return place

    def write(self, title: str, notes: Sequence[str], grids: Sequence[Grid], result: Result) -> Path:
        """Write results.json and the page, whose place is returned."""
        return self.finish(result, lambda path: page.write(path, title, notes, grids))

    def finish(self, result: Result, write: Callable[[Path], None]) -> Path:
        """Write results.json, and the page by `write`, which is given its place; so is the caller."""
        with whole_file(self.path / "results.json") as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        write(self.path / "index.html")
        return self.path / "index.html"


class ScorePage:
    """The page of `fst eval`: each photo with the styles, what became of it, its reference and its scores.

    Args:
        folder: where it is written.
        model: its name.
        styles: of each, its name, what there is to say of it, and its picture, (H, W, 3) uint8.
        iterations: of the reference; 0: there is none.
    """

    def __init__(
        self, folder: Folder, model: str, styles: Sequence[tuple[str, str, images.Pixels]], *, iterations: int = 0
    ) -> None:
        self.folder, self.model, self.iterations = folder, model, iterations
        self._styles = [
            Cell([says], folder.keep(f"style_{name}", pixels), f"the picture of the style {name}")
            for name, says, pixels in styles
        ]
        self._results = 1
        self._rows: list[tuple[str, list[Cell]]] = []

    def add(self, painting: Painting, row: Result, reference: images.Pixels | None = None) -> None:
        """The next photo; its row of results goes below its first repainting."""
        name, stem = painting.path.name, photo_stem(len(self._rows), painting)
        if painting.error is not None:
            self._rows.append((name, [Cell([painting.error])]))
            return
        cells = [_photo(self.folder, stem, painting), *self._styles]
        self._results = len(painting.results)
        for number, result in enumerate(painting.results, 1):
            which = f", variation {number}" if self._results > 1 else ""
            place = self.folder.keep(f"{stem}_painted{f'_{number}' if which else ''}", result)
            lines = _below(row, self.iterations) if number == 1 else []
            if which and lines:
                lines.insert(0, "all variations, on average:")
            cells.append(Cell(lines, place, f"{name} repainted by {self.model}{which}"))
        if reference is not None:
            place = self.folder.keep(f"{stem}_reference", reference)
            least = f"total {min(row['gatys_totals']):.4f}"
            cells.append(Cell([least], place, f"{name} painted by gradient descent on its pixels"))
        self._rows.append((name, cells))

    def write(self, result: Result) -> Path:
        """Write page and results, of which "photos" and "median" become a table, and return the page's place."""
        columns = ["", "photo", *("style" for _ in self._styles)]
        columns += [self.model] if self._results == 1 else [f"variation {n + 1}" for n in range(self._results)]
        columns += [f"reference: {self.iterations} Gatys iterations"] if self.iterations else []
        rows = [(name, [*cells, *[Cell()] * (len(columns) - 1 - len(cells))]) for name, cells in self._rows]
        headings, lines = score_table(result["photos"], result["median"], iterations=self.iterations)
        table = [(line[0], [Cell([text]) for text in line[1:]]) for line in lines]
        grids = [Grid(headings, table, "scores"), Grid(columns, rows, "pictures")]
        return self.folder.write(
            f"{self.model}, scored", [*result["notes"], *explained(result["median"])], grids, result
        )


class ComparePage:
    """The page of `fst compare`: a row for each photo, a column for each model.

    Args:
        folder: where it is written.
        models: how they are called.
        photos: how many there are.
    """

    def __init__(self, folder: Folder, models: Sequence[str], photos: int) -> None:
        self.folder, self.models = folder, models
        self._names = [""] * photos
        self._cells = [[Cell()] * (1 + len(models)) for _ in range(photos)]

    def add(self, model: int, photo: int, painting: Painting, row: Result) -> None:
        """What became of a photo in the hands of a model; both by number."""
        self._names[photo] = name = painting.path.name
        if painting.error is not None:
            self._cells[photo][1 + model] = Cell([painting.error])
            return
        stem = photo_stem(photo, painting)
        if self._cells[photo][0] == Cell():  # by the first model that could paint it
            self._cells[photo][0] = _photo(self.folder, stem, painting)
        place = self.folder.keep(f"{stem}_{model + 1}", painting.results[0])
        lines = _below(row)
        self._cells[photo][1 + model] = Cell(lines, place, f"{name} repainted by {self.models[model]}")

    def write(self, result: Result) -> Path:
        """Write page and results, of whose "models" each "median" becomes a row, and return the page's place."""
        medians = [model["median"] for model in result["models"]]
        headings, lines = median_table(self.models, medians)
        table = [(line[0], [Cell([text]) for text in line[1:]]) for line in lines]
        pictures = Grid(["", "photo", *self.models], list(zip(self._names, self._cells, strict=True)), "pictures")
        notes = [*result["notes"], *explained({name: value for each in medians for name, value in each.items()})]
        return self.folder.write("models compared", notes, [Grid(headings, table, "medians"), pictures], result)


def photo_stem(number: int, painting: Painting) -> str:
    """What the files of a photo's pictures begin with: no two photos share it, however long their names are."""
    return f"{number:03}_{painting.path.stem[:40]}"


def _photo(folder: Folder, stem: str, painting: Painting) -> Cell:
    """The photo as it was painted."""
    height, width = painting.photo.shape[:2]
    return Cell([f"{width}x{height}"], folder.keep(stem, painting.photo), f"the photo {painting.path.name}")


def score_table(rows: Sequence[Result], median: Result, *, iterations: int = 0) -> tuple[list[str], list[list[str]]]:
    """Headings, and a line of text for each photo that was painted, with the medians in the last."""
    painted = [(Path(row["photo"]).name, row) for row in rows if "error" not in row]
    return _table("photo", [*painted, *([("median", median)] if median else [])], iterations)


def median_table(models: Sequence[str], medians: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Headings, and a line of text for each model, by its medians; what one of them lacks is left empty."""
    return _table("model", list(zip(models, medians, strict=True)), 0)


def explained(scores: Collection[str]) -> list[str]:
    """What scores of these names mean, a paragraph each."""
    told = [_EXPLAINED if "content" in scores else _TIME]
    told += [_DISTANCES] if "pixel_distance" in scores else []
    return told + ([_SCALE] if "gatys_iterations" in scores else [])


def _below(row: Result, iterations: int = 0) -> list[str]:
    """Scores for below a picture: "style 0.0312"."""
    texts = ((_COLUMNS[name][0], _text(row, name, iterations)) for name in _BELOW if name in row)
    return [f"{text} ms" if heading == "ms" else f"{heading} {text}" for heading, text in texts]


def _table(first: str, rows: Sequence[tuple[str, Result]], iterations: int) -> tuple[list[str], list[list[str]]]:
    named = [name for name in _COLUMNS if any(name in row for _, row in rows)]
    lines = [[label, *(_text(row, name, iterations) for name in named)] for label, row in rows]
    return [first, *(_COLUMNS[name][0] for name in named)], lines


def _text(row: Result, name: str, iterations: int) -> str:
    """A score as text; where more than so many iterations would be needed, that."""
    if name not in row:
        return ""
    value = row[name]
    return f"more than {iterations}" if value is None else _COLUMNS[name][1].format(value)
