"""Loading refuses what is damaged, hostile or of another shape, and leaves the model as it was."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lightune.adapters.files import ADAPTER_WEIGHTS, JSON_LIMIT, MANIFEST, sha256
from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import HeadId, Manifest, describe_method, read_manifest
from lightune.adapters.save import save_adapter
from lightune.errors import AdapterError, LightuneError
from lightune.methods.beside import train_new_modules
from lightune.methods.lora import LoRA
from lightune.models.tiny import FAMILIES
from lightune.types import HeadSpec

HEAD = HeadSpec("sequence_classification", ("no", "yes"))
QUERY_A = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"
CLASSIFIER = "base_model.model.classifier.weight"


def base(labels: tuple[str, ...] = ("no", "yes")) -> nn.Module:
    return FAMILIES["bert"](HeadSpec("sequence_classification", labels), 0)[0]


@pytest.fixture
def folder(tmp_path) -> Path:
    model, method = base(), LoRA(rank=2, targets=["query"])
    beside = train_new_modules(model, ["classifier"])
    parts = [method.attach(model), beside]
    head = HeadId(kind="sequence_classification", labels=("no", "yes"))
    manifest = Manifest(method=describe_method(method), head=head)
    save_adapter(tmp_path / "adapter", model, parts, manifest)
    return tmp_path / "adapter"


def refused(folder: Path, model: nn.Module | None = None) -> AdapterError:
    """Load, expect a refusal, and check that the model is as it was."""
    model = model or base()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(AdapterError) as error:
        load_adapter(folder, model, None)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(p.requires_grad for p in model.parameters())
    assert error.value.found
    assert error.value.mend
    return error.value


def rewrite(folder: Path, change) -> None:
    """Change the tensors, with a manifest that agrees, as a stranger would."""
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    change(tensors)
    save_file(tensors, folder / ADAPTER_WEIGHTS)
    agree(folder)


def agree(folder: Path) -> None:
    """Make the manifest's hash that of the file."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][ADAPTER_WEIGHTS] = sha256(folder / ADAPTER_WEIGHTS)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def edit_manifest(folder: Path, **values) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | values))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda t: t.pop(QUERY_A), f"missing {QUERY_A} (2, "),
        (lambda t: t.update(extra=torch.ones(3)), "unexpected extra (3,)"),
        (
            lambda t: t.update({CLASSIFIER: torch.ones(3, 16)}),
            f"misshapen {CLASSIFIER}: file (3, 16), model (2, ",
        ),
        (lambda t: t.update({QUERY_A: t[QUERY_A].T.contiguous()}), f"misshapen {QUERY_A}"),
        (lambda t: t.update({QUERY_A: t[QUERY_A] * float("nan")}), " of "),
        (lambda t: t[CLASSIFIER].view(-1)[0].fill_(float("inf")), "1 of "),
        (lambda t: t.update({QUERY_A: t[QUERY_A].to(torch.int8)}), "I8"),
    ],
    ids=["missing", "unexpected", "misshapen", "turned", "nan", "inf", "integers"],
)
def test_wrong_tensors_are_refused_and_listed(folder, change, found):
    rewrite(folder, change)
    assert found in refused(folder).found


def test_all_wrong_tensors_are_listed_at_once(folder):
    def change(tensors):
        tensors.pop(QUERY_A)
        tensors["extra"] = torch.ones(3)
        tensors[CLASSIFIER] = torch.ones(3, 16)

    rewrite(folder, change)
    error = refused(folder)
    assert "3 tensors differ" in error.problem
    assert all(word in error.found for word in ("missing", "unexpected", "misshapen"))


def test_an_adapter_of_other_labels_is_refused_with_both_shapes(folder):
    error = refused(folder, base(("a", "b", "c")))
    assert "file (2, " in error.found
    assert "model (3, " in error.found


def test_bfloat16_tensors_are_read_without_loss(folder):
    rewrite(folder, lambda t: t.update({name: v.bfloat16() for name, v in t.items()}))
    parts, _ = load_adapter(folder, base(), None)
    saved = load_file(folder / ADAPTER_WEIGHTS)
    head = parts[1].trainable["classifier.weight"]
    assert head.dtype == torch.float32
    assert torch.equal(head, saved[CLASSIFIER].float())


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [ADAPTER_WEIGHTS, "adapter_config.json"])
def test_one_flipped_bit_is_noticed(folder, name):
    flip(folder / name, -1)
    assert "damaged or was changed" in refused(folder).problem


@pytest.mark.parametrize("position", [0, 7, 20, 100])
def test_a_damaged_header_is_noticed_even_when_the_hash_agrees(folder, position):
    flip(folder / ADAPTER_WEIGHTS, position)
    agree(folder)
    refused(folder)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_noticed_even_when_the_hash_agrees(folder, keep):
    content = (folder / ADAPTER_WEIGHTS).read_bytes()
    (folder / ADAPTER_WEIGHTS).write_bytes(content[:keep])
    agree(folder)
    refused(folder)


def test_a_header_that_claims_a_terabyte_is_refused_before_anything_is_allocated(folder):
    claim = {"w": {"dtype": "F32", "shape": [2**19, 2**19], "data_offsets": [0, 2**40]}}
    header = json.dumps(claim).encode()
    (folder / ADAPTER_WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header)
    agree(folder)
    assert "is damaged" in refused(folder).problem


@pytest.mark.parametrize("name", [MANIFEST, ADAPTER_WEIGHTS, "adapter_config.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert name in refused(folder).problem


def test_a_folder_that_lost_its_manifest_loads_by_force_as_one_of_peft(folder):
    (folder / MANIFEST).unlink()
    parts, manifest = load_adapter(folder, base(), None, force=True)
    assert manifest.base.tensors_sha256 is None
    assert len(parts[0].trainable) == 4


def test_pickle_is_refused_by_name(folder):
    (folder / ADAPTER_WEIGHTS).rename(folder / "adapter_model.bin")
    edit_manifest(folder, files={})
    error = refused(folder)
    assert "pickle" in error.problem
    assert error.found == "adapter_model.bin"


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_is_refused_by_content(folder, zipped):
    weights = {"w": torch.ones(200)}
    torch.save(weights, folder / ADAPTER_WEIGHTS, _use_new_zipfile_serialization=zipped)
    agree(folder)
    assert "but a pickle" in refused(folder).problem


def test_a_header_whose_length_looks_like_pickle_is_no_pickle(tmp_path, folder):
    """A length of 640 begins with the two bytes of a pickle."""
    rewrite(folder, lambda t: None)
    content = (folder / ADAPTER_WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    padded = (length // 256 + 3) * 256 + 128  # low byte 0x80
    header = content[8 : 8 + length].ljust(padded)
    (folder / ADAPTER_WEIGHTS).write_bytes(
        struct.pack("<Q", padded) + header + content[8 + length :]
    )
    assert (folder / ADAPTER_WEIGHTS).read_bytes()[0] == 0x80
    agree(folder)
    load_adapter(folder, base(), None)


@pytest.mark.parametrize("name", [MANIFEST, ADAPTER_WEIGHTS])
def test_links_are_refused(folder, name):
    outside = folder.parent / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    error = refused(folder)
    assert "link" in error.problem


def test_a_pipe_is_refused_and_does_not_hang(folder):
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)
    assert "not a file" in refused(folder).problem


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", ".."])
def test_a_path_out_of_the_folder_is_refused(folder, name):
    edit_manifest(folder, files={name: "0" * 64})
    assert "files" in refused(folder).found


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "not readable as JSON"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b"[]", "must hold a JSON object"),
        (b"{}", "format"),
        (b'{"format": 2}', "format"),
        (b'{"format": 1}', "not a manifest"),
        (b'{"format": 1, "method": {}, "surprise": 1}', "not a manifest"),
        (b'{"format": 1, "method": {"name": "nonesuch"}}', "not installed"),
        (b" " * (JSON_LIMIT + 1), "too large"),
    ],
)
def test_a_wrong_manifest_is_refused(folder, content, problem):
    (folder / MANIFEST).write_bytes(content)
    assert problem in refused(folder).problem


def test_wrong_settings_of_the_method_are_refused(folder):
    edit_manifest(folder, method={"name": "lora", "rank": 0})
    with pytest.raises(LightuneError, match=r"lightune\.json: method\.rank"):
        load_adapter(folder, base(), None)


@pytest.mark.parametrize("kind", ["nothing", "a file"])
def test_what_is_no_folder_is_refused(tmp_path, kind):
    path = tmp_path / "adapter"
    if kind == "a file":
        path.write_text("hello")
    error = refused(path)
    assert "no adapter folder" in error.problem
    assert error.found == kind


def test_an_empty_folder_is_refused(tmp_path):
    assert refused(tmp_path).found == "files: none"


def test_a_model_that_is_not_frozen_is_refused(folder):
    model = base().requires_grad_(True)
    with pytest.raises(AdapterError, match="frozen"):
        load_adapter(folder, model, None)


def test_a_manifest_is_read_alone(folder):
    manifest = read_manifest(folder)
    assert manifest.head.labels == ("no", "yes")
    assert manifest.new_modules == ("classifier",)
    assert manifest.layout == "peft"
    assert set(manifest.files) == {ADAPTER_WEIGHTS, "adapter_config.json"}
