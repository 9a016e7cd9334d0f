"""The command line of `fst train`: paths of any letters, runs that go on, mistakes in one line."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from fst.errors import UsageError
from fst.training import overrides as cli

Run = Callable[..., Any]  # fst_train of conftest.py

ODD = [
    "plain/name.jpg",
    "with space",
    "a=b, c",
    "[brackets] {braces} (round)",
    "it's",
    'say "hi"',
    "'both' \"kinds\"",
    "~/photos",
    "C:\\Users\\me\\",
    "\\'",
    "\\\\",
    "ünïcödé/写真",
    "123",
    "1e5",
    "true",
    "null",
    "-1",
    "#hash",
    "a:b@c",
    "*?|$x",
]


@pytest.mark.parametrize("text", ODD)
def test_hydra_reads_back_what_was_quoted(text: str) -> None:
    override = OverridesParser.create().parse_override(f"key={cli.quote(text)}")
    value = override.value()
    assert (value if isinstance(value, str) else value.text) == text  # type: ignore[union-attr]
    assert cli.unquote(cli.quote(text)) == text


def test_only_the_values_of_paths_are_quoted() -> None:
    given = ["data.dir=a, b", "optimizer.lr=1e-3", "loss.style_layers=[relu1_1,relu2_1]", "init=null", "+ckpt=x=y"]
    wanted = ["data.dir='a, b'", "optimizer.lr=1e-3", "loss.style_layers=[relu1_1,relu2_1]", "init=null", "+ckpt='x=y'"]
    assert cli.quote_paths(given) == wanted
    already = ["data.dir='a, b'", 'ckpt="x y"', "data.dir=${oc.env:HOME}", "style.image="]
    assert cli.quote_paths(already) == already


def test_in_a_sweep_a_comma_separates_unless_a_file_has_that_name(tmp_path: Path) -> None:
    (tmp_path / "a,b.jpg").touch()
    assert cli.quote_paths(["-m", "style.image=a.jpg,b.jpg"]) == ["-m", "style.image=a.jpg,b.jpg"]
    assert cli.quote_paths(["-m", f"style.image={tmp_path}/a,b.jpg"]) == ["-m", f"style.image='{tmp_path}/a,b.jpg'"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("styles=old paintings/", "styles='old paintings/'"),
        ("styles=[old paintings/,wave]", "styles=['old paintings/',wave]"),
        ("styles=[ old paintings , a=b.jpg, mine.jpg]", "styles=['old paintings','a=b.jpg',mine.jpg]"),
        ("styles=~/mine.jpg", "styles=HOME/mine.jpg"),
        ("styles=[~/mine.jpg]", "styles=[HOME/mine.jpg]"),
        ("styles=[wave,{style: wave, size_px: 768}]", "styles=[wave,{style: wave, size_px: 768}]"),
        ("styles=['old paintings']", "styles=['old paintings']"),
        ("styles=[wave,udnie]", "styles=[wave,udnie]"),
        ("styles=null", "styles=null"),
        ("styles=[]", "styles=[]"),
    ],
)
def test_places_of_styles_are_quoted_where_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "old paintings").mkdir()
    (tmp_path / "a=b.jpg").touch()
    (tmp_path / "mine.jpg").touch()
    assert cli.quote_paths([typed]) == [meant.replace("HOME", str(tmp_path))]


def test_a_list_of_more_letters_than_a_name_may_have() -> None:
    names = [f"picture_number_{number}.jpg" for number in range(30)]
    assert cli.quote_paths([f"styles=[{','.join(names)}]"]) == [f"styles=[{','.join(names)}]"]
    assert cli.quote_paths([f"data.dir={'d' * 300}"]) == [f"data.dir={'d' * 300}"]


def test_layers_with_and_without_weights() -> None:
    assert cli.layers(["relu1_1", "relu2_1:2"], "k") == {"relu1_1": 1.0, "relu2_1": 2.0}
    assert cli.layers(["relu1_1", {"relu2_1": 0.5}], "k") == {"relu1_1": 1.0, "relu2_1": 0.5}
    assert cli.layers({"relu1_1": 3}, "k") == {"relu1_1": 3.0}
    for wrong in ("relu1_1", [1], ["relu1_1:x"]):
        with pytest.raises(UsageError, match=r"loss\.style_layers"):
            cli.layers(wrong, "loss.style_layers")


def test_a_budget_takes_vgg19_where_its_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.complete(["budget=5min"]) == ["budget=5min", "perceptual=lite", "init=multi"]
    (tmp_path / "vgg.safetensors").touch()
    monkeypatch.setenv("FST_VGG19_WEIGHTS", str(tmp_path / "vgg.safetensors"))
    planned = ["style=wave", "budget=full"]
    assert cli.complete(planned) == [*planned, "perceptual=vgg19", "init=multi"]
    for chosen in ("perceptual=lite", "perceptual.weights=other.pth"):
        assert cli.complete(["budget=5min", chosen]) == ["budget=5min", chosen, "init=multi"]
    for chosen in ("experiment=starry_night", "budget=null"):
        assert cli.complete(["budget=5min", chosen]) == ["budget=5min", chosen]
    assert cli.complete(["style=wave"]) == ["style=wave"]
    monkeypatch.setenv("FST_VGG19_WEIGHTS", str(tmp_path / "gone.pth"))
    with pytest.raises(UsageError, match=r"gone\.pth: no such file"):
        cli.complete(["budget=5min"])


def test_a_budget_begins_with_what_is_carried_unless_another_network_is_asked_for() -> None:
    assert cli.complete(["budget=5min", "net=fast"])[2:] == ["perceptual=lite", "init=multi"]
    for chosen in ("net=johnson", "net.width=16", "init=null", "init=mine.onnx", "ckpt=run/last.ckpt"):
        assert cli.complete(["budget=5min", chosen]) == ["budget=5min", chosen, "perceptual=lite"]


WRONG = {
    "style=starry_nigt": "no style is called 'starry_nigt': did you mean starry_night?",
    "experiment=[woodcut,finsh]": "no experiment is called 'finsh': did you mean finish?",
    "experiment=[woodcut,finish]": "no such file: MODEL_OF_THE_FIRST_PART",
    "experiment=starry_nite": "no experiment is called 'starry_nite': did you mean starry_night or",
    "hydra/launcher=foo": "no hydra/launcher is called 'foo': there are none",
    "styl=wave": "there is no key 'styl': did you mean style?",
    "optimiser=adam": "there is no key 'optimiser': did you mean optimizer?",
    "data.sise=3": "there is no key 'data.sise': did you mean data.size?",
    "loss.style_wieght=2": "there is no key 'loss.style_wieght': did you mean loss.style_weight?",
    "style_weight=2": "there is no key 'style_weight': did you mean loss.style_weight?",
    "+loss.style_wieght=2": "there is no key 'loss.style_wieght': did you mean loss.style_weight?",
    "+trainer.gradient_clip_vl=1": "there is no key 'trainer.gradient_clip_vl': did you mean trainer.",
    "+foo.bar=1": None,
    "foo.bar=1": "there is no key 'foo.bar': fst train --cfg job shows the keys",
    "foo": "cannot read 'foo': write key=value, with quotes inside quotes for odd letters: \"key='a=b'\"",
    "loss.style_layers=[a": "cannot read 'loss.style_layers=[a': ",
    "net=null": "net=null: choose one of adain, fast, johnson",
    "style=wave,udnie": "style=wave,udnie: several values need -m; a list is written [a,b]",
    "data.size=abc": "data.size=abc: wanted a whole number, like 256",
    "data.size=64.5": "data.size=64.5: wanted a whole number, like 256",
    "data.flip=perhaps": "data.flip=perhaps: wanted true or false, like True",
    "data.crop_scale=1": "data.crop_scale=1: wanted a list, like [0.6, 1.0]",
    "data.crop_scale=[a,b]": "data.crop_scale=['a', 'b']: wanted a list of numbers, like [0.6, 1.0]",
    "data.num_workers=many": "data.num_workers=many: wanted a whole number, like null",
    "data.dir=null": "no photos to learn from: set data.dir=FOLDER",
    "data.dir=/not here": "data.dir=/not here: no such folder",
    "style.image=/not here.jpg": "style.image=/not here.jpg: no such file",
    "style.size_px=large": "style.size_px must be",
    "perceptual.weights=/not/here": "perceptual.weights=/not/here: no such file",
    "ckpt=/not/here": "ckpt=/not/here: no such file or folder",
    "init=/not/here.onnx": "no such file: /not/here.onnx",
    "loss.style_weight=abc": "loss.style_weight=abc: wanted a number, like 1.0",
    "loss.style_weight=-1": "loss.style_weight must be a number of 0 or more, not -1",
    "loss.style_layers=[relu9_1]": "VGG-19 has no layer 'relu9_1': did you mean relu5_1",
    "loss.style_layers=relu1_1": "loss.style_layers is a list like [relu1_1,relu2_1:2], not 'relu1_1'",
    "optimizer.lr=fast": "optimizer.lr=fast: wanted a number, like 0.001",
    "optimizer.lr=-1": "optimizer or schedule: Invalid learning rate: -1",
    "net.width=0": "net: width must be a whole number of at least 1, not 0",
    "seed=-1": "seed must be at least 0, not -1",
    "trainer.max_steps=abc": "trainer.max_steps=abc: wanted a whole number, like 10000",
    "trainer.max_steps=0": "trainer.max_steps must be at least 1, not 0",
    "trainer.checkpoint_every_n_steps=0": "trainer.checkpoint_every_n_steps must be at least 1, not 0",
    "trainer.precision=bf16_mixed": "trainer.precision=bf16_mixed: did you mean bf16-mixed",
    "trainer.precision=16-true": "trainer.precision=16-true: did you mean",
    "trainer.devices=0": "trainer: ",
    "trainer.devices=9999": "trainer.devices=9999: at most ",
    "trainer.accelerator=foo": "trainer: You selected an invalid accelerator name",
    "+trainer.gradient_clip_val=x": "trainer: `gradient_clip_val` should be an int or a float. Got x.",
    "budget=7min": "no budget is called '7min': did you mean 5min or 30min?; or set other times, budget=5min budget.m",
    "budget=5min +budget.foo=1": "there is no key 'budget.foo'",
    "budget.minutes=7": "budget.minutes goes with budget=5min, 30min or full: add that",
    "data.size=auto": "data.size=auto: wanted a whole number, like 256",
    "--foo": "unrecognized arguments: --foo (fst train --help)",
    "--cfg=all of it": "argument --cfg/-c: invalid choice: 'all of it'",
}


@pytest.mark.parametrize("word", WRONG)
def test_a_mistake_is_one_line_and_leaves_nothing(fst_train: Run, tiny: list[str], word: str) -> None:
    ended = fst_train(*tiny, *word.split() if word.startswith("budget=") else [word])
    if WRONG[word] is None:  # a key that is added on purpose may be anything
        assert ended.code == 0
        return
    assert ended.error.startswith(WRONG[word])
    assert "\n" not in ended.error
    assert ended.code == 2
    assert (ended.out, ended.err) == ("", "")
    assert not list(Path().iterdir())


def test_null_takes_back_the_start_size_of_an_experiment() -> None:
    choices = {"method": "adain", "experiment": "any"}
    cli.check(cli._compose(["experiment=any", "data.start_size=null"]), choices)


def test_no_gpu_is_said_in_one_line(fst_train: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ended = fst_train(*tiny, "trainer=gpu")
    assert (ended.code, ended.error) == (2, "trainer: No supported gpu backend found!")


@pytest.mark.parametrize("name", ['it\'s [a] {test}, = "x"', "back\\slash $HOME", "123"])
def test_paths_of_any_letters(fst_train: Run, tiny: list[str], material: Path, name: str) -> None:
    odd = Path(name)
    odd.mkdir()
    (odd / "photos").symlink_to(material / "photos")
    picture = odd / "style, [x]='1'.png"
    picture.symlink_to(material / "photos" / "00.png")
    given = [f"data.dir={odd / 'photos'}", "style=custom", f"style.image={picture}", "style.size_px=32"]
    assert fst_train(*tiny, *given, f"hydra.run.dir={odd / 'run 1'}").code == 0
    cfg: Any = OmegaConf.load(odd / "run 1" / "config.yaml")
    assert (cfg.data.dir, cfg.style.image) == (str(odd / "photos"), str(picture))
    ended = fst_train(f"ckpt={odd / 'run 1' / 'last.ckpt'}", "trainer.max_steps=5")
    assert (ended.code, ended.error) == (0, "")
    assert ended.out.startswith(f"going on from {odd / 'run 1' / 'last.ckpt'}\n")


def make_run(folder: Path, *, overrides: list[str], checkpoint: bool = True) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    (folder / "config.yaml").touch()
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    if checkpoint:
        (folder / "last.ckpt").touch()
    return folder


def resumed(*overrides: str) -> tuple[list[str], list[str]]:
    said: list[str] = []
    return cli.resume(overrides, sweep=False, say=said.append), said


@pytest.mark.usefixtures("elsewhere")
class TestResume:
    def test_without_ckpt_nothing_changes(self) -> None:
        assert resumed("style=wave", "ckpt=null") == (["style=wave", "ckpt=null"], [])

    def test_last_takes_over_what_the_run_began_with(self) -> None:
        make_run(Path("runs/wave/2026-01-01_00-00-00"), overrides=["style=wave"])
        newest = make_run(Path("runs/udnie/2026-01-02_00-00-00"), overrides=["style=udnie", "data.dir='a b'", "seed=1"])
        assert resumed("ckpt=last", "seed=2") == (
            ["style=udnie", "data.dir='a b'", "seed=2", f"hydra.run.dir={newest}", f"ckpt={newest}/last.ckpt"],
            [f"going on from {newest}/last.ckpt"],
        )

    def test_a_run_that_was_planned_goes_on_by_its_plan(self) -> None:
        run = make_run(Path("runs/wave/1"), overrides=["style=wave", "budget=5min", "data.size=160"])
        planned = {"size": 160, "start_size": None}, {"max_steps": 760, "max_time": "00:00:04:12"}
        (run / "config.yaml").write_text(yaml.safe_dump(dict(zip(("data", "trainer"), planned, strict=True))))
        plan = ["data.size=160", "data.start_size=null", "trainer.max_steps=760", "trainer.max_time='00:00:04:12'"]
        ends = [f"hydra.run.dir={run}", f"ckpt={run}/last.ckpt"]
        assert resumed("ckpt=last")[0] == ["style=wave", "budget=5min", *plan, *ends]
        further = ["style=wave", "budget=5min", *plan[:2], "trainer.max_steps=900", *ends]
        assert resumed("ckpt=last", "trainer.max_steps=900")[0] == further
        for another in ("budget=30min", "budget.minutes=9"):
            with pytest.raises(UsageError, match=f"^{another}: {run} goes on as it was planned"):
                resumed("ckpt=last", another)

    def test_last_of_a_style(self) -> None:
        wave = make_run(Path("runs/wave/2026-01-01_00-00-00"), overrides=["style=wave"])
        make_run(Path("runs/udnie/2026-01-02_00-00-00"), overrides=["style=udnie"])
        assert f"ckpt={wave}/last.ckpt" in resumed("ckpt=last", "style=wave")[0]

    def test_last_of_a_style_of_ones_own(self) -> None:
        own = make_run(Path("runs/my_wave_2/1"), overrides=["style.name='my wave=2'"])
        mine = make_run(Path("runs/mine/1"), overrides=["style=custom", "style.image=mine.jpg"])
        assert f"ckpt={own}/last.ckpt" in resumed("ckpt=last", "style.name='my wave=2'")[0]
        assert f"ckpt={mine}/last.ckpt" in resumed("ckpt=last", "style=custom", "style.image=mine.jpg")[0]

    def test_last_of_a_name_and_of_several_styles(self) -> None:
        several = make_run(Path("runs/multi/1"), overrides=["method=multi", "styles=[wave,udnie]"])
        named = make_run(Path("runs/seas/1"), overrides=["style=wave", "name=seas"])
        make_run(Path("runs/wave/1"), overrides=["style=wave"])
        assert f"ckpt={several}/last.ckpt" in resumed("ckpt=last", "method=multi")[0]
        assert f"ckpt={named}/last.ckpt" in resumed("ckpt=last", "style=wave", "name=seas")[0]

    def test_no_run_yet(self) -> None:
        assert resumed("style=wave", "ckpt=last") == (["style=wave"], ["no run to go on with: starting anew"])

    def test_a_run_without_a_checkpoint_starts_anew_in_its_folder(self) -> None:
        run = make_run(Path("runs/wave/1"), overrides=["style=wave", "ckpt=old", "hydra.run.dir=old"], checkpoint=False)
        wanted = ["style=wave", "hydra.run.dir=runs/wave/1"]
        assert resumed("ckpt=last") == (wanted, [f"{run} ended before its first checkpoint: starting it anew"])

    def test_a_checkpoint_that_was_taken_elsewhere_brings_no_settings(self) -> None:
        Path("copy.ckpt").touch()
        assert resumed("style=wave", "ckpt=copy.ckpt")[0] == ["style=wave", "ckpt=copy.ckpt"]

    def test_a_folder_of_ones_own_is_kept(self) -> None:
        run = make_run(Path("runs/wave/1"), overrides=["style=wave"])
        assert resumed(f"ckpt={run}", "hydra.run.dir=new")[0] == [
            "style=wave",
            "hydra.run.dir=new",
            f"ckpt={run}/last.ckpt",
        ]

    def test_a_sweep_cannot_go_on(self) -> None:
        with pytest.raises(UsageError, match="without -m"):
            cli.resume(["ckpt=last"], sweep=True, say=print)


def test_a_full_disk_has_no_file_name() -> None:
    assert str(cli.explain(OSError(28, "No space left on device"), [])) == "No space left on device"
    assert str(cli.explain(PermissionError(13, "Permission denied", "runs"), [])) == "runs: Permission denied"


def test_help_shows_the_groups_and_examples(fst_train: Run) -> None:
    ended = fst_train("--help")
    assert (ended.code, ended.err) == (0, "")
    for part in ("fst train style=woodcut data.dir=PHOTOS", "starry_night", "size_px: 512", "FST_STYLES", "--cfg job"):
        assert part in ended.out
    assert "hydra.help" not in ended.out


def test_cfg_and_info_show_and_stop(fst_train: Run) -> None:
    shown = fst_train("--cfg", "job", "experiment=starry_night")
    assert shown.code == 0
    cfg: Any = OmegaConf.create(shown.out)
    assert (cfg.style.name, cfg.data.crop_scale[0]) == ("starry_night", 0.85)
    logging.getLogger("hydra._internal.hydra").disabled = False  # what an earlier run in this process has done
    assert "Defaults List" in fst_train("--info", "defaults").out
    assert not list(Path().iterdir())
