"""What the documents promise: every command in the README parses, every listed file is there."""

import hashlib
import re
import shlex
from pathlib import Path

import pytest

from fst import bundle, card
from fst.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands():
    """The lines of the README's shell blocks that call fst, as words."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("fst ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_there_are_commands():
    assert len(commands()) > 10
    assert {words[0] for words in commands()} <= COMMANDS.keys()


@pytest.mark.parametrize("words", [w for w in commands() if w[0] == "stylize"], ids=" ".join)
def test_stylize_lines_parse(words):
    from fst.commands.stylize import parser

    assert parser().parse_args(words[1:]).inputs


@pytest.mark.parametrize("words", [w for w in commands() if w[0] == "optimize" and "--help" not in w], ids=" ".join)
def test_optimize_lines_parse(words):
    from fst.commands.optimize import parser

    assert parser().parse_args(words[1:]).styles


@pytest.mark.parametrize("words", [w for w in commands() if w[0] in ("eval", "compare", "gallery")], ids=" ".join)
def test_lines_that_make_pages_parse(words):
    from fst.commands import compare, evaluate, gallery

    assert {"eval": evaluate, "compare": compare, "gallery": gallery}[words[0]].parser().parse_args(words[1:]).content


@pytest.mark.parametrize("words", [w for w in commands() if w[0] == "show"], ids=" ".join)
def test_show_lines_run(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(f"# {words[1]}\n")


def test_options_of_the_table_have_the_defaults_it_gives():
    from fst.commands.optimize import parser

    a = vars(parser().parse_args(["photo.jpg", "painting.jpg", "-o", "painted.png"]))
    section = README.partition("## One photo, no training")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:4] for row in section.splitlines() if row.startswith("| `--")]
    assert len(rows) == 7
    for options, defaults, _ in rows:
        names = [name.replace("-", "_") for name in re.findall(r"`--([a-z-]+)`", options)]
        for name, default in zip(names, defaults.strip().split(", "), strict=False):
            if default not in ("", "equal"):
                assert str(a[name]).removesuffix(".0") == default


@pytest.mark.parametrize("words", [w for w in commands() if w[0] == "train" and "--help" not in w], ids=" ".join)
def test_train_lines_compose(words):
    from hydra import compose, initialize_config_dir
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from fst.training.overrides import quote_paths

    overrides = [word for word in quote_paths(words[1:]) if word != "-m"]
    single = []
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_sweep_override():
            first = next(iter(override.sweep_string_iterator()))
            single.append(f"{override.get_key_element()}={first}")
        else:
            single.append(override.input_line)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert compose("train", overrides=single).net


def test_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert "://" in target or (ROOT / target).exists(), target


def test_keys_of_the_table_have_the_defaults_it_gives():
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train")
    pairs = {"style.size_px": 512, "loss.content_weight": 0.1, "loss.style_weight": 1, "loss.tv_weight": 0}
    pairs |= {"data.size": 256, "data.batch_size": 4, "trainer.max_steps": 10000, "net.width": 32, "optimizer.lr": 1e-3}
    for key, value in pairs.items():
        assert f"`{key}`" in README
        assert OmegaConf.select(cfg, key) == value


def test_every_shipped_model_is_described_as_it_is():
    text = (ROOT / "checkpoints" / "README.md").read_text(encoding="utf-8")
    assert bundle.shipped()
    for name, path in bundle.shipped().items():
        recipe = bundle.read(path).recipe
        assert card.net_in_words(recipe.net) in text
        assert f"`{card.made_by(name, recipe)}`" in text
        assert path.stat().st_size < 8e6
        for file in (path, bundle.encoder_of(path)):
            assert not file.is_file() or b".py" not in file.read_bytes()
        assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] in text
        assert (path.with_suffix(".md")).is_file()
        assert recipe.name == name
        assert recipe.license or not recipe.styles
        assert f"{recipe.steps:,} steps" in (path.with_suffix(".md")).read_text(encoding="utf-8")
