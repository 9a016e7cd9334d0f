"""What a model file says of the run that made it."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fst import bundle, nets
from fst.training.data import PhotoData
from fst.training.loggers import read_metrics
from fst.training.tasks import StyleTask
from fst.version import __version__


def of_run(
    name: str,
    task: StyleTask,
    data: PhotoData,
    *,
    styles: list[dict[str, Any]],
    origin: dict[str, Any] | None,
    steps: int,
    seed: int,
    scores: Mapping[str, float],
) -> bundle.Recipe:
    """The recipe of a run's network.

    Args:
        styles: recipes of all that the network knows.
        origin: what the run began with, or None.
        steps: done by now.
        scores: the last of the validation photos.
    """
    loss = task.loss
    return bundle.Recipe(
        name=name,
        method=task.method,
        net=nets.recipe_of(task.net),
        styles=styles,
        inputs=nets.inputs_of(task.net),
        losses={
            "style_layers": loss.style_layers,
            "content_layers": loss.content_layers,
            "content_weight": loss.content_weight,
            "style_weight": loss.style_weight,
            "tv_weight": loss.tv_weight,
        },
        perceptual={
            "name": type(task.extractor).__name__.lower(),
            "padding": getattr(task.extractor, "padding", None),
            "weights_sha256": task.extractor.weights_sha256,
        },
        data=data.recipe(),
        steps=steps,
        seed=seed,
        metrics=dict(scores),
        license=_license(styles),
        fst_version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        extra={} if origin is None else {"init": origin},
    )


def last_scores(metrics: Path) -> dict[str, float]:
    """The last scores of the validation photos in a metrics.csv; {} where there are none."""
    scored = [row for row in read_metrics(metrics) if "val/total" in row]
    return {name: value for name, value in scored[-1].items() if name.startswith("val/")} if scored else {}


def _license(styles: Sequence[dict[str, Any]]) -> str | None:
    """Of a model of these styles: every licence once; None where one is not known, or no style is."""
    licenses = dict.fromkeys(style.get("license") for style in styles)
    return None if not licenses or None in licenses else ", ".join(map(str, licenses))
