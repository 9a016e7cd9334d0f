"""A model's card: what its file says of it, in Markdown, as long as nobody has written a better one. No torch."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fst import bundle
from fst.bundle import Bundle, Recipe
from fst.inputs import KINDS
from fst.paths import carried

_LIMITS = "Nobody has described them yet."


def written(model: Path) -> Path | None:
    """The card beside a model file, NAME.md, if there is one; an empty file, as `> NAME.md` begins, is none."""
    path = model.with_suffix(".md")
    return path if path.is_file() and path.stat().st_size else None


def files(model: Bundle) -> list[Bundle]:
    """The model's file, and that of its style encoder where it has one. Raises BundleError for a damaged one."""
    beside = bundle.encoder_of(model.path)
    return [model, bundle.read(beside)] if beside.is_file() else [model]


def compose(model: Bundle) -> str:
    """A card of what the recipe knows; its limits are left to be written.

    Raises:
        BundleError: the file of its style encoder is damaged.
    """
    recipe = model.recipe
    rows = [("method, net", f"{recipe.method}, {net_in_words(recipe.net)}"), ("weights", _count(model))]
    rows += [(f"style {style.get('name')}", _style(style)) for style in recipe.styles]
    rows += [(f"`{KINDS[name].option}`", _input(name, neutral)) for name, neutral in recipe.inputs.items()]
    rows += [("training", _training(recipe)), ("photos", _photos(recipe.data)), ("losses", _losses(recipe.losses))]
    rows += [("perceptual network", _perceptual(recipe.perceptual)), ("scores at the end", _scores(recipe.metrics))]
    rows += [("licence", recipe.license or "not known")]
    rows += [(f"`{each.path.name}`", f"{_megabytes(each)}, SHA-256 {each.sha256}") for each in files(model)]
    rows += [("made", f"{recipe.created}, fst {recipe.fst_version}")]
    table = "\n".join(f"| {_plain(name)} | {_plain(text)} |" for name, text in rows if text)
    return (
        f"# {_plain(recipe.name)}\n\n{_plain(_opening(model))}\n\n| | |\n| --- | --- |\n{table}\n\n"
        f"## Limits\n\n- {_LIMITS}\n"
    )


def made_by(name: str, recipe: Recipe) -> str:
    """The keys of `fst train` that make one like a carried model: "experiment=wave, then experiment=[wave,finish]"."""
    if (carried("conf") / "experiment" / f"{name}_first.yaml").is_file():
        return f"experiment={name}_first, then experiment={name}"
    if recipe.method == "perstyle" and "stroke" in recipe.inputs:
        return f"experiment={name}, then experiment=[{name},finish]"
    return f"experiment={name}"


def net_in_words(net: Mapping[str, Any]) -> str:
    """A network's recipe: "fast (width 32, blocks 4)"; what is inside another comes first."""
    inner = net.get("net")
    own = ", ".join(_setting(key, value) for key, value in net.items() if key not in ("name", "net") and value)
    told = f"{net.get('name', 'unknown')}{f' ({own})' if own else ''}"
    return f"{net_in_words(inner)}, {told}" if isinstance(inner, Mapping) else told


def net_name(net: Mapping[str, Any]) -> str:
    """The name of a network; that of the one inside, where another makes it adjustable."""
    inner = net.get("net")
    return net_name(inner) if isinstance(inner, Mapping) else str(net.get("name", "unknown"))


def credit(style: Mapping[str, Any]) -> str:
    """The work that a style was learnt from: title, artist, year, licence, as far as they are known."""
    return ", ".join(str(style[key]) for key in ("title", "artist", "year", "license") if style.get(key))


def _opening(model: Bundle) -> str:
    recipe, command = model.recipe, f"fst stylize photo.jpg --style {shlex.quote(model.path.name)}"
    if "style_code" in recipe.inputs:
        what, command = "in the style of any picture at once", f"{command} --style-image painting.jpg"
    elif len(recipe.styles) > 1:
        what = f"in {len(recipe.styles)} styles"
        command += f":{recipe.style_names[-1]}" if "styles" in recipe.inputs else ""
    elif recipe.styles:
        what = f"as {recipe.styles[0].get('title') or recipe.style_names[0]}"
    else:
        what = "in a style that its file does not name"
    return f"A network that repaints photos {what}: `{command}`."


def _count(model: Bundle) -> str:
    return f"{model.weights / 1e6:.2f} M"


def _megabytes(model: Bundle) -> str:
    return f"{len(model.graph) / 1e6:.1f} MB"


def _style(style: Mapping[str, Any]) -> str:
    seen = [f"{_value(style['size_px'])} px"] if style.get("size_px") else []
    seen += [f"crop {_value(style['crop'])}"] if style.get("crop") else []
    return "; ".join(part for part in (credit(style), f"seen at {', '.join(seen)}" if seen else "") if part)


def _input(name: str, neutral: Any) -> str:
    kind = KINDS[name]
    if kind.vector:
        return f"{name}, {_value(neutral)} numbers: {kind.meaning}"
    return f"{name}, {kind.least:g} to {kind.most:g}: {kind.meaning} ({_value(neutral)})"


def _training(recipe: Recipe) -> str:
    before = recipe.extra.get("init")
    parts = [f"{recipe.steps:,} steps"] if recipe.steps else []
    if isinstance(before, Mapping):
        parts.append(f"after {_value(before.get('steps'))} of {before.get('name')}")
    return ", ".join(parts + ([] if recipe.seed is None else [f"seed {recipe.seed}"]))


def _photos(data: Mapping[str, Any]) -> str:
    known = {"source", "photos", "batch_size", "size", "start_size"}
    parts = [f"{_value(data['photos'])} of {data.get('source')}" if "photos" in data else str(data.get("source", ""))]
    parts += [f"{_value(data['batch_size'])} a step"] if "batch_size" in data else []
    start = f"{_value(data['start_size'])} to " if "start_size" in data else ""
    parts += [f"crops of {start}{_value(data['size'])} px"] if "size" in data else []
    parts += [_setting(key, value) for key, value in data.items() if key not in known and value]
    return ", ".join(part for part in parts if part)


def _losses(losses: Mapping[str, Any]) -> str:
    told = []
    for term in ("content", "style"):
        if f"{term}_weight" in losses:
            layers = losses.get(f"{term}_layers")
            told.append(f"{term} {_value(losses[f'{term}_weight'])}{f' at {_layers(layers)}' if layers else ''}")
    if losses.get("tv_weight"):
        told.append(f"total variation {_value(losses['tv_weight'])}")
    known = {f"{term}_{what}" for term in ("content", "style", "tv") for what in ("weight", "layers")}
    return ", ".join([*told, *(_setting(key, value) for key, value in losses.items() if key not in known)])


def _layers(layers: Any) -> str:
    if not isinstance(layers, Mapping):
        return _value(layers)
    return ", ".join(name if weight == 1 else f"{name}:{_value(weight)}" for name, weight in layers.items())


def _perceptual(perceptual: Mapping[str, Any]) -> str:
    digest = perceptual.get("weights_sha256")
    parts = [str(perceptual.get("name", "")), f"SHA-256 of its weights {str(digest)[:16]}…" if digest else ""]
    known = ("name", "weights_sha256")
    parts += [_setting(key, value) for key, value in perceptual.items() if key not in known and value]
    return ", ".join(part for part in parts if part)


def _scores(metrics: Mapping[str, Any]) -> str:
    numbers = {name.removeprefix("val/"): value for name, value in metrics.items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {value:.3f}" for name, value in numbers.items())


def _setting(key: str, value: Any) -> str:
    return key if value is True else f"{key} {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(map(_value, value.values()))
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    """On one line, and no end of a cell: a recipe's texts may hold anything."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(shown.split()).replace("|", "\\|")
