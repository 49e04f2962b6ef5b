"""The estimator keeps scikit-learn's rules, proved with a tiny random model.

scikit-learn's own check list skips estimators of texts for most of its checks, so the ones that
matter are named here.
"""

import gc
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from lightune.errors import DataError, LightuneError
from lightune.models.tiny import save_tiny
from lightune.sklearn import LightuneClassifier, texts_of

GOOD = ["good film", "good good plot", "a good one", "so good", "good", "very good film"]
BAD = ["bad film", "bad bad plot", "a bad one", "so bad", "bad", "very bad film"]
X, Y = GOOD + BAD, ["pos"] * 6 + ["neg"] * 6


QUICK = {"precision": "fp32", "engine": {"threads": 1}}  # best for a model of this size


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"), "bert")


@pytest.fixture
def make(folder):
    """Return a function that makes an estimator which fits in a second."""

    def make(**changes) -> LightuneClassifier:
        settings = {"model": str(folder), "epochs": 1, "batch_size": 4, "train_settings": QUICK}
        return LightuneClassifier(**settings | changes)

    return make


@pytest.fixture(scope="session")
def fitted(folder) -> LightuneClassifier:
    settings = {"method": "full", "epochs": 10, "batch_size": 4, "learning_rate": 5e-3}
    return LightuneClassifier(str(folder), **settings, train_settings=QUICK).fit(X, Y)


class TestRulesOfScikitLearn:
    def test_constructing_keeps_its_arguments_and_does_no_work(self):
        code = (
            "import sys; from lightune.sklearn import LightuneClassifier;"
            "e = LightuneClassifier('no such model', epochs='?');"
            "assert vars(e).keys() == e.get_params().keys();"
            "sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0

    def test_clone_and_set_params(self, make):
        settings = {"rank": 2}
        estimator = make(method_settings=settings, random_state=3)
        twin = clone(estimator)
        assert twin is not estimator
        assert twin.get_params() == estimator.get_params()
        assert twin.set_params(epochs=7, method="full").get_params()["epochs"] == 7
        assert estimator.epochs == 1
        assert settings == {"rank": 2}

    def test_a_clone_of_a_fitted_one_is_not_fitted(self, fitted):
        with pytest.raises(NotFittedError):
            clone(fitted).predict(X)

    @pytest.mark.parametrize("method", ["predict", "predict_proba"])
    def test_needs_fit_first(self, make, method):
        with pytest.raises(NotFittedError):
            getattr(make(), method)(X)

    def test_fit_changes_no_parameter_and_returns_itself(self, make):
        estimator = make()
        before = estimator.get_params()
        assert estimator.fit(X, Y) is estimator
        assert estimator.get_params() == before

    def test_predictions_are_the_most_probable_classes(self, fitted):
        probabilities = fitted.predict_proba(X)
        assert probabilities.shape == (12, 2)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
        assert list(fitted.classes_) == ["neg", "pos"]
        assert list(fitted.predict(X)) == list(fitted.classes_[probabilities.argmax(1)])

    def test_learns(self, fitted):
        assert fitted.score(X, Y) == 1.0
        assert list(fitted.predict(["good good", "bad bad"])) == ["pos", "neg"]

    def test_one_seed_gives_one_result_and_another_another(self, make):
        first, second = make().fit(X, Y), make().fit(X, Y)
        other = make(random_state=1).fit(X, Y)
        np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
        assert np.abs(first.predict_proba(X) - other.predict_proba(X)).max() > 0

    def test_fitting_again_forgets_the_first_time(self, make):
        estimator = make().fit(["one", "two", "six"] * 2, [1, 2, 3] * 2)
        estimator.fit(X, Y)
        assert list(estimator.classes_) == ["neg", "pos"]
        np.testing.assert_array_equal(estimator.predict_proba(X), make().fit(X, Y).predict_proba(X))

    def test_a_fit_that_fails_leaves_it_unfitted(self, make):
        estimator = make().fit(X, Y)
        with pytest.raises(ValueError, match="one text, not several"):
            estimator.fit("text", Y)
        with pytest.raises(NotFittedError):
            estimator.predict(X)

    def test_random_state_may_be_a_generator(self, make):
        seeds = [np.random.RandomState(5), np.random.RandomState(5)]
        first, second = (make(random_state=seed).fit(X, Y) for seed in seeds)
        np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))

    def test_rows_do_not_depend_on_their_company(self, fitted):
        together = fitted.predict_proba(X)
        alone = np.concatenate([fitted.predict_proba([text]) for text in X])
        np.testing.assert_allclose(together, alone, atol=1e-4)


LABELS = [
    pytest.param(["yes", "no"], id="words"),
    pytest.param([3, -1], id="whole numbers"),
    pytest.param([True, False], id="booleans"),
    pytest.param(["a10", "a2"], id="words that sort otherwise elsewhere"),
    pytest.param([1.0, 0.0], id="whole floats"),
    pytest.param(["", " padded "], id="odd words"),
    pytest.param(["a|b", "True"], id="words that mean something elsewhere"),
    pytest.param(["1.0", "1"], id="words that would become one number"),
]


@pytest.mark.parametrize("pair", LABELS)
def test_labels_come_back_in_their_own_type(make, pair):
    y = np.array([pair[0]] * 6 + [pair[1]] * 6)
    estimator = make(method="full", epochs=10, learning_rate=5e-3).fit(X, y)
    assert estimator.classes_.dtype == y.dtype
    assert list(estimator.classes_) == sorted(pair)
    predicted = estimator.predict(X)
    assert predicted.dtype == y.dtype
    assert (predicted == y).mean() > 0.8  # the columns belong to the right classes


PAIRS = [("good", "film"), ("bad", "plot")] * 6

CONTAINERS = {
    "list": (X, Y),
    "tuple": (tuple(X), tuple(Y)),
    "array of objects": (np.array(X, dtype=object), np.array(Y, dtype=object)),
    "array of str": (np.array(X), np.array(Y)),
    "array of one column": (np.array(X).reshape(-1, 1), Y),
    "array of two columns": (np.array(PAIRS), Y),
    "list of pairs": (PAIRS, Y),
    "pandas column": (pd.Series(X, index=range(7, 19)), pd.Series(Y, index=range(7, 19))),
    "pandas categories": (pd.Series(X), pd.Series(Y, dtype="category")),
    "pandas frame": (pd.DataFrame({"review": X}), pd.Series(Y)),
    "pandas pairs": (pd.DataFrame(PAIRS, columns=["text", "text_pair"]), Y),
    "polars column": (pl.Series(X), pl.Series(Y)),
    "polars frame": (pl.DataFrame({"review": X}), pl.Series(Y)),
    "polars pairs": (pl.DataFrame(PAIRS, schema=["a", "b"], orient="row"), Y),
}


@pytest.mark.parametrize("x", [c[0] for c in CONTAINERS.values()], ids=list(CONTAINERS))
def test_every_container_gives_the_same_rows(x):
    rows = texts_of(x)
    pairs = [{"text": first, "text_pair": second} for first, second in PAIRS]
    assert rows == (pairs if len(rows[0]) == 2 else [{"text": text} for text in X])
    assert {type(cell) for row in rows for cell in row.values()} == {str}


@pytest.mark.parametrize("name", ["array of str", "list of pairs", "pandas frame", "polars column"])
def test_fits_predicts_and_scores_from(make, name):
    x, y = CONTAINERS[name]
    estimator = make().fit(x, y)
    assert estimator.predict(x).shape == (12,)
    assert 0 <= estimator.score(x, y) <= 1


def test_named_columns_win_over_their_order():
    frame = pd.DataFrame({"text_pair": ["second"], "text": ["first"]})
    assert texts_of(frame) == [{"text": "first", "text_pair": "second"}]


WRONG = [
    (["a", None], Y, r"X\[1\] is no text"),
    (["a", 5], Y, r"X\[1\] is no text"),
    ([["a", "b", "c"]], Y, r"X\[0\] is no text"),
    ([("a", "b"), "c"], Y, "mixes single texts with pairs"),
    (np.zeros((3, 3)), Y, "one column of texts"),
    (pd.DataFrame({"a": X, "b": X, "c": X}), Y, "one column of texts"),
    (pd.Series(["a", None]), Y, r"X\[1\] is no text"),
    ("one text", Y, "one text, not several"),
    ([], [], "no rows"),
    (X, Y[:5], "different lengths"),
    (X, [*Y[:-1], None], r"y\[11\] is missing"),
    (X, [*range(11), float("nan")], r"y\[11\] is missing"),
    (X, np.linspace(0, 1, 12), "continuous"),
    (X, ["same"] * 12, "two different labels"),
    (X, np.zeros((12, 2)), "1d array"),
]


@pytest.mark.parametrize(("x", "y", "message"), WRONG, ids=[w[2] for w in WRONG])
def test_wrong_input_is_a_value_error_that_says_what(make, x, y, message):
    with pytest.raises(ValueError, match=message):
        make().fit(x, y)


def test_wrong_settings_are_reported_when_fitting(make):
    with pytest.raises(LightuneError, match=r"method\.rank"):
        make(method_settings={"rank": 0}).fit(X, Y)
    with pytest.raises(DataError):
        texts_of([b"bytes"])


class TestInsideScikitLearn:
    def test_cross_val_score(self, make):
        scores = cross_val_score(make(), X, Y, cv=2, error_score="raise")
        assert scores.shape == (2,)

    @pytest.mark.proof
    def test_cross_val_score_in_two_processes(self, make):
        one = cross_val_score(make(), np.array(X), Y, cv=2, error_score="raise")
        two = cross_val_score(make(), np.array(X), Y, cv=2, n_jobs=2, error_score="raise")
        np.testing.assert_array_equal(one, two)

    def test_grid_search(self, make):
        grid = {"method_settings": [{"rank": 1}, {"rank": 2}], "epochs": [1]}
        search = GridSearchCV(make(), grid, cv=2, error_score="raise").fit(pd.Series(X), Y)
        assert search.best_params_["method_settings"] in grid["method_settings"]
        assert search.predict(pd.Series(X)).shape == (12,)
        assert search.best_estimator_.run_.recipe.method.rank in (1, 2)

    def test_pipeline(self, make):
        lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
        pipeline = Pipeline([("lower", lower), ("model", make())]).fit(X, Y)
        shouted = [text.upper() for text in X]
        np.testing.assert_array_equal(pipeline.predict(shouted), pipeline.predict(X))
        assert list(pipeline.classes_) == ["neg", "pos"]


class TestFiles:
    def test_a_pickle_predicts_the_same_in_another_process(self, fitted, tmp_path):
        (tmp_path / "model.pkl").write_bytes(pickle.dumps(fitted))
        np.save(tmp_path / "expected.npy", fitted.predict_proba(X))
        code = (
            "import pickle, sys, numpy as np\n"
            f"X = {X!r}\n"
            "estimator = pickle.load(open('model.pkl', 'rb'))\n"
            "found, expected = estimator.predict_proba(X), np.load('expected.npy')\n"
            "np.testing.assert_array_equal(found, expected)\n"
            "print(estimator.predict(X).tolist())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(fitted.predict(X).tolist())

    def test_a_pickle_holds_safetensors_and_no_torch_objects(self, fitted):
        content = pickle.dumps(fitted)
        assert b"model.safetensors" in content
        assert b"torch" not in _names_of_classes(content)

    def test_an_unfitted_one_can_be_pickled(self, make):
        twin = pickle.loads(pickle.dumps(make(epochs=9)))
        assert twin.get_params() == make(epochs=9).get_params()

    def test_the_temporary_folder_goes_with_the_estimator(self, make, monkeypatch, tmp_path):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        estimator = make().fit(X, Y)
        assert len(list(tmp_path.iterdir())) == 1
        estimator.fit(X, Y)
        assert len(list(tmp_path.iterdir())) == 1
        twin = pickle.loads(pickle.dumps(estimator))
        assert len(list(tmp_path.iterdir())) == 2
        del estimator, twin
        gc.collect()
        assert list(tmp_path.iterdir()) == []

    def test_a_failing_fit_leaves_no_folder(self, make, monkeypatch, tmp_path):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(LightuneError):
            make(method_settings={"targets": ["nothing"]}).fit(X, Y)
        assert list(tmp_path.iterdir()) == []

    def test_out_keeps_every_run(self, make, tmp_path):
        estimator = make(out=tmp_path / "kept").fit(X, Y)
        estimator.fit(X, Y)
        folders = sorted(path.name for path in (tmp_path / "kept").iterdir())
        assert folders == ["fit-1", "fit-2"]
        assert estimator.run_.folder == tmp_path / "kept" / "fit-2"
        del estimator
        gc.collect()
        assert (tmp_path / "kept" / "fit-1" / "adapter").is_dir()


def _names_of_classes(content: bytes) -> bytes:
    """Return the modules and classes that a pickle asks for."""
    import pickletools

    names = [
        argument.encode()
        for opcode, argument, _ in pickletools.genops(content)
        if "UNICODE" in opcode.name and len(argument) < 60
    ]
    used = [name for name in names if b"." in name and b"/" not in name and b" " not in name]
    return b"\n".join(used)
