"""Random and damaged files for readers, recipes and adapters: errors of ours, and nothing else.

    python tests/proof/fuzz.py --examples 2000

    readers    CSV, TSV, JSON, JSON lines, SQuAD, Parquet, text, gzip: read, split, encoded
    recipes    YAML text damaged; and mappings with wrong keys, types and sizes
    adapters   manifest, PEFT's config and the header of the weights changed, the hashes put right

Each file is a whole one with a few changes: bits, pieces cut out, doubled, moved, and what tends to
break readers put in. A file may be read or refused; it may not raise anything that is no
`LightuneError`, take more than `SECONDS`, or more than `MEMORY` bytes beyond what the process had.
An adapter that is refused leaves the model as it was. Prints one JSON object.
"""

import argparse
import gzip
import hashlib
import io
import json
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parent))

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import changed, damaged, replaced
from small_runs import recipe, rows, small_run

from lightune import strict_yaml
from lightune.adapters.files import MANIFEST, OURS, PEFT_CONFIG
from lightune.adapters.load import load_adapter
from lightune.assembly import splits_of
from lightune.errors import LightuneError
from lightune.models.load import load
from lightune.models.tiny import build, save_tiny
from lightune.recipe import dump, load_recipe, template
from lightune.types import HeadSpec

SECONDS = 10
MEMORY = 2 * 2**30


def refused(work: Callable[[], Any]) -> bool:
    """Do `work`; return whether it was refused with an error of Lightune's own."""
    begun = time.monotonic()
    try:
        work()
        return False
    except LightuneError:
        return True
    finally:
        assert time.monotonic() - begun < SECONDS, "it hangs"


def squad() -> dict[str, Any]:
    qas = [
        {"id": str(i), "question": f"Who {i}?", "answers": [{"text": "Ann", "answer_start": 0}]}
        for i in range(6)
    ]
    paragraphs = [{"context": f"Ann lives here {i}.", "qas": qas} for i in range(6)]
    return {"version": "1", "data": [{"title": "t", "paragraphs": paragraphs}]}


def data_files() -> dict[str, tuple[str, bytes]]:
    """Return whole files: name -> task, content."""
    table = [{"text": str(r["text"]), "label": str(r["label"])} for r in rows(count=12)]
    lines = [f'"{row["text"]}",{row["label"]}' for row in table]
    comma = "\n".join(["text,label", *lines]).encode()
    column = {name: [row[name] for row in table] for name in table[0]}
    parquet = io.BytesIO()
    pq.write_table(pa.table(column), parquet)
    line = "\n".join(json.dumps(row) for row in table).encode()
    tab = "\n".join(f"{row['text']}\t{row['label']}" for row in table).encode()
    number = "\n".join(["text,score", *(f"{row['text']},{i / 3}" for i, row in enumerate(table))])
    turns = [
        {"messages": [{"role": "user", "content": f"a {i}"}, {"role": "assistant", "content": "b"}]}
        for i in range(8)
    ]
    return {
        "rows.csv": ("classification", comma),
        "rows.tsv": ("classification", tab),
        "rows.json": ("classification", json.dumps(table).encode()),
        "rows.jsonl": ("classification", line),
        "rows.parquet": ("classification", parquet.getvalue()),
        "rows.csv.gz": ("classification", comma),
        "numbers.csv": ("regression", number.encode()),
        "squad.json": ("question_answering", json.dumps(squad()).encode()),
        "words.txt": ("language_modeling", b"One text.\nGoes on.\n\nAnother text.\n" * 6),
        "turns.jsonl": ("instruct", "\n".join(map(json.dumps, turns)).encode()),
    }


class Readers:
    """Damaged data files, read as a training reads them, up to the tokens."""

    def __init__(self, place: Path) -> None:
        self.place = place
        families = {"language_modeling": "llama", "instruct": "llama"}
        self.files = data_files()
        classes = HeadSpec("sequence_classification", ("neg", "pos"))
        kinds = {
            "llama": build("llama", HeadSpec("causal_lm"))[1],
            "bert": build("bert", classes)[1],
        }
        self.tokenizers = {
            task: kinds[families.get(task, "bert")] for task, _ in self.files.values()
        }

    def check(self, name: str, content: bytes) -> bool:
        task = self.files[name][0]
        path = self.place / name
        path.write_bytes(gzip.compress(content, 1, mtime=0) if name.endswith(".gz") else content)
        given = {"task": task, "model": "tiny", "data": {"train": str(path), "test": 0.25}}

        def work() -> None:
            made = load_recipe(given)
            splits = splits_of(made)
            state = made.task.learn(splits.train)
            tokenizer = self.tokenizers[task]
            state = made.task.fit_tokenizer(tokenizer, state)
            for records in (splits.train, splits.test):
                made.task.truth(records, state)
                made.task.encode(records, tokenizer, state, 48)

        return refused(work)


class Recipes:
    """Damaged recipes."""

    def __init__(self, place: Path) -> None:
        self.place = place
        whole = recipe("minilm", {"name": "lora", "rank": 4}, data={"train": "rows.csv"})
        self.values = strict_yaml.read(dump(load_recipe(whole)), "recipe")
        self.texts = (dump(load_recipe(whole)).encode(), template().encode())

    def check_text(self, content: bytes) -> bool:
        path = self.place / "recipe.yaml"
        path.write_bytes(content)
        return refused(lambda: load_recipe(path))

    def check_values(self, values: Any) -> bool:
        return refused(lambda: load_recipe(values))


class Adapters:
    """Changed adapter folders, loaded onto their base."""

    def __init__(self, place: Path) -> None:
        self.place = place
        save_tiny(place / "model", "bert")
        methods = ({"name": "lora", "rank": 4}, {"name": "prompt_tuning", "tokens": 4})
        self.folders = []
        for number, method in enumerate((*methods, {"name": "bottleneck"})):
            run = small_run(place / f"run-{number}", place / "model", method, seal=False)
            names = {path.name: path.read_bytes() for path in run.adapter.iterdir()}
            self.folders.append(names)
        theirs = {name: text for name, text in self.folders[0].items() if name != MANIFEST}
        theirs[PEFT_CONFIG] = theirs[PEFT_CONFIG].replace(OURS.encode(), b"")
        self.folders.append(theirs)
        head = HeadSpec("sequence_classification", ("neg", "pos"))
        self.base = load(str(place / "model"), head)
        self.before = self.state()

    def state(self) -> dict[str, Any]:
        model = self.base.model
        trained = [name for name, p in model.named_parameters() if p.requires_grad]
        return {"names": sorted(model.state_dict()), "trained": trained}

    def check(self, files: dict[str, bytes]) -> bool:
        folder = self.place / "adapter"
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        if MANIFEST in files:
            files = files | {MANIFEST: with_hashes(files)}
        for name, content in files.items():
            (folder / name).write_bytes(content)
        parts: list[Any] = []

        def work() -> None:
            loaded, _ = load_adapter(
                folder, self.base.model, self.base.hash(), note=lambda text: None
            )
            parts.extend(loaded)

        try:
            return refused(work)
        finally:
            for part in parts:
                part.detach()
            assert self.state() == self.before, "the model is not as it was"


def with_hashes(files: dict[str, bytes]) -> bytes:
    """Return the manifest with the hashes of the files as they are now, as an attacker would."""
    try:
        manifest = json.loads(files[MANIFEST])
        for name in manifest["files"]:
            if name in files:
                manifest["files"][name] = hashlib.sha256(files[name]).hexdigest()
    except (ValueError, TypeError, KeyError):
        return files[MANIFEST]
    return json.dumps(manifest).encode()


def with_header(content: bytes, header: Any) -> bytes:
    """Return a safetensors file with another header."""
    text = json.dumps(header).encode()
    return (
        len(text).to_bytes(8, "little")
        + text
        + content[8 + int.from_bytes(content[:8], "little") :]
    )


def header_of(content: bytes) -> Any:
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


@st.composite
def adapter_files(draw: Any, folders: list[dict[str, bytes]]) -> dict[str, bytes]:
    """Draw an adapter folder of which one file is changed."""
    files = dict(folders[draw(st.integers(0, len(folders) - 1))])
    name = draw(st.sampled_from(sorted(files)))
    content = files[name]
    if draw(st.booleans()):
        files[name] = draw(damaged(content))
    elif name.endswith(".json"):
        files[name] = json.dumps(draw(changed(json.loads(content)))).encode()
    else:
        files[name] = with_header(content, draw(changed(header_of(content))))
    return files


def with_each_value(files: dict[str, bytes], name: str) -> Iterator[dict[str, bytes]]:
    """Yield an adapter folder with each value of one file's JSON replaced in turn."""
    if name.endswith(".json"):
        for value in replaced(json.loads(files[name])):
            yield files | {name: json.dumps(value).encode()}
    else:
        for value in replaced(header_of(files[name])):
            yield files | {name: with_header(files[name], value)}


def fuzz(place: Path, examples: int) -> tuple[dict[str, list[int]], dict[str, str]]:
    """Check `examples` files of each kind.

    Returns:
        For each kind how many there were and how many were refused; and what escaped, with the
        smallest example that shows it.
    """
    counts: dict[str, list[int]] = {}
    escaped: dict[str, str] = {}
    style = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )

    def run(name: str, strategy: Any, check: Callable[[Any], bool]) -> None:
        counts[name] = [0, 0]

        @style
        @given(strategy)
        def each(value: Any) -> None:
            counts[name][0] += 1
            counts[name][1] += check(value)

        try:
            each()
        except Exception as error:  # whatever escapes is what is looked for
            several = error.exceptions if isinstance(error, ExceptionGroup) else [error]
            escaped[name] = " | ".join(map(described, several))

    readers, recipes, adapters = (
        kind(make(place / kind.__name__)) for kind in (Readers, Recipes, Adapters)
    )
    assert not any(adapters.check(files) for files in adapters.folders)
    for name, (_, content) in readers.files.items():
        assert not readers.check(name, content), f"the whole {name} must be read"
        run(name, damaged(content), lambda value, name=name: readers.check(name, value))
    run("recipe text", st.one_of(*map(damaged, recipes.texts)), recipes.check_text)
    run("recipe values", changed(recipes.values), recipes.check_values)
    run("adapters", adapter_files(adapters.folders), adapters.check)

    def sweep(name: str, values: Iterable[Any], check: Callable[[Any], bool]) -> None:
        tried = counts.setdefault(name, [0, 0])
        for value in islice(values, 0, None, max(1, 200 // examples)):
            tried[0] += 1
            try:
                tried[1] += check(value)
            except Exception as error:
                escaped.setdefault(name, described(error))

    sweep("recipe, each value in turn", replaced(recipes.values), recipes.check_values)
    for files in adapters.folders:
        for name in sorted(files):
            kind = f"{name}, each value in turn"
            sweep(kind, with_each_value(files, name), adapters.check)
    return counts, escaped


def described(error: BaseException) -> str:
    """Return what escaped, where from, and the smallest example."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{f.filename}:{f.lineno}" for f in frames if "/lightune/" in f.filename][-2:]
    notes = " ".join(getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error}"[:300] + f" at {', '.join(ours)}; {notes[:1500]}"


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=2000)
    chosen = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.RLIM_INFINITY))
        counts, escaped = fuzz(Path(place), chosen.examples)
    found = {"kinds": counts, "escaped": escaped, "peak_mb": peak_mb()}
    print(json.dumps(found | {"seconds": round(time.monotonic() - begun)}, indent=1))
    sys.exit(bool(escaped))


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
