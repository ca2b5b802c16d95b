"""Opening a dropped file: plain, .gz, .zst or .zip, told by its first bytes, never by its name.

Whatever is inside is given out in bounded reads and never written into memory as a whole. Two
caps hold for the uncompressed content: `MAX_UNCOMPRESSED` bytes, and `MAX_RATIO` times the file's
own size once `FREE_OUTPUT` bytes have come out (text that really compresses better is rare).
"""

from __future__ import annotations

import io
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from dropforge.errors import NoDataError, SchemaError, TooLargeError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK = 1 << 18
"""Bytes read at a time."""
MAX_UNCOMPRESSED = 2 << 30
"""Bytes an export may hold for a reader that is one process."""
MAX_RATIO = 100
FREE_OUTPUT = 10_000_000

GZIP, ZSTD, ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_AGAIN = "Export or compress it again, and check that the upload was complete."
_DAMAGED = (zlib.error, zipfile.BadZipFile, zstd.ZstdError, EOFError, OSError, ValueError)

Read = Callable[[int], bytes]
"""Up to so many bytes; b"" at the end."""


class Content:
    """The uncompressed bytes of a file or of a member, with a look ahead."""

    def __init__(self, read: Read) -> None:
        self._source = read
        self._ahead = b""

    def read(self, size: int = CHUNK) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        if not self._ahead:
            return self._source(size)
        part, self._ahead = self._ahead[:size], self._ahead[size:]
        return part

    def peek(self, size: int) -> bytes:
        """The next `size` bytes or more, or all that are left, without taking them."""
        parts, length = [self._ahead], len(self._ahead)
        while length < size:
            part = self._source(CHUNK)
            if not part:
                break
            parts.append(part)
            length += len(part)
        self._ahead = b"".join(parts)
        return self._ahead


class _Allowance:
    """How much may still come out of a file."""

    def __init__(self, file_size: int, *, compressed: bool) -> None:
        self._ratio_cap = max(FREE_OUTPUT, MAX_RATIO * file_size) if compressed else None
        self._spent = 0

    def spend(self, size: int) -> None:
        self._spent += size
        if self._ratio_cap is not None and self._spent > self._ratio_cap:
            raise SchemaError(
                f"The file grows to more than {MAX_RATIO} times its size when it is unpacked.",
                hint="Drop it uncompressed if it really is an export.",
            )
        if self._spent > MAX_UNCOMPRESSED:
            raise too_large()

    def reader(self, read: Read, what: str) -> Read:
        """The same bytes, counted; damage becomes a SchemaError."""

        def counted(size: int) -> bytes:
            try:
                data = read(size)
            except _DAMAGED as error:
                raise SchemaError(f"The {what} is damaged or cut off.", hint=_AGAIN) from error
            self.spend(len(data))
            return data

        return counted


def too_large() -> TooLargeError:
    return TooLargeError(
        f"The export holds more than {MAX_UNCOMPRESSED >> 30} GiB.",
        hint="Split it, or let Spark read it.",
    )


def size_of(file: BinaryIO) -> int:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return size


def open_contents(file: BinaryIO) -> tuple[str, Iterator[Content]]:
    """The compression as a suffix ("", ".gz", ".zst" or ".zip"), and the contents one by one.

    Raises:
        SchemaError: an archive that is damaged, encrypted, nested or names odd paths; while
            reading also one that is cut off or a bomb.
        TooLargeError: more than MAX_UNCOMPRESSED bytes.
    """
    size = size_of(file)
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(GZIP):
        read = _Allowance(size, compressed=True).reader(_Gunzip(file).read, ".gz file")
        return ".gz", iter([_unpacked(read)])
    if magic == ZSTD:
        read = _Allowance(size, compressed=True).reader(_Unzstd(file).read, ".zst file")
        return ".zst", iter([_unpacked(read)])
    if magic in (ZIP, b"PK\x05\x06"):
        return ".zip", _zip_contents(file, size)
    if size > MAX_UNCOMPRESSED:
        raise too_large()
    return "", iter([Content(_Allowance(size, compressed=False).reader(file.read, "file"))])


def _unpacked(read: Read) -> Content:
    content = Content(read)
    if content.peek(4).startswith((GZIP, ZSTD, ZIP)):
        raise SchemaError(
            "The archive holds another archive.", hint="Drop the export compressed once."
        )
    return content


class _Gunzip:
    """zlib with bounded output, member after member."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = zlib.decompressobj(wbits=31)
        self._input = b""

    def read(self, size: int) -> bytes:
        while True:
            if self._decoder.eof and not self._next_member():
                return b""
            data = self._input or self._file.read(CHUNK)
            output = self._decoder.decompress(data, size)
            self._input = self._decoder.unconsumed_tail
            if output:
                return output
            if not data and not self._decoder.eof:
                raise EOFError

    def _next_member(self) -> bool:
        rest = self._decoder.unused_data
        while not (rest := rest.lstrip(b"\0")):  # tapes pad with zeros
            rest = self._file.read(CHUNK)
            if not rest:
                return False
        self._decoder, self._input = zlib.decompressobj(wbits=31), rest
        return True


class _Unzstd:
    """zstd with bounded output, frame after frame."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = zstd.ZstdDecompressor()

    def read(self, size: int) -> bytes:
        while True:
            data = b""
            if self._decoder.eof:
                data = self._decoder.unused_data or self._file.read(CHUNK)
                if not data:
                    return b""
                self._decoder = zstd.ZstdDecompressor()
            elif self._decoder.needs_input:
                data = self._file.read(CHUNK)
                if not data:
                    raise EOFError
            output = self._decoder.decompress(data, size)
            if output:
                return output


def _zip_contents(file: BinaryIO, size: int) -> Iterator[Content]:
    try:
        archive = zipfile.ZipFile(file)
    except (*_DAMAGED, NotImplementedError) as error:
        raise SchemaError("The .zip file is damaged or cut off.", hint=_AGAIN) from error
    members = [member for member in archive.infolist() if _is_data(member)]
    _refuse_office_documents(archive)
    for member in members:
        _refuse_odd(member)
    if not members:
        raise NoDataError("The .zip file holds no data.", hint="Put the export into it.")
    allowance = _Allowance(size, compressed=True)
    return (_member(archive, member, allowance) for member in members)


def _is_data(member: zipfile.ZipInfo) -> bool:
    parts = member.filename.replace("\\", "/").split("/")
    hidden = parts[0] == "__MACOSX" or (parts[-1].startswith(".") and parts[-1] != "..")
    return not (member.filename.endswith("/") or hidden)


def _refuse_office_documents(archive: zipfile.ZipFile) -> None:
    names = {member.filename for member in archive.infolist()}
    if "[Content_Types].xml" in names and any(name.startswith("xl/") for name in names):
        raise SchemaError(
            "The file looks like an Excel workbook.", hint="Save it as CSV (UTF-8), drop that."
        )
    if "[Content_Types].xml" in names or "META-INF/manifest.xml" in names:
        raise SchemaError("The file is an office document.", hint="Save it as CSV (UTF-8).")


def _refuse_odd(member: zipfile.ZipInfo) -> None:
    """Nothing is ever unpacked to a path; an archive that tries is not an export's."""
    name = member.filename.replace("\\", "/")
    if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
        raise SchemaError(
            "The .zip file names a path outside of itself.", hint="Zip the export alone."
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise SchemaError("The .zip file holds a link.", hint="Zip the export itself.")
    if member.flag_bits & 1:
        raise SchemaError("The .zip file is encrypted.", hint="Zip it without a password.")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SchemaError(
            "The .zip file is compressed in a way not known here.",
            hint="Use the usual method (deflate), or .gz or .zst.",
        )


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, allowance: _Allowance) -> Content:
    try:
        opened = archive.open(member)
    except (*_DAMAGED, RuntimeError, NotImplementedError) as error:
        raise SchemaError("The .zip file is damaged or cut off.", hint=_AGAIN) from error
    return _unpacked(allowance.reader(opened.read, ".zip file"))


def allowed(read: Read, file_size: int) -> Read:
    """The same bytes, held to the caps of a compressed file of this size."""
    return _Allowance(file_size, compressed=True).reader(read, "file")
