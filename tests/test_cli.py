"""The command as people use it and misuse it: real processes, one-line errors, exit codes."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fst
from fst import bundle, doctor, images
from fst.cli import main


def run(*argv, cwd=None):
    done = subprocess.run(
        [sys.executable, "-m", "fst", *map(str, argv)], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def refused(code, *argv, cwd=None):
    """Run what must fail; returns the one line that it says."""
    done = run(*argv, cwd=cwd)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == code, done
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("fst: ")
    return lines[0]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    images.write(path, np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    return path


def test_help_and_version():
    assert "stylize" in run("--help").stdout
    assert run("--version").stdout.startswith("fst ")
    assert run().returncode == 2
    assert "--keep-colors" in run("stylize", "--help").stdout


def test_stylize_writes_what_it_says(photo, tmp_path, inverting_model):
    done = run("stylize", photo, "--style", inverting_model, "-o", tmp_path / "out")
    assert done.returncode == 0
    assert done.stderr == ""
    target = Path(done.stdout.strip())
    assert target == tmp_path / "out" / "photo.jpg"
    difference = images.read(target).pixels.astype(int) - (255 - images.read(photo).pixels.astype(int))
    assert abs(difference.mean()) < 1


def test_stylize_as_json(photo, tmp_path, inverting_model):
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    done = run("stylize", photo, bad, "--style", inverting_model, "-o", tmp_path / "out", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["style"] == "invert"
    assert told["pictures"][0]["width"] == 64
    assert "bad.jpg" in told["pictures"][1]["error"]


def mean_of(path):
    return images.read(path).pixels.mean((0, 1))


def test_strength_stroke_and_mix_reach_the_model(photo, tmp_path, painting_model):
    red, green = 255 * np.array([0.9, 0.1, 0.2]) / 2, 255 * np.array([0.1, 0.6, 0.4]) / 2
    model, target = str(painting_model), tmp_path / "y.png"
    for words, wanted in (
        (["-s", model], red),
        (["-s", f"{model}:green"], green),
        (["-s", model, "--mix", "red=0.25,green=0.75", "--stroke", "2"], 2 * (red / 4 + 3 * green / 4)),
        (["-s", model, "--strength", "0"], mean_of(photo)),
    ):
        done = run("stylize", photo, *words, "-o", target, "--overwrite", "--json")
        assert done.returncode == 0, done.stderr
        assert np.abs(mean_of(target) - wanted).max() <= 0.51
    assert json.loads(done.stdout)["inputs"] == {"strength": 0.0, "stroke": 1.0, "styles": [1.0, 0.0]}


def test_what_a_model_cannot_be_told_is_one_line(photo, tmp_path, painting_model, inverting_model):
    def said(*words):
        return refused(2, "stylize", photo, *words, "-o", tmp_path / "out")

    model = str(painting_model)
    assert "invert was not trained with strength" in said("-s", inverting_model, "--strength", "0.5")
    assert "invert was not trained with stroke" in said("-s", inverting_model, "--stroke", "1")
    assert "invert has one style" in said("-s", inverting_model, "--mix", "wave=1")
    assert "strength (how much style) goes from 0 to 1, not 2.0" in said("-s", model, "--strength", "2")
    assert "goes from 0.5 to 2, not nan" in said("-s", model, "--stroke", "nan")
    assert "no style 'gren': did you mean green" in said("-s", f"{model}:gren")
    assert "no style 'blue'" in said("-s", model, "--mix", "blue=1")
    assert "sum to 1.1, not to 1" in said("-s", model, "--mix", "red=0.7,green=0.4")
    assert "like wave=0.7,udnie=0.3" in said("-s", model, "--mix", "red")
    assert "like wave=0.7,udnie=0.3" in said("-s", model, "--mix", "red=0.5,red=0.5")
    assert "leave :green or --mix out" in said("-s", f"{model}:green", "--mix", "red=1")
    assert not (tmp_path / "out").exists()


def test_variations_of_a_photo(photo, tmp_path, diverse_model, inverting_model):
    def painted(folder, *words):
        done = run("stylize", photo, "-s", diverse_model, "-o", tmp_path / folder, *words)
        assert (done.returncode, done.stderr) == (0, "")
        return [Path(line).read_bytes() for line in done.stdout.splitlines()]

    first = painted("a", "--variations", "3", "--seed", "7")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["photo_1.jpg", "photo_2.jpg", "photo_3.jpg"]
    assert len(set(first)) == 3
    assert painted("b", "--variations", "3", "--seed", "7") == first
    assert painted("c", "--seed", "7") == first[:1]
    other = painted("d", "--variations", "1")
    assert other == painted("e", "--seed", "0") != painted("f")
    assert other[0] not in first

    stylizer = fst.Stylizer(diverse_model)
    noise = np.random.default_rng([7, 2]).standard_normal(16).astype(np.float32)
    done = run(
        *("stylize", photo, "-s", diverse_model, "-o", tmp_path / "x.png", "--variations", "3", "--seed", "7"), "--json"
    )
    assert np.array_equal(images.read(tmp_path / "x_3.png").pixels, stylizer(images.read(photo).pixels, noise=noise))
    told = json.loads(done.stdout)
    assert (told["seed"], told["inputs"], [row["number"] for row in told["pictures"]]) == (7, {}, [0, 1, 2])
    assert "[" not in done.stdout.partition("pictures")[0], "no long vectors"

    for words in (["--variations", "2"], ["--seed", "0"]):
        said = refused(2, "stylize", photo, "-s", inverting_model, "-o", tmp_path / "no", *words)
        assert "invert paints a photo in one way only" in said
    assert "--variations: must be at least 1, not 0" in refused(2, "stylize", photo, "--variations", "0")
    assert "--seed: must be at least 0, not -1" in refused(2, "stylize", photo, "--seed", "-1")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(("height", "width"), [(17, 31), (70, 101), (512, 512), (1081, 1919)])
def test_sizes_come_back_exact(tmp_path, inverting_model, height, width):
    images.write(tmp_path / "x.png", np.zeros((height, width, 3), np.uint8))
    assert run("stylize", tmp_path / "x.png", "-s", inverting_model, "-o", tmp_path / "y.png").returncode == 0
    assert images.read(tmp_path / "y.png").size == (width, height)


def test_orientation_profile_and_alpha_survive(tmp_path, inverting_model):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(np.full((20, 20, 4), 77, np.uint8)).save(tmp_path / "clear.png")
    run("stylize", tmp_path / "turned.jpg", tmp_path / "clear.png", "-s", inverting_model, "-o", tmp_path / "out")
    turned = Image.open(tmp_path / "out" / "turned.jpg")
    assert turned.size == (40, 60)
    assert turned.getexif().get(0x0112, 1) == 1
    assert np.asarray(Image.open(tmp_path / "out" / "clear.png"))[0, 0].tolist() == [178, 178, 178, 77]


def test_wrong_use_is_one_line_with_the_nearest_name(photo, tmp_path, inverting_model):
    assert "did you mean stylize" in refused(2, "stylise", photo)
    assert "did you mean --keep-colors" in refused(2, "stylize", photo, "--keep-colours")
    assert "no model is called" in refused(2, "stylize", photo, "--style", "no_such_style")
    assert "no such file" in refused(2, "stylize", photo, "--style", tmp_path / "no.onnx")
    assert "--max-side" in refused(2, "stylize", photo, "--max-side", "0")
    assert "--quality" in refused(2, "stylize", photo, "--quality", "101")
    assert "--quality" in refused(2, "stylize", photo, "--quality", "high")
    assert "PHOTO" in refused(2, "stylize")
    assert "own repainting" in refused(2, "stylize", photo, "-s", inverting_model, "-o", tmp_path)


def test_misspelt_style_is_offered(photo):
    shipped = bundle.shipped()
    for name in shipped:
        assert name in refused(2, "stylize", photo, "--style", name[:-1])


def test_bad_pictures_are_one_line_and_leave_nothing(tmp_path, inverting_model):
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").touch()
    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
    for name in ("missing.jpg", "text.jpg", "empty.png", "bomb.png"):
        said = refused(1, "stylize", tmp_path / name, "-s", inverting_model, "-o", tmp_path / "out")
        assert name in said
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


class Boom:
    def __reduce__(self):
        return (Path.touch, (Path("boom"),))


def test_bad_models_are_refused(photo, tmp_path, inverting_model):
    whole = inverting_model.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "changed.onnx").write_bytes(whole.replace(b"Sub", b"Add"))
    (tmp_path / "evil.onnx").write_bytes(pickle.dumps(Boom()))
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Boom()))
    for name in ("cut.onnx", "changed.onnx", "evil.onnx", "evil.pth"):
        assert name in refused(1, "stylize", photo, "--style", tmp_path / name, "-o", tmp_path / "out", cwd=tmp_path)
    assert not (tmp_path / "boom").exists()
    assert not (tmp_path / "out").exists()


def test_an_unwritable_place_is_said(photo, tmp_path, inverting_model):
    (tmp_path / "file").touch()
    said = refused(1, "stylize", photo, "-s", inverting_model, "-o", tmp_path / "file" / "out")
    assert "cannot be written" in said or "not a folder" in said.lower()


def test_styles_lists_what_is_shipped():
    listed = json.loads(run("styles", "--json", "--no-timing").stdout)
    assert {row["name"].partition(":")[0] for row in listed} == set(bundle.shipped())
    for row in listed:
        assert Path(row["path"]).stat().st_size == row["size_bytes"]
        assert row["sha256"] == hashlib.sha256(Path(row["path"]).read_bytes()).hexdigest()
        assert row["license"] or row["method"] == "adain"
    table = run("styles").stdout
    assert all(row["path"] in table for row in listed)  # in one piece, to copy


def test_every_style_of_a_model_of_several_is_listed(painting_model, monkeypatch, capsys):
    monkeypatch.setattr(bundle, "shipped", lambda: {"painting": painting_model})
    assert main(["styles", "--json", "--no-timing"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["painting:red", "painting:green"]
    assert rows[0]["inputs"] == ["strength", "stroke", "styles"]
    assert all(row["metrics"] == {} for row in rows), "those of a model of several are means"
    assert main(["styles", "--no-timing"]) == 0
    assert "strength stroke styles" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    assert "painting is whole, with red, green" in capsys.readouterr().out
    assert np.array_equal(fst.Stylizer("painting:green").inputs()["styles"], [0, 1])


def test_a_card_beside_the_model_is_printed_as_it_is():
    for name, path in bundle.shipped().items():
        assert run("show", name).stdout == run("show", path).stdout == path.with_suffix(".md").read_text()


def test_a_model_without_a_card_says_what_it_knows(tmp_path, any_model, painting_model):
    for path in (any_model, bundle.encoder_of(any_model)):
        shutil.copy(path, tmp_path)
    told = json.loads(run("show", tmp_path / "any.onnx", "--json").stdout)
    assert told["card"] is None
    assert [Path(each["path"]).name for each in told["files"]] == ["any.onnx", "any.encoder.onnx"]
    for each in told["files"]:
        data = Path(each["path"]).read_bytes()
        assert (each["size_bytes"], each["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert told["recipe"] == json.loads(bundle.read_recipe(any_model).to_json())
    composed = run("show", tmp_path / "any.onnx").stdout
    assert all(each["sha256"] in composed for each in told["files"])
    (tmp_path / "any.md").write_text(composed + "- none\n")  # completed
    assert run("show", tmp_path / "any.onnx").stdout == composed + "- none\n"
    assert json.loads(run("show", tmp_path / "any.onnx", "--json").stdout)["card"] == str(tmp_path / "any.md")
    assert run("show", f"{painting_model}:green").stdout == run("show", painting_model).stdout != ""


def test_what_cannot_be_shown_is_one_line(tmp_path, painting_model, inverting_model):
    assert "did you mean starry_night or" in refused(2, "show", "stary_night")
    assert "no style 'gren': did you mean green" in refused(2, "show", f"{painting_model}:gren")
    assert "invert has one style" in refused(2, "show", f"{inverting_model}:wave")
    assert "MODEL" in refused(2, "show")
    (tmp_path / "cut.onnx").write_bytes(inverting_model.read_bytes()[:-9])
    assert "cut.onnx: damaged" in refused(1, "show", tmp_path / "cut.onnx")
    (tmp_path / "cut.md").mkdir()
    assert "cut.onnx: damaged" in refused(1, "show", tmp_path / "cut.onnx", "--json")


def test_what_the_system_refuses_is_one_line(photo, tmp_path, inverting_model):
    said = refused(1, "stylize", "x" * 300 + ".jpg", "-s", inverting_model, "-o", tmp_path / "out")
    assert "name too long" in said.lower()


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_a_name_that_is_no_utf_8_is_painted_and_said_as_it_is(photo, tmp_path, inverting_model):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    shutil.copy(photo, odd)
    command = [sys.executable, "-m", "fst", "stylize", odd, photo, "-s", inverting_model, "-o", tmp_path / "out"]
    done = subprocess.run(
        command, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines() == [
        os.fsencode(tmp_path) + b"/out/caf\xe9.jpg",
        os.fsencode(tmp_path / "out/photo.jpg"),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_json_is_json_whatever_the_names(photo, tmp_path, inverting_model, encoding):
    odd = [os.fsencode(tmp_path) + b"/caf\xe9.jpg", os.fsencode(tmp_path / "M\u00fcnch.jpg")]
    for name in odd:
        shutil.copy(photo, name)
    command = [sys.executable, "-m", "fst", "stylize", *odd, "-s", inverting_model, "-o", tmp_path / "out", "--json"]
    done = subprocess.run(command, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    told = json.loads(done.stdout.decode(encoding.partition(":")[0]))
    assert [os.fsencode(each["input"]) for each in told["pictures"]] == odd


@pytest.mark.skipif(not hasattr(os, "fork"), reason="pipes of this kind are of POSIX")
@pytest.mark.parametrize("words", [["--help"], ["show", "starry_night"], ["stylize", "--help"]])
def test_output_that_nobody_reads_ends_quietly(words):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "fst", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_to_a_full_disk_is_one_line():
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "fst", "show", "starry_night"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (1, "fst: No space left on device\n")


def test_options_of_a_job_of_bench_are_known(any_model, capsys):
    assert main(["bench", "infer", "--size", "64x64"]) == 2
    assert "unknown option --size: did you mean --sizes? (fst bench infer --help)" in capsys.readouterr().err
    assert main(["bench", "infer", str(any_model)]) == 2
    assert "any.onnx takes its style from a picture, and is not measured" in capsys.readouterr().err


def test_doctor_names_the_variant_of_onnxruntime_that_is_here(monkeypatch):
    from importlib.metadata import PackageNotFoundError

    def version(name):
        if name == "onnxruntime":
            raise PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime-gpu"]})
    assert doctor._installed("onnxruntime") == "onnxruntime-gpu 1.2.3"
    monkeypatch.setattr(doctor, "packages_distributions", dict)
    with pytest.raises(PackageNotFoundError):
        doctor._installed("onnxruntime")


def test_doctor_tells_what_is_there():
    found = json.loads(run("doctor", "--json").stdout)
    assert any(finding["topic"] == "fst" for finding in found)
    assert any("onnxruntime" in finding["what"] and finding["status"] == "ok" for finding in found)


def test_completion_completes():
    script = run("completion", "bash").stdout
    listing = 'fst() { echo \'  "name": "wave",\'; }'
    for words, found in (("sty", ["stylize", "styles"]), ("show w", ["wave"]), ("gallery -s w", ["wave"])):
        ask = f'eval "$S"; {listing}; COMP_WORDS=(fst {words}); COMP_CWORD={len(words.split())}; _fst'
        done = subprocess.run(
            ["bash", "-c", f'{ask}; echo "${{COMPREPLY[@]}}"'],
            env={"S": script, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == found
    for shell in ("zsh", "fish"):
        assert "stylize" in run("completion", shell).stdout
    assert "invalid choice" in refused(2, "completion", "tcsh")
