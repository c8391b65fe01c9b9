"""Tar files and archives of images: read by position as tarfile reads them, written as the engine reads them."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ds01.gateway import archives, tarball
from ds01.gateway.refusals import Refused

Pack = Callable[[bytes], bytes]
names = st.text(st.sampled_from("ab./-é "), min_size=1, max_size=300).filter(lambda name: tarball.normal(name) != ".")
files = st.lists(st.tuples(names, st.binary(max_size=1500)), max_size=6)
formats = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


def packed(content: list[tuple[str, bytes]], form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar file with these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in content:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def joined(file: BinaryIO, parts: list[archives.Part]) -> bytes:
    """What the engine gets."""
    out = b""
    for part in parts:
        if isinstance(part, bytes):
            out += part
        else:
            file.seek(part[0])
            out += file.read(part[1])
    return out


def header(flag: bytes, size: bytes) -> bytes:
    """A header whose size is written so, with the checksum of that."""
    made = bytearray(tarball.header("a", 0))
    made[124:136], made[148:156], made[156:157] = size, b" " * 8, flag
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def octal(size: int) -> bytes:
    return b"%011o\0" % size


def record(key: str, value: str) -> bytes:
    """A record of a PAX header, which begins with its own length."""
    rest = f" {key}={value}\n".encode()
    length = next(number for number in range(len(rest), 9_999) if len(str(number)) + len(rest) == number)
    return str(length).encode() + rest


@given(st.binary(min_size=12, max_size=12), st.text(st.sampled_from("0123456789\u00b2\u0663-"), max_size=30))
@example(b"\x80" + b"\xff" * 11, "1")
@example(b"\xff" * 10 + b"\xfc\0", "1")
@example(octal(0), "\u00b2")
@example(octal(0), str(1 << 45))
@example(octal(0), str(1 << 60))
@example(octal(0), "9" * 19)
@example(octal(0), "9" * 5_000)
def test_whatever_stands_for_a_size_the_archive_is_read_or_refused(size: bytes, written: str):
    said = record("size", written)
    pax = header(b"x", octal(len(said))) + said + tarball.padding(len(said))
    for raw in (header(b"0", size), pax + header(b"0", octal(0))):
        with tempfile.TemporaryFile() as file, contextlib.suppress(Refused):
            file.write(raw + b"x" * 2_000)
            for number, entry in enumerate(tarball.entries(file)):
                # A size below nothing would lead back to the same header for ever.
                assert (number, entry.size >= 0) == (0, True)


@given(files, formats)
def test_entries_are_where_tarfile_finds_them(content: list[tuple[str, bytes]], form: int):
    try:
        raw = packed(content, form)
    except ValueError:
        return
    file = io.BytesIO(raw)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        expected = [(tarball.normal(info.name), info.offset_data, info.size) for info in tar]
    assert [(entry.name, entry.offset, entry.size) for entry in tarball.entries(file)] == expected


# Of Zstandard its frame, and one that it skips.
ZSTANDARD = (b"\x28\xb5\x2f\xfd", *(bytes([number]) + b"\x2a\x4d\x18\x00\x00\x00\x00" for number in range(0x50, 0x60)))
PACKERS = (gzip.compress, bz2.compress, lzma.compress, *(lambda data, magic=magic: magic + data for magic in ZSTANDARD))


@given(files, formats, st.sampled_from(PACKERS))
def test_only_a_plain_archive_begins_like_one(content: list[tuple[str, bytes]], form: int, pack: Pack):
    try:
        raw = packed(content, form)
    except ValueError:
        return
    assert tarball.begins(raw)
    assert tarball.begins(raw[: tarball.BLOCK])
    assert not tarball.begins(pack(raw))
    assert not tarball.begins(pack(b"")[:300])


@pytest.mark.parametrize("pack", PACKERS)
def test_what_is_packed_is_no_plain_archive_though_its_beginning_is_a_header(pack: Pack):
    # The name of a file is its owner's to choose, and no unpacker looks at checksums of tar.
    name = pack(b"")[:6].decode("utf-8", "surrogateescape")
    assert tarball.begins(tarball.header(f"x{name}", 0))
    assert not tarball.begins(tarball.header(name, 0))


@pytest.mark.parametrize("size", ["+1", "1_0", "", "-1", "1.5", "0" * 30 + "1", "٣"])
def test_a_size_that_others_may_read_otherwise_is_refused(size: str):
    record = f" size={size}\n".encode()
    record = str(len(record) + len(str(len(record) + 2))).encode() + record
    pax = tarfile.TarInfo("x")
    pax.type, pax.size = tarfile.XHDTYPE, len(record)
    raw = pax.tobuf() + record + tarball.padding(len(record)) + packed([("a", b"1")])
    with pytest.raises(Refused, match="cannot be read"):
        list(tarball.entries(io.BytesIO(raw)))


@given(st.binary(max_size=3000), st.integers(0, 3000), st.integers(0, 255))
def test_broken_archives_are_refused_and_never_an_error(noise: bytes, position: int, value: int):
    good = bytearray(packed([("manifest.json", b"[]"), ("x", b"1" * 700)]))
    good[position % len(good)] = value
    for raw in (noise, bytes(good), noise + bytes(good)):
        with contextlib.suppress(Refused):
            archives.read(io.BytesIO(raw))


def image(tags: list[str], layers: list[bytes]) -> list[tuple[str, bytes]]:
    """The files of one image as docker save writes them."""
    config = json.dumps({"rootfs": {"type": "layers"}, "tags": tags}).encode()
    named = [(f"blobs/{number}", layer) for number, layer in enumerate(layers)]
    manifest = [{"Config": "config.json", "RepoTags": tags, "Layers": [name for name, _ in named]}]
    return [*named, ("config.json", config), ("manifest.json", json.dumps(manifest).encode())]


@given(st.lists(st.binary(max_size=2000), max_size=4), st.lists(st.sampled_from(["a:1", "b:2"]), max_size=2))
def test_what_is_written_has_the_same_layers_under_other_names(layers: list[bytes], tags: list[str]):
    file = io.BytesIO(packed(image(tags, layers)))
    (found,) = archives.read(file)
    assert list(found.tags) == tags
    out = joined(file, archives.write([(found, ["ds01-7/x:1"])]))
    assert len(out) % tarball.BLOCK == 0
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        assert len(tar.getnames()) == len(set(tar.getnames()))
        (item,) = json.load(tar.extractfile("manifest.json"))
        assert item["RepoTags"] == ["ds01-7/x:1"]
        assert [tar.extractfile(name).read() for name in item["Layers"]] == layers
        assert tar.extractfile(item["Config"]).read() == found.config


@given(st.lists(st.integers(1, 900), min_size=1), st.lists(st.sampled_from(["ds01-7/a:1", "b:2"]), max_size=2))
def test_names_are_changed_however_the_stream_is_cut(cuts: list[int], tags: list[str]):
    raw = packed([*image(tags, [b"x" * 1300]), ("repositories", b'{"ds01-7/a": {"1": "x"}}'), ("empty", b"")])
    renaming = archives.Renaming(lambda name: name.removeprefix("ds01-7/"))
    out, position = b"", 0
    while position < len(raw):
        size = cuts[position % len(cuts)]
        out += renaming(raw[position : position + size])
        position += size
    file = io.BytesIO(out)
    (found,) = archives.read(file)
    assert list(found.tags) == [name.removeprefix("ds01-7/") for name in tags]
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        assert tar.extractfile("blobs/0").read() == b"x" * 1300
        assert json.load(tar.extractfile("repositories")) == {"a": {"1": "x"}}


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_packed_uploads_are_unpacked_up_to_the_limit(tmp_path: Path, pack: Pack):
    def room() -> None:
        if full:
            raise Refused(507, "the disk is full", "images.disk")

    path, full = tmp_path / "sent", False
    path.write_bytes(pack(b"0" * 100_000))
    with path.open("rb") as sent, archives.plain(sent, tempfile.TemporaryFile, room, 100_000) as file:
        file.seek(0)
        assert file.read() == b"0" * 100_000
    if pack is not bytes:
        with path.open("rb") as sent, pytest.raises(Refused, match="unpacks to more than"):
            archives.plain(sent, tempfile.TemporaryFile, room, 99_999)
        full = True
        with path.open("rb") as sent, pytest.raises(Refused, match="the disk is full"):
            archives.plain(sent, tempfile.TemporaryFile, room, 100_000)
        full = False
        path.write_bytes(path.read_bytes()[:-9])
        with path.open("rb") as sent, pytest.raises(Refused, match="cannot be unpacked"):
            archives.plain(sent, tempfile.TemporaryFile, room, None)


def test_layers_that_are_links_are_found():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in [("1/layer.tar", b"layer"), *image(["x:1"], [])[:1]]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("2/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../1/layer.tar"
        tar.addfile(link)
        manifest = json.dumps([{"Config": "config.json", "RepoTags": None, "Layers": ["1/layer.tar", "2/layer.tar"]}])
        info = tarfile.TarInfo("manifest.json")
        info.size = len(manifest)
        tar.addfile(info, io.BytesIO(manifest.encode()))
    (found,) = archives.read(out)
    assert len({layer.offset for layer in found.layers}) == 1
    assert found.tags == ()
