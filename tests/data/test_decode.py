"""Bytes to text: a wrong encoding or a binary file is named, with the mend that fits."""

import gzip

import pytest

from lightune.data.decode import decode
from lightune.errors import DataError

TEXTS = {
    "gb18030": "这家酒店的服务很好，房间也非常干净，下次还会再来。早餐一般，但是价格便宜。",
    "big5": "這家飯店的服務很好，房間也非常乾淨，下次還會再來。早餐一般，但是價格便宜。",
    "cp932": "このホテルのサービスはとても良かったです。部屋もきれいでした。また来ます。",
    "cp949": "이 호텔의 서비스는 매우 좋았습니다. 방도 깨끗했습니다. 다시 오겠습니다.",
    "cp1251": "Обслуживание в этой гостинице очень хорошее, номера чистые, приедем ещё.",
    "cp1252": "Le café était très agréable, le château à côté de la forêt aussi. Größe: gut.",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_the_mend_names_the_encoding_and_it_reads_the_file(write, load, encoding):
    text = TEXTS[encoding]
    path = write("a.csv", f'label,text\n1,plain\n0,"{text}"\n'.encode(encoding))
    with pytest.raises(DataError) as caught:
        load(path)
    assert "a.csv:3" in caught.value.problem
    assert caught.value.mend == f"`data: {{encoding: {encoding}}}`"
    assert load(path, encoding=encoding).records[1].values["text"] == text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf_16(write, load, encoding):
    path = write("a.csv", "text,label\ngood day,1\nbad day,0\n".encode(encoding))
    with pytest.raises(DataError, match=f"encoding: {encoding}}}"):
        load(path)
    assert len(load(path, encoding=encoding).records) == 2


def test_utf_8_read_as_another_encoding_is_named():
    with pytest.raises(DataError, match="encoding: utf-8}"):
        decode("naïve 😀".encode(), "ascii", "f")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"PK\x03\x04rest", "zip archive or an Excel"),
        (b"PAR1rest", "Parquet"),
        (b"%PDF-1.7", "PDF"),
        (gzip.compress(b"text,label", mtime=0), "gzip"),
        (b"text,label\n\x00\x01\x02 and more text here\n", "NUL byte at position 11"),
    ],
)
def test_binary_file_given_as_csv(write, load, content, found):
    with pytest.raises(DataError) as caught:
        load(write("a.csv", content))
    assert "is not a text file" in caught.value.problem
    assert found in caught.value.found
    assert caught.value.mend


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf\n"])
def test_empty_file(write, load, content):
    with pytest.raises(DataError, match="is empty"):
        load(write("a.csv", content))


def test_damaged_gzip(write, load):
    with pytest.raises(DataError, match="cannot be unpacked"):
        load(write("a.csv.gz", gzip.compress(b"text,label\nx,1\n")[:-9]))


def test_bytes_that_fit_nothing_name_no_encoding():
    with pytest.raises(DataError) as caught:
        decode(b"abc \xff\x00\xff".replace(b"\x00", b" ") + b"\x81", "utf-8", "f")
    assert "name the file's encoding" in caught.value.mend
