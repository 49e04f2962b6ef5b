"""Bytes of a file -> text, or an error that says what the file is instead.

Why:        a wrong encoding read with replacement characters trains on rubbish in silence.
Invariants: decoding is strict; a byte-order mark never becomes part of the first column's name;
            line breaks are kept as they are, so that line numbers are those of an editor; a packed
            file that unpacks to far more than a text would is refused before it fills the memory.
"""

import codecs
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

from lightune.errors import DataError

_MAGIC = {
    b"PK\x03\x04": ("a zip archive or an Excel workbook", "unpack it, or save the sheet as CSV"),
    b"\x1f\x8b": ("gzip", "give the file an ending such as .csv.gz"),
    b"PAR1": ("Parquet", "`data: {format: parquet}`"),
    b"ARROW1": ("Arrow", "write it as Parquet"),
    b"%PDF": ("a PDF document", "give the rows as CSV or JSONL"),
    b"SQLite format 3": ("an SQLite database", "export the table as CSV"),
    b"\xd0\xcf\x11\xe0": ("an old Office file", "save the sheet as CSV (UTF-8)"),
    b"\x89PNG": ("an image", "give the rows as CSV or JSONL"),
    b"BZh": ("bzip2", "unpack it: `bunzip2 FILE`"),
    b"\xfd7zXZ": ("xz", "unpack it: `unxz FILE`"),
    b"(\xb5/\xfd": ("zstd", "unpack it: `unzstd FILE`"),
}
MOST_TIMES, MOST_BYTES = 200, 256 * 2**20
"""A gzip file may unpack to so many times its size (texts do to 3 to 20), or so many bytes."""
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_SAMPLE = 200_000
_SURE_ENOUGH = 0.5


def read_bytes(path: Path, file: str) -> bytes:
    """Return the content, unpacked when the name ends in `.gz`.

    Raises:
        DataError: the file is empty, unreadable, damaged gzip, or a gzip bomb.
    """
    try:
        data = _unpacked(path, file) if path.suffix.lower() == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{file}: cannot be unpacked", found=str(error), mend="fetch the file again"
        ) from None
    except OSError as error:
        raise DataError(
            f"{file}: cannot be read",
            found=error.strerror or str(error),
            mend=f"check who may read it: `ls -l {file}`",
        ) from None
    if not data.strip():
        raise DataError(
            f"{file}: is empty",
            found=f"{len(data)} bytes, no row among them",
            mend="give a file with a header and at least one row",
        )
    return data


def _unpacked(path: Path, file: str) -> bytes:
    most = max(MOST_BYTES, MOST_TIMES * path.stat().st_size)
    with gzip.open(path) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise DataError(
            f"{file}: unpacks to more than a text would",
            found=f"{path.stat().st_size:,} bytes packed, more than {most:,} unpacked",
            mend=f"if it is right, unpack it yourself: `gunzip {file}`",
        )
    return data


def decode(data: bytes, encoding: str, file: str) -> str:
    """Return the text of a data file.

    Raises:
        DataError: it is binary, or not in `encoding`; the mend names one that fits, if any does.
    """
    _refuse_binary(data, encoding, file)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fits = _likely(data, error.start, encoding)
        raise DataError(
            f"{file}:{line}: is not written in {encoding}",
            found=f"byte 0x{data[error.start]:02x} at position {error.start}",
            mend=f"`data: {{encoding: {fits}}}`"
            if fits
            else "name the file's encoding, such as `data: {encoding: gb18030}`, or save as UTF-8",
        ) from None
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise DataError(f"{file}: is empty", "only blank characters", "give a file with rows")
    return text


def _refuse_binary(data: bytes, encoding: str, file: str) -> None:
    for magic, (kind, mend) in _MAGIC.items():
        if data.startswith(magic):
            raise DataError(f"{file}: is not a text file", found=f"it looks like {kind}", mend=mend)
    wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32"))
    if wide or b"\0" not in data:
        return
    if data.startswith(_UTF_16_MARKS) or data[:1000].count(0) * 3 > min(len(data), 1000):
        name = "utf-16" if data.startswith(_UTF_16_MARKS) else "utf-16-le"
        mend = f"`data: {{encoding: {name}}}`"
    else:
        mend = "give the rows as CSV, TSV, JSON, JSONL or Parquet"
    at = data.index(0)
    raise DataError(
        f"{file}:{data.count(bytes([10]), 0, at) + 1}: is not a text file",
        found=f"a NUL byte at position {at}",
        mend=mend,
    )


def _likely(data: bytes, bad: int, tried: str) -> str | None:
    """Return the encoding in which the text from the first bad line on looks most like language.

    East Asian sets order their everyday characters first, so the share of such characters tells
    a right decoding (near 1) from a wrong one (near a half) although both succeed.
    """
    if data.startswith(_UTF_16_MARKS):
        return "utf-16"
    start = data.rfind(b"\n", 0, bad) + 1
    best, best_score = None, _SURE_ENOUGH
    for name, is_common in _candidates().items():
        if codecs.lookup(name) == codecs.lookup(tried):
            continue
        try:
            data.decode(name)
            sample = data[start : data.find(b"\n", start + _SAMPLE) + 1 or len(data)].decode(name)
        except UnicodeDecodeError:
            continue
        foreign = [c for c in sample if c > "\x7f"]
        score = sum(map(is_common, foreign)) / max(len(foreign), 1)
        if name.startswith("cp125"):  # alphabets: Cyrillic fills words, accents are sparse in Latin
            ascii_letters = sum(c < "\x7f" and c.isalpha() for c in sample)
            dense = len(foreign) / (len(foreign) + ascii_letters)
            score *= dense if name == "cp1251" else 1 - dense
        if score > best_score:
            best, best_score = name, score
    return best


def _candidates() -> dict[str, Callable[[str], bool]]:
    """Encodings with what is common in their texts. Ties go to the earlier: everyday Korean is
    also everyday Chinese in gb18030, but not the other way round; a few Chinese words may be
    Japanese in euc_jp, while Japanese has kana."""
    marks = set("，。！？、；：“”‘’（）《》「」『』…—·￥～〜　ー々")

    def block(codec: str, first: int, last: int) -> set[str]:
        pairs = (bytes([lead, trail]) for lead in range(first, last) for trail in range(0x40, 0xFF))
        return marks.union(*(pair.decode(codec, "ignore") for pair in pairs))

    kana = {chr(code) for code in range(0x3041, 0x30FF)}
    chinese, taiwanese = block("gb2312", 0xB0, 0xD8), block("big5", 0xA4, 0xC7)
    japanese = kana | block("cp932", 0x88, 0x98)
    return {
        "utf-8": lambda c: True,
        "cp949": lambda c: "가" <= c <= "힣" or c in marks,
        "big5": taiwanese.__contains__,
        "gb18030": chinese.__contains__,
        "cp932": japanese.__contains__,
        "euc_jp": japanese.__contains__,
        "cp1251": lambda c: "А" <= c <= "я" or c in "ёЁ«»—“”№",
        "cp1252": lambda c: "À" <= c <= "ÿ" or c in "‘’“”–—…€£«»°",
    }
