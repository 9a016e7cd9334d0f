"""`fst bench`: what it measures is real, in order, and comes out as tables, JSON and a picture."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fst.cli import main
from fst.commands import bench as command
from fst.errors import UsageError
from fst.evaluation import bench, jobs, plain, plot, rounds, start


@pytest.fixture
def material(photos, random_vgg):
    """Arguments of a bench that is over in seconds."""
    style = sorted(photos.iterdir())[0]
    sized = {"size": 32, "batch": 2, "style_size": 32}
    return {"photos": str(photos), "style_image": str(style), "weights": str(random_vgg()), **sized}


def train_result():
    """A result of `fst bench train`, with numbers that are easy to check."""
    side = {"images_per_second": 2.0, "seconds_per_step": 2.0, "peak_rss_mb": 2000.0, "first_step_seconds": 3.0}
    plain_side = side | {"peak_gpu_mb": None}
    fst_side = plain_side | {"images_per_second": 5.0, "seconds_per_step": 0.8, "peak_rss_mb": 1000.0}
    ratio = {"images_per_second": 2.5, "peak_rss": 0.5, "peak_gpu": None}
    scores = {"content": 0.5, "style": 0.2, "seconds": 1.0}
    accuracy = {"seed": 0, "plain": scores, "fst": scores | {"style": 0.21}, "same_initial_weights": True}
    ceilings = {"matmul_bf16_tflops": 0.2, "matmul_float32_tflops": 0.1, "best_tflops": 0.2, "side": 2048}
    return {
        "bench": "train",
        "header": rounds.header(2, "cpu"),
        "settings": {"net": "johnson", "perceptual": "vgg19", "batch": 4, "size": 256, "accuracy_steps": 9},
        "plain": plain_side,
        "fst": fst_side,
        "ratio": ratio,
        "rounds": [{"plain": plain_side, "fst": fst_side, "ratio": ratio}],
        "loader": {"images_per_second": 300.0, "workers": 1, "plain_images_per_second": 100.0},
        "ceilings": ceilings
        | {"copy_gb_per_second": 10.0, "copied_bytes": 2**28}
        | {"step_tflop": 0.58, "step_fraction": 0.36},
        "accuracy": [accuracy | {"difference": {"content": 0.0, "style": 0.05}}],
    }


def test_jobs_take_turns():
    order = []
    sides = {name: lambda name=name: order.append(name) or {"name": name} for name in "ab"}
    found = rounds.alternate(sides, 2, lambda line: None)
    assert order == ["a", "b", "a", "b"]
    assert found == [{"a": {"name": "a"}, "b": {"name": "b"}}] * 2


def test_the_process_that_starts_the_others_stays_small():
    code = "import sys, fst.evaluation.bench, fst.commands.bench; print({'torch', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_medians_and_ratios_leave_out_what_is_missing():
    assert rounds.median([3.0, None, 1.0, 2.0]) == 2.0
    assert rounds.median([None]) is None
    assert rounds.ratio(3.0, 2.0) == 1.5
    assert rounds.ratio(None, 2.0) is None
    assert rounds.ratio(3.0, 0.0) is None


def test_the_header_says_what_was_measured_with():
    header = rounds.header(3, "cpu")
    assert header["threads"] == 3
    assert header["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert header["machine"]


def test_fst_learns_from_the_plain_recipes_batches(material):
    data = jobs.PlainOrder(dir=material["photos"], size=32, batch_size=2, num_workers=0)
    data.setup("fit")
    run = jobs.Setup(**material).plain()
    dataset, sampler = data.stream(6, 0, 1)
    for position, _ in zip(sampler, range(4), strict=False):  # from the 6th of 8 photos on, and round again
        theirs = run.photo(run.files[position % 8])
        torch.testing.assert_close(dataset[position].pixels.float() / 255, theirs)
    assert next(iter(sampler)) == 6


def test_fst_is_asked_for_the_same_recipe(material):
    words = jobs.Setup(**material).words("johnson", "vgg19")
    assert {"schedule=constant", "optimizer=adam", "loss=default", "data.size=32", "style.size_px=32"} <= set(words)
    assert not any(word.startswith("perceptual.weights") for word in jobs.Setup(**material).words("johnson", "lite"))


def test_a_small_style_picture_is_not_enlarged(material):
    setup = jobs.Setup(**material | {"style_size": 512})
    assert f"style.size_px={max(Image.open(material['style_image']).size)}" in setup.words("johnson", "vgg19")


def test_times_are_medians_after_two_that_do_not_count():
    calls = iter([9.0, 9.0, 0.0, 0.02, 0.01])
    assert jobs._milliseconds(lambda: __import__("time").sleep(next(calls) / 100), 3, "cpu") < 9
    assert next(calls, None) is None


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
def test_peak_memory_counts_what_was_taken():
    before = jobs._peak_rss_mb()
    taken = np.ones(60_000_000, np.uint8)
    assert jobs._peak_rss_mb() > before + 20 or before > 60 + taken.nbytes / 2**20


def test_flops_are_those_of_the_convolutions():
    """2 multiply-adds per weight and place: the Johnson network counted by hand."""
    counted = jobs.flops(net={"name": "johnson"}, size=64, batch=2, sizes=[(64, 96)])
    places = 64 * 96
    by_hand = 2 * places * (3 * 32 * 81 * 2 + 32 * 64 * 9 / 4 + 64 * 128 * 9 / 16 + 10 * 128 * 128 * 9 / 16)
    by_hand += 2 * places * (128 * 64 * 9 / 4 + 64 * 32 * 9)
    assert counted["pictures"]["64x96"] == pytest.approx(by_hand, rel=1e-6)
    assert counted["training_step"] > 3 * 2 * by_hand * 64 / 96


def test_the_ceilings_are_products_and_copies(monkeypatch):
    monkeypatch.setattr(jobs, "_milliseconds", lambda work, repeats, device: work() is None or 10.0)
    found = jobs.ceilings(device="cpu")
    assert found["matmul_float32_tflops"] == pytest.approx(2 * 2048**3 / 0.01 / 1e12)
    assert found["copy_gb_per_second"] == pytest.approx(2 * 2**28 / 0.01 / 1e9)


def test_accuracy_is_the_distance_to_float32_torch(johnson_model, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    sizes = [(20, 24)]
    taken = jobs.onnxruntime_infer(
        style=str(johnson_model), sizes=sizes, repeats=1, threads=1, device="cpu", out=str(out)
    )
    assert taken["sizes"]["20x24"]["milliseconds"] > 0
    found = jobs.reference(style=str(johnson_model), sizes=sizes, outputs={"onnxruntime": str(out)})
    assert found["differences"]["onnxruntime"]["20x24"]["max"] < 0.1
    np.save(out / "20x24.npy", np.load(out / "20x24.npy") + np.float32(2 / 255))
    found = jobs.reference(style=str(johnson_model), sizes=sizes, outputs={"onnxruntime": str(out)})
    assert found["differences"]["onnxruntime"]["20x24"]["mean"] == pytest.approx(2, abs=0.05)


def test_a_model_that_cannot_be_built_again_has_no_accuracy(inverting_model):
    assert jobs.reference(style=str(inverting_model), sizes=[(16, 16)], outputs={})["differences"] is None


def test_the_tables_hold_the_numbers():
    found = {title: rows for title, _, rows in command.tables(train_result())}
    training = {row[0]: row[1:] for row in next(iter(found.values()))}
    assert training["images per second"] == ["2.00", "5.00", "2.50", "2.50"]
    assert training["peak memory, MB"] == ["2,000", "1,000", "0.50", "0.50"]
    assert training["loader alone, images/s"][:3] == ["100", "300", "3.00"]
    assert "peak GPU memory, MB" not in training
    losses = found["losses on held-out photos after 9 steps"]
    assert losses[1] == ["style, seed 0", "0.2000", "0.2100", "+5.0%"]


def test_the_table_of_a_race():
    scores = {"steps": 500, "content": 1.0, "style": 0.05, "total": 0.15, "seconds": 2000.0}
    ours = scores | {"steps": 400, "total": 0.14, "seconds": 400.0}
    run = {"seed": 0, "plain": scores, "fst": ours, "ratio": 0.2}
    ((_, _, rows),) = command.tables({"bench": "race", "rounds": [run]})
    assert rows[0] == ["plain, seed 0, 500 steps", "2,000", "1.0000", "0.0500", "0.1500", ""]
    assert rows[1] == ["fst, seed 0, 400 steps", "400", "1.0000", "0.0500", "0.1400", "0.200"]


def test_the_plots_bars_are_as_long_as_their_values(tmp_path):
    plot.draw(tmp_path / "p.png", "title", "footer", [plot.Group("speed", "ms", [("plain", 100.0), ("fst", 25.0)])])
    pixels = np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).astype(int)
    lengths = [
        (abs(pixels - np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])).sum(2) == 0).sum(1).max()
        for colour in (plot._COLOURS["plain"], plot._OURS)
    ]
    assert lengths[0] == pytest.approx(4 * lengths[1], abs=4)


@pytest.mark.parametrize("name", ["train", "infer", "start"])
def test_help_of_each(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", name, "--help"])
    assert ended.value.code == 0
    assert "--plot" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --photos nowhere --style-image x.jpg", "--photos nowhere: not a folder"),
        ("infer --sizes 12", "HEIGHTxWIDTH"),
        ("infer --sizes 512x8", "HEIGHTxWIDTH"),
        ("infer --backend tensorflow", "none of onnxruntime, torch"),
        ("infer no_such_style", "no_such_style"),
        ("start --photo nowhere.jpg", "no such file"),
        ("sing", "invalid choice"),
        ("", "train|race|infer|start"),
    ],
)
def test_wrong_use_is_one_line(words, said, capsys):
    assert main(["bench", *words.split()]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_accuracy_needs_photos_to_judge_by(material):
    with pytest.raises(UsageError, match="--validation"):
        bench.TrainBench(photos=Path(material["photos"]), style_image=Path(material["style_image"]), accuracy_steps=5)


@pytest.mark.slow
def test_train_end_to_end(material, tmp_path, capsys):
    words = ["bench", "train", "--photos", material["photos"], "--style-image", material["style_image"]]
    words += ["--weights", material["weights"], "--size", "32", "--batch", "2", "--steps", "4", "--rounds", "1"]
    words += ["--accuracy-steps", "3", "--seeds", "1", "--validation", material["photos"], "--threads", "1"]
    words += [
        "--set",
        "trainer.precision=32-true",
        "--json",
        str(tmp_path / "r.json"),
        "--plot",
        str(tmp_path / "p.png"),
    ]
    assert main(words) == 0
    assert "images per second" in capsys.readouterr().out
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["ratio"]["images_per_second"] > 0
    assert 100 < found["fst"]["peak_rss_mb"] < 5000
    assert found["loader"]["images_per_second"] > 0
    # Three steps in float32 from the same weights on the same photos: the same losses.
    (run,) = found["accuracy"]
    assert abs(run["difference"]["content"]) < 0.02
    assert abs(run["difference"]["style"]) < 0.02
    assert Image.open(tmp_path / "p.png").width == 900


@pytest.mark.slow
def test_race_end_to_end(material, tmp_path, capsys):
    words = ["bench", "race", "--photos", material["photos"], "--style-image", material["style_image"]]
    words += ["--weights", material["weights"], "--size", "32", "--batch", "2", "--steps", "2", "--threads", "1"]
    words += ["--set", "trainer.max_steps=3", "--set", "data.size=32", "--set", "data.val_count=1"]
    assert main(words) == 2
    assert "add --validation FOLDER" in capsys.readouterr().err
    assert main([*words, "--validation", material["photos"], "--json", str(tmp_path / "r.json")]) == 0
    (run,) = json.loads((tmp_path / "r.json").read_text())["rounds"]
    assert (run["plain"]["steps"], run["fst"]["steps"]) == (2, 3)
    assert run["ratio"] == pytest.approx(run["fst"]["seconds"] / run["plain"]["seconds"])
    for side in ("plain", "fst"):
        assert run[side]["total"] == pytest.approx(0.1 * run[side]["content"] + run[side]["style"])


@pytest.mark.slow
def test_infer_end_to_end(johnson_model, tmp_path):
    words = ["bench", "infer", str(johnson_model), "--sizes", "32x40", "--repeats", "2", "--rounds", "1"]
    assert main([*words, "--json", str(tmp_path / "r.json")]) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    (row,) = found["models"]
    cell = row["sizes"]["32x40"]
    assert cell["times_faster"] == pytest.approx(found["plain"]["32x40"] / cell["milliseconds"])
    assert cell["difference_255"]["max"] < 0.1
    assert cell["gflop"] > 0


@pytest.mark.slow
def test_a_job_that_fails_says_why(material):
    with pytest.raises(UsageError, match="no such file"):
        rounds.run_job("plain_train", threads=1, run=material | {"weights": "nowhere"}, steps=4, warm_up=1)


@pytest.mark.slow
def test_start_measures_both_and_counts_only_their_own_memory(johnson_model):
    ballast = np.ones(800_000_000, np.uint8)  # of this process
    found = start.measure(str(johnson_model), rounds=1)
    assert found.keys() == {"fst", "minimal"}
    for (turn,) in found.values():
        assert 0 < turn["seconds"] < 60
        assert 20 < turn["peak_rss_mb"] < ballast.nbytes / 2**20


@pytest.mark.slow
@pytest.mark.parametrize("style", ["multi", "starry_night_diverse"])
def test_start_gives_neutral_values_to_the_further_inputs(style):
    assert start.measure(style, rounds=1).keys() == {"fst", "minimal"}


def test_start_refuses_a_model_that_needs_more_than_a_photo():
    with pytest.raises(UsageError, match="cannot be left out"):
        start.measure("any", rounds=1)


def test_plain_photos_are_found_like_the_scripts_do(photos):
    (photos / "deep").mkdir()
    (photos / "00.jpg").rename(photos / "deep" / "x.PNG")
    (photos / "note.txt").write_text("no picture")
    assert [file.name for file in plain.find_photos(photos)] == [f"{n:02}.jpg" for n in range(1, 8)] + ["x.PNG"]
