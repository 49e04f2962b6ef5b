"""The public data sets of the evidence tables, as pairs of CSV files with like columns.

The files come from a folder named by `LIGHTUNE_DATA` (default `../shared/data` beside the
project), one folder a data set in the layout of its publisher; each has a licence of its own and
none is copied into the project. Splits are the official ones; see docs/results.md.
"""

import csv
import io
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LIGHTUNE_DATA", ROOT.parent / "shared" / "data"))
WEIGHTS = Path(os.environ.get("LIGHTUNE_WEIGHTS", ROOT.parent / "shared" / "weights"))

Rows = Iterator[list[str]]
AG_CLASSES = {"1": "World", "2": "Sports", "3": "Business", "4": "Sci/Tech"}


def _tsv(text: str) -> Rows:
    for line in text.removeprefix("\ufeff").splitlines():
        yield line.split("\t")


def _file(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


def _sst2(file: str) -> Rows:
    for label, sentence in list(_tsv(_file(f"sst2/{file}.tsv")))[1:]:
        yield [sentence.strip(), "positive" if label == "1" else "negative"]


def _ag_news_test() -> Rows:
    for label, _, description in csv.reader(io.StringIO(_file("ag_news/test.csv"))):
        yield [description, AG_CLASSES[label]]


def _mrpc(split: str) -> Rows:
    for row in list(_tsv(_file(f"mrpc/msr-para-{split}.tsv")))[1:]:
        yield [row[3], row[4], "paraphrase" if row[0] == "1" else "different"]


def _cola(*files: str) -> Rows:
    with zipfile.ZipFile(DATA / "cola/cola_public.zip") as archive:
        for file in files:
            text = archive.read(f"cola_public/raw/{file}.tsv").decode("utf-8")
            for row in _tsv(text):
                yield [row[3], "acceptable" if row[1] == "1" else "unacceptable"]


def _train_and_validation_of_mrpc() -> Rows:
    yield from _mrpc("train")
    yield from _mrpc("val")


SETS: dict[str, tuple[Callable[[], Rows], Callable[[], Rows]]] = {
    "mrpc": (_train_and_validation_of_mrpc, lambda: _mrpc("test")),
    "cola": (
        lambda: _cola("in_domain_train"),
        lambda: _cola("in_domain_dev", "out_of_domain_dev"),
    ),
    "chnsenticorp": (
        lambda: _tsv(_file("chnsenticorp/train.tsv")),
        lambda: _tsv(_file("chnsenticorp/dev.tsv")),
    ),
    "ag_news": (lambda: _tsv(_file("ag_news/train_10k_alps.tsv")), _ag_news_test),
    "sst2": (lambda: _sst2("train"), lambda: _sst2("dev")),
}
"""name -> functions that give the training and the test rows; smallest data set first."""


PARTS: dict[str, tuple[Callable[[], Rows], Callable[[], Rows]]] = {
    "sst2_8k": (
        lambda: iter(random.Random(0).sample(list(_sst2("train")), 8000)),
        lambda: _sst2("dev"),
    ),
}
"""name -> as in `SETS`: parts of a set, drawn at random, for comparisons of very many rows."""


def prepare(name: str, folder: Path) -> tuple[Path, Path]:
    """Write `<name>_train.csv` and `<name>_test.csv` into `folder` unless they are there.

    Columns: `text, label`, for sentence pairs `text, text_pair, label`.
    """
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in zip(("train", "test"), (SETS | PARTS)[name], strict=True):
        path = folder / f"{name}_{split}.csv"
        paths.append(path)
        if path.exists():
            continue
        content = list(rows())
        header = ["text", "label"] if len(content[0]) == 2 else ["text", "text_pair", "label"]
        with path.with_suffix(".part").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *content])
        path.with_suffix(".part").replace(path)
    return paths[0], paths[1]


def first(path: Path, rows: int, folder: Path) -> Path:
    """Write the first `rows` records of a file; the sets are in random order."""
    cut = folder / f"{path.stem}_{path.parent.name}_first_{rows}{path.suffix}"
    with path.open(newline="", encoding="utf-8") as source, cut.open("w", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(line for line, _ in zip(source, range(rows), strict=False))
        else:
            kept = [row for row, _ in zip(csv.reader(source), range(rows + 1), strict=False)]
            csv.writer(file).writerows(kept)
    return cut
