"""Every YAML file under conf/ composes, and makes what it names."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from torch.optim.lr_scheduler import LRScheduler

from fst import card, nets
from fst.bundle import read_recipe, shipped
from fst.nets.johnson import JohnsonNet
from fst.paths import carried
from fst.perceptual.losses import PerceptualLoss
from fst.perceptual.vgg import TAPS
from fst.training import overrides as cli
from fst.training.budget import Budget
from fst.training.data import PhotoData
from fst.training.styles import Style, style_name
from fst.training.tasks import StyleTask

CONF = carried("conf")
FILES = sorted(path.relative_to(CONF).with_suffix("") for path in CONF.rglob("*.yaml"))


def options(group: str) -> list[str]:
    found = [path.name for path in FILES if str(path.parent) == group]
    assert found, f"conf/{group} is empty"
    return found


Compose = Callable[..., DictConfig]


@pytest.fixture
def config() -> Iterator[Compose]:
    """`config(*overrides)`: what `fst train` would get."""
    OmegaConf.register_new_resolver("fst.style_name", style_name, replace=True)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides: compose("train", overrides=list(overrides))
    GlobalHydra.instance().clear()


def plain(node: Any) -> dict[str, Any]:
    found = OmegaConf.to_container(node, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def test_every_file_belongs_to_a_group_that_is_tested_here() -> None:
    groups = {str(path.parent) for path in FILES} - {"."}
    assert groups == {
        "budget", "data", "experiment", "hydra/help", "logger", "loss", "method", "net", "optimizer", "perceptual",
        "schedule", "style", "trainer",
    }  # fmt: skip
    assert [str(path) for path in FILES if str(path.parent) == "."] == ["train"]


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] not in ("hydra", "train")], ids=str)
def test_every_choice_composes_and_every_target_is_there(config: Compose, path: Path) -> None:
    group, name = str(path.parent), path.name
    text = OmegaConf.to_yaml(config(f"{group}={name}"), resolve=True)
    targets = re.findall(r"_target_: (\S+)", text)
    assert len(targets) >= 6
    assert all(callable(get_object(target)) for target in targets)


def test_the_defaults_compose(config: Compose) -> None:
    cfg = config("style.image=my wave.jpg")
    assert cfg.seed == cfg.data.seed == 0
    assert config("seed=7").data.seed == 7
    assert cfg.ckpt is None
    assert cfg.init is None


@pytest.mark.parametrize("name", options("style"))
def test_styles(config: Compose, name: str) -> None:
    settings = plain(config(f"style={name}").style)
    if name == "custom":
        settings["image"] = "my wave.jpg"
        assert Style(**settings).label == "my_wave"
        return
    style = Style(**settings)
    assert style.label == name
    for text in (style.title, style.artist, style.license):
        assert text
    assert isinstance(style.year, int)
    if style.image and style.image.startswith("pictures/"):
        assert style.sha256, "a picture that is carried has a hash"
        (picture,) = style.pictures()
        assert max(picture.shape) == 512


def test_shared_styles_are_found(config: Compose, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FST_STYLES", str(shared / "styles"))
    for name in ("starry_night", "wave", "the_scream", "composition_vii", "udnie"):
        (picture,) = Style(**plain(config(f"style={name}", "style.size_px=64").style)).pictures()
        assert max(picture.shape) == 64


@pytest.mark.parametrize("name", options("net"))
def test_nets(config: Compose, name: str) -> None:
    net = instantiate(config(f"net={name}").net)
    assert nets.recipe_of(net)["name"] == name
    told = {"style_code": net.encode(torch.rand(1, 3, 32, 32))} if name == "adain" else {}
    assert net(torch.rand(1, 3, 17, 18), **told).shape == (1, 3, 17, 18)


def test_the_yaml_of_johnson_says_what_the_class_does(config: Compose) -> None:
    assert nets.recipe_of(instantiate(config("net=johnson").net)) == nets.recipe_of(JohnsonNet())


@pytest.mark.parametrize("name", options("method"))
def test_methods(config: Compose, name: str) -> None:
    make = instantiate(config(f"method={name}").method)
    assert issubclass(make.func, StyleTask)
    assert make.func.method == name


def test_names_of_models_and_folders(config: Compose) -> None:
    for words, name in (
        (["style=wave"], "wave"),
        (["style.image=a b/my wave.jpg"], "my_wave"),
        (["style=wave", "style.name=seas"], "seas"),
        (["style=wave", "name=my seas"], "my seas"),
        (["method=multi", "styles=[wave,udnie]"], "multi"),
        (["method=multi", "styles=[wave,udnie]", "name=four"], "four"),
    ):
        cfg = config(*words)
        assert cfg.name == name
        assert style_name(cfg.name, None) == name.replace(" ", "_")


@pytest.mark.parametrize("name", options("loss"))
def test_losses(config: Compose, name: str) -> None:
    terms = plain(config(f"loss={name}").loss)
    for layers in ("style_layers", "content_layers"):
        terms[layers] = cli.layers(terms[layers], layers)
    loss = instantiate(terms, _convert_="all")
    assert isinstance(loss, PerceptualLoss)
    assert {*loss.style_layers, *loss.content_layers} <= set(TAPS)
    assert (loss.content_weight, loss.style_weight) == (0.1, 1)


@pytest.mark.parametrize("name", options("perceptual"))
def test_perceptual(config: Compose, name: str, random_vgg: Callable[..., Path]) -> None:
    weights = [] if name == "lite" else [f"perceptual.weights={random_vgg()}"]  # it carries its own
    node = config(f"perceptual={name}", *weights).perceptual
    extractor = instantiate(node, taps=["relu2_1"])
    side = 6 if name == "lite" else 16  # it looks at every third place
    assert extractor(torch.rand(1, 3, 32, 32), ["relu2_1"])["relu2_1"].shape == (1, 128, side, side)


@pytest.mark.parametrize("optimizer", options("optimizer"))
@pytest.mark.parametrize("schedule", options("schedule"))
def test_optimizers_and_schedules(config: Compose, optimizer: str, schedule: str) -> None:
    cfg = config(f"optimizer={optimizer}", f"schedule={schedule}")
    made = instantiate(cfg.optimizer, _convert_="all")([torch.nn.Parameter(torch.zeros(3))])
    assert isinstance(made, torch.optim.Optimizer)
    assert isinstance(instantiate(cfg.schedule)(made, max_steps=100), LRScheduler)


@pytest.mark.parametrize("name", options("data"))
def test_data(config: Compose, name: str, tmp_path: Path) -> None:
    where = "path=imagefolder" if name == "hub" else f"dir={tmp_path}"
    data = instantiate(config(f"data={name}", f"data.{where}").data, _convert_="all")
    assert isinstance(data, PhotoData)
    assert (data.size, data.batch_size, data.val_count, data.crops.scale) == (256, 4, 8, (0.6, 1.0))


@pytest.mark.parametrize("name", options("trainer"))
def test_trainers(config: Compose, name: str, tmp_path: Path) -> None:
    if name == "gpu" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    settings = plain(config(f"trainer={name}").trainer)
    assert settings.pop("checkpoint_every_n_steps") > 0
    settings["precision"] = "32-true"
    trainer = instantiate(settings, logger=False, enable_checkpointing=False, default_root_dir=str(tmp_path))
    assert isinstance(trainer, pl.Trainer)
    assert trainer.max_steps == settings["max_steps"]
    if name == "debug":
        torch.autograd.set_detect_anomaly(False)


@pytest.mark.parametrize("name", options("logger"))
def test_loggers(config: Compose, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    nodes = config(f"logger={name}").logger
    for package, node in nodes.items():
        pytest.importorskip(str(package))
        assert isinstance(instantiate(node, folder=tmp_path), pl.loggers.Logger)
    assert set(nodes) == {"csv": set(), "default": {"wandb"}}.get(name, {name})


@pytest.mark.parametrize("name", options("budget"))
def test_budgets(config: Compose, name: str) -> None:
    cfg = config(f"budget={name}")
    budget = Budget(**plain(cfg.budget)).with_typed(size="auto", start_size="auto", max_steps="auto")
    assert list(budget.sizes) == sorted(budget.sizes)
    assert budget.least_steps <= budget.enough_steps <= budget.most_steps
    assert budget.minutes == {"5min": 5, "30min": 30, "full": None}[name]
    assert [cfg.data.size, cfg.data.start_size, cfg.trainer.max_steps] == ["auto"] * 3
    assert nets.recipe_of(instantiate(cfg.net))["name"] == "fast"
    typed = config(f"budget={name}", "net=johnson", "data.size=128", "trainer.max_steps=300", "budget.minutes=12")
    assert nets.recipe_of(instantiate(typed.net))["name"] == "johnson"
    assert [typed.data.size, typed.trainer.max_steps, typed.budget.minutes] == [128, 300, 12]
    assert config(f"budget={name}", "experiment=starry_night").trainer.max_steps == 6000


@pytest.mark.parametrize("name", options("experiment"))
def test_experiments(config: Compose, name: str) -> None:
    if name in ("finish", "multi", "starry_night_johnson"):
        last = config("experiment=[wave,finish]" if name == "finish" else f"experiment={name}")
        assert not Path(last.init).exists(), "what the first part made is to be named"
        assert last.init not in shipped()
    if name == "finish":
        cfg = config("experiment=[wave,finish]")
        assert cfg.trainer.max_steps < config("experiment=wave").trainer.max_steps
        assert cfg.perceptual["_target_"] == "fst.perceptual.vgg.VGG19"
        assert cfg.loss == config("experiment=wave").loss
        return
    cfg = config(f"experiment={name}")
    if name not in ("any", "multi", "multi_first", "one_style"):
        assert name.startswith(cfg.style.name)
    net = "adain.AdaIN" if name == "any" else "johnson.Johnson" if "johnson" in name else "fast.Fast"
    assert cfg.net["_target_"] == f"fst.nets.{net}Net"
    assert config(f"experiment={name}", "trainer.max_steps=3").trainer.max_steps == 3


def test_every_model_that_is_carried_has_an_experiment_for_its_like(config: Compose) -> None:
    """The same styles at the same sizes, network, losses and crops; where the steps were others, its card says so."""
    for name, path in shipped().items():
        made = read_recipe(path)
        experiment = card.made_by(name, made).rpartition("then ")[2]  # the last part
        cfg = config(experiment)
        if name == "multi":
            names = [style if isinstance(style, str) else style["style"] for style in plain(cfg)["styles"]]
            sizes = [[512 if isinstance(style, str) else style["size_px"]] for style in plain(cfg)["styles"]]
        else:
            names, sizes = ([], []) if name == "any" else ([cfg.style.name], [[cfg.style.size_px]])
        assert made.style_names == names
        assert [style["size_px"] for style in made.styles] == sizes
        assert made.net.get("net", made.net)["name"] == nets.recipe_of(instantiate(cfg.net))["name"]
        assert ("stroke" in made.inputs) == cfg.adjustable
        assert made.losses["tv_weight"] == cfg.loss.tv_weight
        assert (made.data["size"], made.data["batch_size"]) == (cfg.data.size, cfg.data.batch_size)
        assert made.perceptual["name"] == "vgg19" == cfg.perceptual["_target_"].rpartition(".")[2].lower()
        task = {"adain": "AnyStyle", "perstyle": "PerStyle"}.get(made.method, made.method.title())
        assert cfg.method["_target_"] == f"fst.training.tasks.{task}Task"
        assert experiment in path.with_suffix(".md").read_text(encoding="utf-8")
