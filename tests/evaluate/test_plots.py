"""The pictures are written whatever the labels and the log hold, without a warning."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import image

from lightune.evaluate import plots


def table(labels, seed=0):
    counts = np.random.default_rng(seed).integers(0, 40, (len(labels), len(labels)))
    return {"labels": list(labels), "counts": counts.tolist()}


@pytest.mark.parametrize(
    "labels",
    [
        ["ham", "spam"],
        ["体育", "财经", "𠀀", "🎉", "عربى"],
        ["$a$", "$", "_b^{2", "", " \n", "x" * 300],
        [f"class {i}" for i in range(21)],
        [f"class {i}" for i in range(150)],
    ],
    ids=["two", "scripts", "signs", "many", "very many"],
)
def test_confusion_matrix_of_any_labels(tmp_path, labels):
    plots.confusion_matrix(tmp_path / "m.png", table(labels))
    pixels = image.imread(tmp_path / "m.png")
    assert min(pixels.shape[:2]) > 400
    assert max(pixels.shape[:2]) < 3000


def test_row_without_records_and_empty_matrix(tmp_path):
    plots.confusion_matrix(tmp_path / "a.png", {"labels": ["a", "b"], "counts": [[0, 0], [3, 1]]})
    plots.confusion_matrix(tmp_path / "b.png", {"labels": ["a", "b"], "counts": [[0, 0], [0, 0]]})


class TestNames:
    def test_no_font_no_name_but_a_number(self, monkeypatch):
        monkeypatch.setattr(plots, "_cjk_families", lambda: ())
        names, families, replaced = plots._drawable(["ham", "体育", "x" * 60, "a$b"])
        assert names == ["ham", "#1", "x" * 23 + "…", r"a\$b"]
        assert families == [plots.LATIN]
        assert replaced

    def test_a_chinese_font_is_used_where_there_is_one(self, monkeypatch):
        covered = {plots.LATIN: frozenset(map(ord, "ham ")), "Song": frozenset(map(ord, "体育"))}
        monkeypatch.setattr(plots, "_cjk_families", lambda: ("Song",))
        monkeypatch.setattr(plots, "_characters", covered.__getitem__)
        names, families, replaced = plots._drawable(["ham", "体育", "ham 体"])
        assert (names, replaced) == (["ham", "体育", "ham 体"], False)
        assert families == [plots.LATIN, "Song"]

    def test_latin_font_covers_what_it_says(self):
        known = plots._characters(plots.LATIN)
        assert ord("é") in known
        assert ord("体") not in known


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ([], []),
        ([(1, 0.7)], [(1, 0.5)]),
        ([(i, 1 / i) for i in range(1, 300)], [(100, 0.8), (200, 0.9)]),
        ([(1, float("nan")), (2, float("inf")), (3, 1.0)], []),
        ([(1, float("nan"))], [(1, 0.1)]),
    ],
)
def test_loss_curve_of_any_log(tmp_path, train, validation):
    plots.loss_curve(tmp_path / "loss.png", train, validation, "macro_f1")
    assert image.imread(tmp_path / "loss.png").shape[0] > 300


class TestSmooth:
    def test_constant_and_line_stay(self):
        assert plots.smooth(np.full(50, 2.0)) == pytest.approx(np.full(50, 2.0))
        line = np.arange(200.0)
        assert plots.smooth(line)[50:150] == pytest.approx(line[50:150])

    def test_noise_shrinks_and_gaps_are_passed_over(self):
        values = np.random.default_rng(0).normal(size=400)
        assert plots.smooth(values).std() < 0.3
        values[[0, 7, 399]] = np.nan
        assert np.isfinite(plots.smooth(values)).all()
        assert np.isnan(plots.smooth(np.array([np.nan]))).all()


def test_no_pyplot_and_no_global_state():
    code = (
        "import sys, tempfile, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from lightune.evaluate import plots\n"
        "plots.loss_curve(tempfile.mkdtemp() + '/l.png', [(1, 2.0), (2, 1.0)])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert matplotlib.rcParams.copy() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
