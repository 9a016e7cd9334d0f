"""The page of `fst gallery`: a section for each style, the photos in it with sliders. It fetches nothing."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path, PurePath

import numpy as np

from fst import card, page
from fst.evaluation.gallery import Exhibit
from fst.evaluation.page import Folder, explained, photo_stem
from fst.evaluation.paintings import Painting, Result

_QUALITY = 90  # of JPEG: two thirds of the bytes of 95, as there are many
_HOW = "Drag across a picture, or use the arrow keys on it, to lay the photo bare."
_STYLE = """\
:root { --focus: #0a58ca }
@media (prefers-color-scheme: dark) { :root { --focus: #8ab8ff } }
@media (max-width: 40rem) { body { margin: 1rem } }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px }
a { color: inherit }
nav { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .3rem 1rem }
section { margin-top: 2rem; padding-top: 1rem; border-top: 1px solid var(--line) }
header { display: flex; flex-wrap: wrap; gap: 1rem; margin-bottom: 1rem }
header img { width: auto; max-width: min(100%, 16rem); max-height: 8rem; margin: 0 }
h2 { margin: 0 0 .3rem; font-size: 1.2rem; overflow-wrap: anywhere }
.photos { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)) }
figure { margin: 0; min-width: 0 }
figcaption { color: var(--soft); overflow-wrap: anywhere; font-variant-numeric: tabular-nums }
.view { --at: 0%; position: relative; overflow: hidden; margin-bottom: .4rem }
.view img { width: 100%; max-width: none; margin: 0 }
.view img + img { position: absolute; inset: 0; height: 100% }
.view .before { clip-path: inset(0 calc(100% - var(--at)) 0 0) }
.split { position: absolute; top: 0; left: -1.25rem; width: calc(100% + 2.5rem); height: 100%; margin: 0; padding: 0;
  background: none; outline: none; cursor: ew-resize; touch-action: pan-y; appearance: none; -webkit-appearance: none }
.split::-webkit-slider-runnable-track { height: 100%; background: none }
.split::-moz-range-track { height: 100%; background: none }
.split::-webkit-slider-thumb { width: 2.5rem; height: 100%; background: none; -webkit-appearance: none }
.split::-moz-range-thumb { width: 2.5rem; height: 100%; background: none; border: 0 }
.line { position: absolute; inset: 0; pointer-events: none }
.line::before, .line::after { content: ""; position: absolute; left: var(--at); transform: translate(-50%, -50%);
  top: 50%; width: 2px; height: 100%; background: #fff; box-shadow: 0 0 0 1px #0008 }
.line::after { width: 1.2rem; height: 1.2rem; border-radius: 50% }
.split:focus-visible + .line { box-shadow: inset 0 0 0 4px var(--focus) }
.strength { display: flex; align-items: center; gap: .6rem; font-variant-numeric: tabular-nums }
.strength input { flex: 1; min-width: 0; accent-color: var(--focus) }
"""
# Layers lie in the order of their strengths: one that is opaque covers those below it.
_SCRIPT = """\
for (const figure of document.querySelectorAll("figure")) {
  const view = figure.querySelector(".view"), split = figure.querySelector(".split");
  const uncover = () => view.style.setProperty("--at", split.value + "%");
  split.addEventListener("input", uncover);
  uncover();
  const strength = figure.querySelector(".strength input");
  if (!strength) continue;
  const layers = [...view.querySelectorAll("[data-strength]")], shown = figure.querySelector(".strength span");
  const fade = () => {
    layers.forEach((layer, number) => {
      if (number === 0) return;
      const below = Number(layers[number - 1].dataset.strength), own = Number(layer.dataset.strength);
      layer.style.opacity = Math.min(1, Math.max(0, (strength.value - below) / (own - below)));
    });
    shown.textContent = Number(strength.value).toFixed(2);
  };
  strength.addEventListener("input", fade);
  fade();
}
"""


class GalleryPage:
    """The page, which grows painting by painting.

    Args:
        folder: where it is written.
        exhibits: the styles.
    """

    def __init__(self, folder: Folder, exhibits: Sequence[Exhibit]) -> None:
        self.folder, self.exhibits = folder, exhibits
        self._photos: dict[int, PurePath] = {}
        self._figures: list[list[str]] = [[] for _ in exhibits]
        self._styles = [
            None if each.picture is None else folder.keep(f"style_{number + 1}", each.picture, quality=_QUALITY)
            for number, each in enumerate(exhibits)
        ]

    def add(self, style: int, photo: int, painting: Painting) -> None:
        """What became of a photo in a style; both by number."""
        if painting.error is not None:
            return
        exhibit, name, stem = self.exhibits[style], painting.path.name, photo_stem(photo, painting)
        if photo not in self._photos:
            self._photos[photo] = self.folder.keep(stem, painting.photo, quality=_QUALITY)
        height, width = painting.photo.shape[:2]
        size, layers = f'width="{width}" height="{height}"', []
        for strength, result in zip(exhibit.strengths or (1.0,), painting.results, strict=True):
            place = self._photos[photo]
            if not np.array_equal(result, painting.photo):  # as at strength 0
                place = self.folder.keep(f"{stem}_{style + 1}_{round(100 * strength)}", result, quality=_QUALITY)
            alt = f"{name} repainted by {exhibit.name}" if strength == 1 else ""  # one of them is enough to be read out
            layers.append(page.image(place, alt, f'{size} data-strength="{strength:g}"'))
        before = page.image(self._photos[photo], f"the photo {name}", f'{size} class="before"')
        split = _slider(f"share of the photo {name} that is laid bare", 'class="split" max="100" value="50"')
        lines = ['<figure><div class="view">', *layers, before, split, '<span class="line"></span></div>']
        if exhibit.strengths:
            slider = _slider(f"strength of {exhibit.name} on {name}", 'max="1" step="0.01" value="1"')
            lines.append(f'<div class="strength">strength {slider} <span>1.00</span></div>')
        caption = f"{name}, {width}x{height}, {painting.milliseconds:.0f} ms"
        self._figures[style].append("\n".join([*lines, f"<figcaption>{escape(caption)}</figcaption></figure>"]))

    def write(self, result: Result) -> Path:
        """Write page and results, whose "notes" stand above, and return the page's place."""
        notes = [*result["notes"], *explained(()), _HOW]
        return self.folder.finish(
            result, lambda path: page.write_body(path, "gallery", notes, self._parts(), style=_STYLE, script=_SCRIPT)
        )

    def _parts(self) -> Iterator[str]:
        links = (f'<a href="#style_{n + 1}">{escape(each.name)}</a>' for n, each in enumerate(self.exhibits))
        yield "\n".join(["<nav>", *links, "</nav>"])
        for number, (exhibit, place, figures) in enumerate(
            zip(self.exhibits, self._styles, self._figures, strict=True)
        ):
            picture = "" if place is None else page.image(place, f"the picture of the style {exhibit.name}")
            made = f"{exhibit.recipe.method}, {card.net_in_words(exhibit.recipe.net)}"
            says = "".join(f"<p>{escape(line)}</p>" for line in (exhibit.credit, made) if line)
            head = f"<header>{picture}<div><h2>{escape(exhibit.name)}</h2>{says}</div></header>"
            yield "\n".join([f'<section id="style_{number + 1}">', head, '<div class="photos">', *figures])
            yield "</div></section>"


def _slider(label: str, attributes: str) -> str:
    return f'<input type="range" min="0" {attributes} aria-label="{escape(label)}">'
