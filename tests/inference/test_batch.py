"""Which file becomes which."""

import numpy as np
import pytest

from fst import images
from fst.errors import UsageError
from fst.inference import batch
from fst.inference.stylizer import Stylizer


@pytest.fixture
def tree(tmp_path):
    """a.jpg, sub/b.png and sub/c.gif below in/."""
    pixels = np.zeros((20, 24, 3), np.uint8)
    for name in ("a.jpg", "sub/b.png"):
        images.write(tmp_path / "in" / name, pixels)
    from PIL import Image

    Image.fromarray(pixels).save(tmp_path / "in" / "sub" / "c.gif")
    return tmp_path / "in"


def names(jobs, base):
    return [str(job.target.relative_to(base)) for job in jobs]


def test_a_folder_keeps_its_tree(tree, tmp_path):
    assert names(batch.plan([tree], tmp_path / "out"), tmp_path / "out") == ["a.jpg", "sub/b.png", "sub/c.png"]


def test_files_keep_their_names(tree, tmp_path):
    jobs = batch.plan([tree / "a.jpg", tree / "sub" / "b.png"], tmp_path / "out")
    assert names(jobs, tmp_path / "out") == ["a.jpg", "b.png"]


def test_a_pictures_suffix_is_a_file(tree, tmp_path):
    assert batch.plan([tree / "a.jpg"], tmp_path / "new" / "x.png")[0].target == tmp_path / "new" / "x.png"
    with pytest.raises(UsageError, match="is one file"):
        batch.plan([tree], tmp_path / "x.png")


def test_variations_are_numbered(tree, tmp_path):
    jobs = batch.plan([tree], tmp_path / "out", variations=2)
    wanted = ["a_1.jpg", "a_2.jpg", "sub/b_1.png", "sub/b_2.png", "sub/c_1.png", "sub/c_2.png"]
    assert names(jobs, tmp_path / "out") == wanted
    assert [job.number for job in jobs] == [0, 1] * 3
    jobs = batch.plan([tree / "a.jpg"], tmp_path / "x.png", variations=3)
    assert names(jobs, tmp_path) == ["x_1.png", "x_2.png", "x_3.png"]
    assert names(batch.plan([tree / "a.jpg"], tmp_path / "x.png", variations=1), tmp_path) == ["x_1.png"]
    images.write(tree / "a_2.jpg", np.zeros((20, 24, 3), np.uint8))
    with pytest.raises(UsageError, match=r"a_2\.jpg exists: --overwrite"):
        batch.plan([tree / "a.jpg"], tree, variations=2)
    with pytest.raises(UsageError, match=r"a_2\.jpg would be replaced by a repainting of "):
        batch.plan([tree / "a.jpg", tree / "a_2.jpg"], tree, variations=2, overwrite=True)


def test_outputs_below_the_input_are_not_inputs(tree):
    first = batch.plan([tree], tree / "out")
    images.write(first[0].target, np.zeros((20, 20, 3), np.uint8))
    assert len(batch.plan([tree], tree / "out", overwrite=True)) == len(first)


def test_nothing_is_replaced_unasked(tree, tmp_path):
    with pytest.raises(UsageError, match="its own repainting"):
        batch.plan([tree / "a.jpg"], tree, overwrite=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="--overwrite"):
        batch.plan([tree / "a.jpg"], tmp_path / "out")
    other = tmp_path / "other" / "a.jpg"
    images.write(other, np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(UsageError, match="both become"):
        batch.plan([tree / "a.jpg", other], tmp_path / "new")


def test_a_folder_without_pictures_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no pictures"):
        batch.plan([tmp_path / "empty"], tmp_path / "out")


def test_what_fails_does_not_stop_the_others(tree, tmp_path, inverting_model):
    (tree / "bad.jpg").write_text("not a picture")
    outcomes = list(batch.run(batch.plan([tree], tmp_path / "out"), Stylizer(inverting_model)))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True, True]
    assert "bad.jpg" in outcomes[1].error
    assert not (tmp_path / "out" / "bad.jpg").exists()
    assert images.read(tmp_path / "out" / "sub" / "c.png").pixels.min() == 255


def test_an_output_folder_that_holds_the_inputs_is_no_reason_to_skip_them(tree, tmp_path):
    jobs = batch.plan([tree / "sub"], tmp_path / "in", overwrite=True)
    assert names(jobs, tmp_path / "in") == ["b.png", "c.png"]
    with pytest.raises(UsageError, match="its own repainting"):
        batch.plan([tree], tree, overwrite=True)


def test_a_picture_that_cannot_be_written_is_no_folder(tree, tmp_path):
    with pytest.raises(UsageError, match="not written"):
        batch.plan([tree / "a.jpg"], tmp_path / "x.gif")
