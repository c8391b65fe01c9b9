"""What is in a tar file: its entries by position, so that nothing has to be unpacked or held in memory.

Only what clients write: ustar, GNU long names and PAX headers. Sparse files and others are no part of an image.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

from ds01.gateway.refusals import Refused
from ds01.gateway.shapes import decimal

Kind = Literal["file", "hard link", "link", "directory", "other"]

BLOCK: Final = 512
"""Bytes: everything in a tar file begins at a multiple of it."""
_ENTRIES_MAX: Final = 2_000_000
_HEADER_MAX: Final = 1 << 20
"""Bytes of a long name or PAX header."""
_SIZE_MAX: Final = 1 << 40
"""Bytes of one file: more than anybody may send, and less than the 16 TiB behind which ext4 has no positions."""
_LENGTH_MAX: Final = 8
"""Digits of the length of a record, and the space behind them."""
_PACKED: Final = re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ\x00|\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
"""How what the engine unpacks begins: gzip, bzip2, xz, Zstandard and the frames that it skips."""
_KINDS: Final[dict[bytes, Kind]] = {
    b"0": "file", b"\0": "file", b"7": "file", b"1": "hard link", b"2": "link", b"5": "directory",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive: its headers begin at `start`, its content at `offset`."""

    name: str
    kind: Kind
    start: int
    offset: int
    size: int
    link: str


def entries(file: BinaryIO) -> Iterator[Entry]:
    """Yield what is in a tar file. Raises Refused where it is none."""
    given: dict[str, str] = {}
    position = start = 0
    for _ in range(_ENTRIES_MAX):
        file.seek(position)
        header = file.read(BLOCK)
        if len(header) < BLOCK or header.count(0) == BLOCK:
            return
        size = _number(header[124:136])
        if _number(header[148:156]) not in _sums(header):
            raise _bad("a header has a wrong checksum")
        flag = header[156:157]
        content, position = position + BLOCK, position + BLOCK + -(-size // BLOCK) * BLOCK
        if flag in b"LKxXg":
            if size > _HEADER_MAX:
                raise _bad("a name is too long")
            data = file.read(size)
            if flag in b"LK":
                given["path" if flag == b"L" else "linkpath"] = _text(data.split(b"\0", 1)[0])
            elif flag in b"xX":
                given |= _pax(data)
            continue
        if "size" in given:
            written = decimal(given["size"])
            if written is None:
                raise _bad("a PAX header has no number where one belongs")
            size = _possible(written)
        position = content + -(-size // BLOCK) * BLOCK
        if flag == b"S" or "GNU.sparse.major" in given or "GNU.sparse.map" in given:
            raise _bad("it has a sparse file: pack it without --sparse")
        prefix = _text(header[345:500].split(b"\0", 1)[0]) if header[257:263] == b"ustar\0" else ""
        name = _text(header[:100].split(b"\0", 1)[0])
        name = given.get("path") or (f"{prefix}/{name}" if prefix else name)
        link = given.get("linkpath") or _text(header[157:257].split(b"\0", 1)[0])
        kind = _KINDS.get(flag, "other")
        yield Entry(normal(name), kind, start, content, size if kind == "file" else 0, link)
        given, start = {}, position
    raise _bad(f"it has more than {_ENTRIES_MAX} entries")


def begins(data: bytes) -> bool:
    """Whether a tar file begins so, with a header or the end of an empty one, and nothing that is packed does."""
    block = data[:BLOCK]
    if _PACKED.match(block):
        # A file's name may be that, too, with a checksum that fits; the engine looks at nothing else.
        return False
    try:
        return not block.strip(b"\0") or (len(block) == BLOCK and _number(block[148:156]) in _sums(block))
    except Refused:
        return False


def plain_header(header: bytes) -> tuple[str, int]:
    """Name and size in one header, of an archive that we trust. Raises Refused."""
    return _text(header[:100].split(b"\0", 1)[0]), _number(header[124:136])


def normal(name: str) -> str:
    """A path inside an archive in one spelling."""
    return posixpath.normpath("/" + name).lstrip("/")


def header(name: str, size: int) -> bytes:
    """The header of a file of ours."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """What follows the content of a file."""
    return b"\0" * (-size % BLOCK)


END: Final = b"\0" * (2 * BLOCK)


def _sums(header: bytes) -> tuple[int, int]:
    """The two checksums that writers use: of unsigned and of signed bytes."""
    counted = header[:148] + b" " * 8 + header[156:]
    unsigned = sum(counted)
    return unsigned, unsigned - 256 * sum(byte > 127 for byte in counted)  # noqa: PLR2004 - the sign


def _number(field: bytes) -> int:
    try:
        number = int(tarfile.nti(field))  # type: ignore[attr-defined]  # the one reader of both notations, not in typeshed
    except tarfile.HeaderError as error:
        raise _bad("a header has no number where one belongs") from error
    return _possible(number)


def _possible(size: int) -> int:
    if not 0 <= size <= _SIZE_MAX:
        raise _bad("a file in it says that it is larger than any that may be sent")
    return size


def _pax(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 0
    while position < len(data):
        # Never a copy of the rest: there may be a hundred thousand records.
        length, space, _ = data[position : position + _LENGTH_MAX].partition(b" ")
        if not space or not length.isdigit() or not len(length) < int(length) <= len(data) - position:
            raise _bad("a PAX header is not one")
        key, equals, value = data[position + len(length) + 1 : position + int(length) - 1].partition(b"=")
        if not equals:
            raise _bad("a PAX header is not one")
        found[_text(key)] = _text(value)
        position += int(length)
    return found


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bad(reason: str) -> Refused:
    return Refused(400, f"the archive cannot be read: {reason}", "images.archive", "send a plain tar file")
