# SPDX-License-Identifier: BUSL-1.1
"""Tar archives, made block by block."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile

from . import Case

ZEROS = bytes(1024)


def header(name, size=0, kind=b"0", link=b"", prefix=b"", raw_size=None, checksum=None):
    """One header block; names are bytes, `raw_size` is the size field itself."""
    field = raw_size if raw_size is not None else b"%011o\0" % size
    block = bytearray(
        struct.pack(
            "100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x",
            name, b"0000644\0", b"0000000\0", b"0000000\0", field, b"00000000000\0",
            b" " * 8, kind, link, b"ustar\x0000", b"", b"", b"0000000\0", b"0000000\0", prefix,
        )
    )  # fmt: skip
    block[148:156] = b"%06o\0 " % (sum(block) if checksum is None else checksum)
    return bytes(block)


def fill(data):
    return data + bytes(-len(data) % 512)


def entry(name, data=b"x", **named):
    name = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    if len(name) > 100:
        return pax(path=name) + header(b"long", len(data), **named) + fill(data)
    return header(name, len(data), **named) + fill(data)


def records(**values):
    out = b""
    for key, value in values.items():
        value = str(value).encode() if not isinstance(value, bytes) else value
        line = b" " + key.replace("__", ".").encode() + b"=" + value + b"\n"
        size = len(line) + 1
        while len(str(size)) + len(line) != size:
            size += 1
        out += str(size).encode() + line
    return out


def pax(kind=b"x", raw=None, **values):
    data = records(**values) if raw is None else raw
    return header(b"pax", len(data), kind) + fill(data)


def gnu_name(name, kind=b"L"):
    return header(b"././@LongLink", len(name) + 1, kind) + fill(name + b"\0")


def tar(*parts):
    return b"".join(parts) + ZEROS


def zipped(*parts):
    return gzip.compress(tar(*parts), mtime=0)


def named(name, reason, label=None):
    return Case(f"tar name {label or name!r}", lambda canary: zipped(entry(name)), reason)


def built(label, reason, *parts, **more):
    return Case(f"tar {label}", lambda canary: zipped(*parts), reason, **more)


def raw(label, reason, make, **more):
    return Case(f"tar {label}", lambda canary: make(), reason, **more)


def spoiled(**change):
    """A gzip stream whose last bytes are others."""
    data = bytearray(zipped(entry("a", bytes(range(256)) * 64)))
    data[-8] ^= change.get("crc", 0)
    return bytes(data[: len(data) - change.get("cut", 0)]) + change.get("more", b"")


def zstd(data):
    from backports import zstd as module

    return module.compress(data)


def wide_window():
    """A zstd frame that wants two gigabytes to be unpacked."""
    return b"\x28\xb5\x2f\xfd" + bytes([0x00, (31 - 10) << 3]) + b"\x01\x00\x00"


BIG = 24 << 20
SMALL = {"ratio_from": 1 << 20}
A, B = entry("a"), entry("b")
DOTS, EMPTY = "empty part, '.' or '..'", "empty part"
CONTROL, WINDOWS = "backslash or a control", "Windows does not allow"
DEVICE, TWICE = "device on Windows", "comes twice"

NAMES = [
    named("../canary", DOTS),
    named("a/../../canary", DOTS),
    named("a/..", DOTS),
    named("..", DOTS),
    named("a/./b", DOTS),
    named("./../canary", DOTS),
    named("././a", DOTS),
    named("a//b", EMPTY),
    Case("tar name absolute", lambda canary: zipped(entry(canary)), "is absolute"),
    named("//server/share", "is absolute"),
    named("C:/canary", "is absolute"),
    named("C:canary", "is absolute"),
    named("..\\canary", CONTROL),
    named("\\\\server\\share", CONTROL),
    named("a\nb", CONTROL),
    named("a\rb", CONTROL),
    named("a\x1b[2Jb", CONTROL),
    named("a\x7fb", CONTROL),
    named("a\u202egpj.xnno", CONTROL, "right-to-left override"),
    named("a\u2066b", CONTROL, "isolate"),
    named("a\u200bb", CONTROL, "zero width space"),
    named("\ufeffmodel.onnx", CONTROL, "byte order mark"),
    named("a\u2028b", CONTROL, "line separator"),
    named("a\u00a0b", CONTROL, "no-break space"),
    named(b"a\xff\xfeb", CONTROL, "not UTF-8"),
    named(b"a\xed\xa0\x80b", CONTROL, "a surrogate in UTF-8"),
    named("..\uff0fcanary", "look like", "full-width slash"),
    named("a/\uff0e\uff0e/canary", "look like", "full-width dots"),
    named("a/\u2025/canary", "look like", "two-dot leader"),
    named("a\uff3cb", "look like", "full-width backslash"),
    named("model.onnx:stream", WINDOWS),
    named("a/what?", WINDOWS),
    named("a|b", WINDOWS),
    named("CON", DEVICE),
    named("a/nul.txt", DEVICE),
    named("Com1.onnx", DEVICE),
    named("lpt\u00b9", DEVICE),
    named("a./b", "ends with a dot"),
    named("a/b ", "ends with a dot or a space"),
    named("n" * 256, "more than 255 bytes", "long part"),
    named("\u00e9" * 128, "more than 255 bytes", "long part in bytes"),
    named("/".join(["d" * 200] * 6), "is too long", "long path"),
    named("/".join(["\u00e9" * 100] * 6), "longer than 1024", "long path in bytes"),
    named("x" * 5000, "is too long", "very long path"),
    named("/".join(["d"] * 65), "64 folders deep", "deep path"),
    named(b"", EMPTY, "empty"),
    named("./", EMPTY, "the folder itself as a file"),
]

KINDS = [
    built("symbolic link", "a symbolic link", header(b"m", kind=b"2", link=b"../canary")),
    built(
        "file through a symbolic link", "a symbolic link",
        header(b"d", kind=b"2", link=b".."), entry("d/canary"),
    ),
    built("hard link", "a hard link", A, header(b"m", kind=b"1", link=b"../canary")),
    built("character device", "a character device", header(b"m", kind=b"3")),
    built("block device", "a block device", header(b"m", kind=b"4")),
    built("named pipe", "a named pipe", header(b"m", kind=b"6")),
    built("long link name", "a symbolic link", gnu_name(b"/etc/passwd", b"K"),
          header(b"m", kind=b"2", link=b"x")),
    built("link with contents", "with contents", header(b"m", 1, b"2") + fill(b"x")),
    built("folder with contents", "a folder with contents", header(b"m", 1, b"5") + fill(b"x")),
    built("GNU sparse file", "sparse kind", header(b"m", kind=b"S")),
    built("PAX sparse file 1.0", "sparse file", pax(GNU__sparse__major="1"), A),
    built("PAX sparse file 0.1", "sparse file", pax(GNU__sparse__map="0,1"), A),
    built("multi-volume", "unknown or sparse kind", header(b"m", kind=b"M")),
    built("volume label", "unknown or sparse kind", header(b"m", kind=b"V")),
    built("dump folder", "unknown or sparse kind", header(b"m", kind=b"D")),
    built("unheard-of kind", "unknown or sparse kind", header(b"m", kind=b"~")),
]  # fmt: skip

TWINS = [
    built("duplicate", TWICE, A, A),
    built("duplicate through ./", TWICE, A, entry("./a")),
    built("case clash", "differ in case", entry("Model.onnx"), entry("model.onnx")),
    built("case clash of folders' files", "differ in case", entry("A/b"), entry("a/B")),
    built("sharp s", "differ in case", entry("gro\u00df"), entry("GROSS")),
    built("dotted capital i", "differ in case", entry("\u0130"), entry("i\u0307")),
    built("NFC and NFD", "Unicode normalisation", entry("caf\u00e9"), entry("cafe\u0301")),
    built("ligature", "Unicode normalisation", entry("\ufb01le"), entry("file")),
    built("full-width letters", "Unicode normalisation", entry("\uff41"), entry("a")),
    built("file and folder", "is a file and the folder", A, entry("a/b")),
    built("folder and file", "is a file and the folder", entry("a/b"), A),
    built("folder and file, other case", "is a file and the folder", entry("a/b"), entry("A")),
]

HEADERS = [
    built("wrong checksum", "bad checksum", header(b"a", checksum=1)),
    built("size that is no number", "invalid header", header(b"a", raw_size=b"0000000000x\0")),
    built("negative size", "with a size of -", header(b"a", raw_size=b"\xff" * 12)),
    built("absurd size", "with a size of", header(b"a", raw_size=b"\x80" + b"\xff" * 11)),
    built("size beyond all limits", "more than is allowed",
          header(b"a", raw_size=b"\x80" + (1 << 50).to_bytes(11, "big"))),
    built("size beyond the archive", "is cut off", header(b"a", 4096) + fill(b"x")),
    built("two PAX paths in one header", "two names", pax(raw=records(path="a") * 2), A),
    built("two PAX headers", "two names", pax(path="a"), pax(path="b"), A),
    built("PAX path and GNU name", "two names", gnu_name(b"b"), pax(path="a"), A),
    built("two GNU names", "two names", gnu_name(b"a"), gnu_name(b"b"), A),
    built("PAX path that climbs", DOTS, pax(path="../canary"), A),
    built("GNU name that climbs", DOTS, gnu_name(b"../canary"), A),
    built("ustar prefix that climbs", DOTS, entry("canary", prefix=b"..")),
    built("PAX path with a zero byte", CONTROL, pax(path=b"a\0b"), A),
    built("PAX path that is absolute", "is absolute", pax(path="/etc/canary"), A),
    built("PAX size unlike the header's", "two sizes", pax(size=512), A),
    built("PAX size that is no number", "is no number", pax(size="1e3"), A),
    built("PAX size below zero", "is no number", pax(size=-1), A),
    built("two PAX sizes", "two sizes", pax(raw=records(size=1) * 2), A),
    built("one path for all", "gives all files one path", pax(b"g", path="b"), A),
    built("one size for all", "gives all files one size", pax(b"g", size="9"), A),
    built("one link for all", "gives all files one linkpath", pax(b"g", linkpath="/"), A),
    built("PAX record that is too long", "damaged PAX", pax(raw=b"99 path=a\n"), A),
    built("PAX record of no length", "damaged PAX", pax(raw=b"0 path=a\n"), A),
    built("PAX record without its end", "damaged PAX", pax(raw=b"9 path=ab"), A),
    built("PAX record without a key", "damaged PAX", pax(raw=b"5 =a\n"), A),
    built("PAX header of a megabyte", "extended header of", pax(raw=bytes(1 << 20)), A),
    built("GNU name of a megabyte", "extended header of", gnu_name(b"n" * (1 << 20)), A),
    built("header without a file", "names no file", A, pax(path="b")),
    raw("cut in a header", "is cut off", lambda: gzip.compress((A + B)[:-700])),
    raw("cut in a file", "is cut off", lambda: gzip.compress((A + B)[:-100])),
    raw("without an end", "is cut off", lambda: gzip.compress(A + B)),
    raw("data behind the end", "goes on behind", lambda: gzip.compress(tar(A) + B)),
    raw("archive behind the end", "goes on behind", lambda: gzip.compress(tar(A) + tar(B))),
]  # fmt: skip

STREAMS = [
    raw("gzip bomb", "more than is allowed", lambda: zipped(entry("m", bytes(BIG))), limits=SMALL),
    raw("bzip2 bomb", "more than is allowed",
        lambda: bz2.compress(tar(entry("m", bytes(BIG >> 2)))), limits=SMALL),
    raw("xz bomb", "more than is allowed",
        lambda: lzma.compress(tar(entry("m", bytes(BIG >> 1))), preset=0), limits=SMALL),
    raw("zstd bomb", "more than is allowed", lambda: zstd(tar(entry("m", bytes(BIG)))),
        limits=SMALL),
    raw("bomb behind the end", "more than is allowed", lambda: gzip.compress(tar(A) + bytes(BIG)),
        limits=SMALL),
    raw("bomb of many files", "more than is allowed",
        lambda: zipped(*(entry(f"{n}", bytes(100_000)) for n in range(100))), limits=SMALL),
    raw("too many files", "more than 200 entries",
        lambda: zipped(*(entry(f"{n}", b"") for n in range(201))), limits={"entries": 200}),
    raw("too many folders", "more than 200 entries",
        lambda: zipped(*(header(b"%d" % n, kind=b"5") for n in range(201))),
        limits={"entries": 200}),
    raw("too many extended headers", "more than 200 entries",
        lambda: zipped(*[pax(b"g", comment="c")] * 201), limits={"entries": 200}),
    raw("gzip in gzip", "not a tar archive", lambda: gzip.compress(zipped(A))),
    raw("cut gzip stream", "is damaged", lambda: spoiled(cut=20)),
    raw("gzip without its checksum", "is damaged", lambda: spoiled(cut=8)),
    raw("wrong gzip checksum", "is damaged: CRC", lambda: spoiled(crc=1)),
    raw("garbage behind gzip", "is damaged: Not a gzipped", lambda: spoiled(more=b"garbage")),
    raw("file behind gzip", "goes on behind", lambda: spoiled(more=gzip.compress(B))),
    raw("damaged bzip2", "is damaged", lambda: bz2.compress(tar(A))[:-4] + b"????"),
    raw("damaged xz", "is damaged", lambda: lzma.compress(tar(A))[:-9]),
    raw("damaged zstd", "is damaged", lambda: zstd(tar(A))[:-9]),
    raw("zstd with a window of gigabytes", "is damaged", wide_window),
    raw("page that was not found", "is not a tar archive", lambda: b"<html>404</html>"),
    raw("empty file", "is not a tar archive", lambda: b""),
    raw("empty gzip", "is not a tar archive", lambda: gzip.compress(b"")),
    raw("random bytes", "is not a tar archive", lambda: b"\x93\x11" * 600),
]  # fmt: skip


def of_library():
    """What the standard library writes in its GNU dialect: a sparse file is spelt out."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        link = tarfile.TarInfo("n" * 120)
        link.type, link.linkname = tarfile.SYMTYPE, "/" + "l" * 120
        archive.addfile(link)
    return out.getvalue()


LIBRARY = [raw("link with long names", "a symbolic link", of_library)]

CASES = [*NAMES, *KINDS, *TWINS, *HEADERS, *STREAMS, *LIBRARY]
