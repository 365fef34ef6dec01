# SPDX-License-Identifier: BUSL-1.1
"""Zip archives, made record by record."""

import struct
import zlib

from . import Case

LOCAL, CENTRAL, END = "<4s5H3L2H", "<4s6H3L5H2L", "<4s4H2LH"
UTF8 = 0x800


class Entry:
    """One entry. What the directory says may differ from the local header: `central`."""

    def __init__(self, name, data=b"x", *, mode=0, pack=True, extra=b"", local=None, central=None):
        raw = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = raw.compress(data) + raw.flush() if pack else data
        self.body = packed
        common = {
            "name": name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name,
            "flags": UTF8, "method": 8 if pack else 0, "crc": zlib.crc32(data),
            "packed": len(packed), "size": len(data), "extra": extra,
        }  # fmt: skip
        self.local = {**common, **(local or {})}
        self.central = {**common, "mode": mode, "offset": None, **(central or {})}

    def local_bytes(self):
        v = self.local
        head = struct.pack(
            LOCAL, b"PK\3\4", 20, v["flags"], v["method"], 0, 33, v["crc"], v["packed"],
            v["size"], len(v["name"]), len(v["extra"]),
        )  # fmt: skip
        return head + v["name"] + v["extra"] + self.body

    def central_bytes(self, offset):
        v = self.central
        offset = offset if v["offset"] is None else v["offset"]
        head = struct.pack(
            CENTRAL, b"PK\1\2", 0x314, 20, v["flags"], v["method"], 0, 33, v["crc"], v["packed"],
            v["size"], len(v["name"]), len(v["extra"]), 0, 0, 0, v["mode"] << 16, offset,
        )  # fmt: skip
        return head + v["name"] + v["extra"]


def archive(*entries, before=b"", between=b"", end=None, comment=b"", after=b""):
    """`between` comes ahead of the end record; `end` changes that record's fields."""
    body, directory = before, b""
    for one in entries:
        directory += one.central_bytes(len(body))
        body += one.local_bytes()
    count = len(entries)
    fields = {"disk": 0, "first": 0, "here": count, "all": count, "length": len(directory),
              "at": len(body), "comment": len(comment)} | (end or {})  # fmt: skip
    record = struct.pack(END, b"PK\5\6", *fields.values())
    return body + directory + between + record + comment + after


def zip64(**change):
    """An archive of one entry with a zip64 end record, whose fields `change` gives."""
    one = Entry("a")
    body, directory = one.local_bytes(), one.central_bytes(0)
    real = {"here": 1, "all": 1, "length": len(directory), "at": len(body)}
    says = real | {key: value for key, value in change.items() if key in real}
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, *says.values())
    where = change.get("where", len(body) + len(directory))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, where, 1)
    full = {"disk": 0, "first": 0, "here": 0xFFFF, "all": 0xFFFF, "length": 0xFFFFFFFF,
            "at": 0xFFFFFFFF, "comment": 0} | change.get("end", {})  # fmt: skip
    return body + directory + record + locator + struct.pack(END, b"PK\5\6", *full.values())


def quoted():
    """Two entries that share their bytes: the second lies inside of the first."""
    inner = Entry("b", b"inner", pack=False)
    outer = Entry("a", inner.local_bytes(), pack=False)
    start = len(outer.local_bytes()) - len(inner.local_bytes())
    inner.central["offset"] = start
    body = outer.local_bytes()
    directory = outer.central_bytes(0) + inner.central_bytes(start)
    record = struct.pack(END, b"PK\5\6", 0, 0, 2, 2, len(directory), len(body), 0)
    return body + directory + record


def case(label, reason, make, **more):
    return Case(f"zip {label}", lambda canary: make(), reason, ".whl", **more)


def named(name, reason, label=None):
    return case(f"name {label or name!r}", reason, lambda: archive(Entry("ok"), Entry(name)))


def one(label, reason, name="a", data=b"x", **more):
    return case(label, reason, lambda: archive(Entry(name, data, **more)))


def pair(label, reason, first, second):
    return case(label, reason, lambda: archive(Entry(first), Entry(second)))


A = Entry("a")
DIFFER = "contradict each other"
SMALL = {"ratio_from": 1 << 20}

CASES = [
    named("../canary", "'..'"),
    named("a/../../canary", "'..'"),
    Case("zip name absolute", lambda canary: archive(Entry(canary)), "is absolute", ".whl"),
    named("C:/canary", "is absolute"),
    named("..\\canary", "backslash"),
    named("a\x1b[2Jb", "control character"),
    named("a\0/../../canary", "control character", "with a zero byte"),
    named("a\u202eb", "control character", "right-to-left override"),
    named("..\uff0fcanary", "look like", "full-width slash"),
    named("aux.onnx", "device on Windows"),
    named("a ", "ends with a dot or a space"),
    named("a:b/c", "is absolute"),
    one("folder that climbs", "'..'", name="../", data=b""),
    named("", "empty part", "empty"),
    named("n" * 300, "more than 255 bytes", "long part"),
    pair("duplicate", "comes twice", "a", "a"),
    pair("case clash", "differ in case", "Model.onnx", "model.onnx"),
    pair("NFC and NFD", "Unicode normalisation", "caf\u00e9", "cafe\u0301"),
    pair("file and folder", "is a file and the folder", "a", "a/b"),
    one("symbolic link", "a link or a device", data=b"/etc/passwd", mode=0o120777),
    one("device", "a link or a device", mode=0o020666),
    one("named pipe", "a link or a device", mode=0o010666),
    one("folder with contents", "a folder with contents", name="a/"),
    one("folder that is a link", "a link or a device", name="a/", data=b"", mode=0o120777),
    one("encrypted entry", "is encrypted", local={"flags": UTF8 | 1}, central={"flags": UTF8 | 1}),
    one("strong encryption", "has the flags 0x840", local={"flags": UTF8 | 0x40},
        central={"flags": UTF8 | 0x40}),
    one("patch", "has the flags 0x820", local={"flags": UTF8 | 0x20},
        central={"flags": UTF8 | 0x20}),
    one("masked header", "has the flags 0x2800", central={"flags": UTF8 | 0x2000}),
    one("entry that is encrypted ahead of it alone", DIFFER, local={"flags": UTF8 | 1}),
    one("other name ahead of the file", DIFFER, local={"name": b"b"}),
    one("longer name ahead of the file", DIFFER, local={"name": b"a/../../canary"}),
    one("other size ahead of the file", DIFFER, local={"size": 99}),
    one("other checksum ahead of the file", DIFFER, local={"crc": 99}),
    one("other method ahead of the file", DIFFER, local={"method": 0}),
    one("other encoding ahead of the file", DIFFER, name="\u00e9", local={"flags": 0}),
    one("LZMA", "method 14", local={"method": 14}, central={"method": 14}),
    one("unheard-of method", "method 99", local={"method": 99}, central={"method": 99}),
    one("wrong checksum", "is damaged: Bad CRC", local={"crc": 1}, central={"crc": 1}),
    one("smaller than it says", "is cut off|is damaged", local={"size": 9}, central={"size": 9}),
    one("larger than it says", "is damaged", data=b"x" * 99,
        local={"size": 9}, central={"size": 9}),
    one("damaged stream", "is damaged|contradict|overlap", data=b"\xff" * 99,
        local={"method": 8}, central={"method": 8}, pack=False),
    one("packed size beyond the archive", "overlaps the directory|is damaged",
        local={"packed": 9999}, central={"packed": 9999}),
    one("offset beyond the archive", "not where the directory says|ahead of its first",
        central={"offset": 9999}),
    one("offset within the name", "ahead of its first|not where", central={"offset": 7}),
    one("zip64 size that is missing", DIFFER, central={"size": 0xFFFFFFFF}),
    one("zip64 size that is missing twice", "more than is allowed",
        local={"size": 0xFFFFFFFF}, central={"size": 0xFFFFFFFF}),
    one("zip64 field that is cut off", "not a zip archive", extra=struct.pack("<2H", 1, 64)),
    one("size of an exabyte", "more than is allowed",
        local={"size": 0xFFFFFFFF},
        central={"size": 0xFFFFFFFF, "extra": struct.pack("<2HQ", 1, 8, 1 << 60)}),
    case("two entries with the same bytes", "overlaps", lambda: archive(
        Entry("a"), Entry("b", central={"offset": 0}))),
    case("entry within another", "overlaps another entry", quoted),
    case("bomb", "more than is allowed", lambda: archive(Entry("m", bytes(50 << 20))),
         limits=SMALL),
    case("bomb of many files", "more than is allowed", lambda: archive(
        *(Entry(f"{n}", bytes(100_000)) for n in range(100))), limits=SMALL),
    case("too many files", "200 are allowed", lambda: archive(
        *(Entry(f"{n}") for n in range(201))), limits={"entries": 200}),
    case("too many files that it does not own up to", "says that it has 1 entries", lambda: archive(
        *(Entry(f"{n}") for n in range(50)), end={"here": 1, "all": 1})),
    case("fewer files than it says", "says that it has 5 entries", lambda: archive(
        A, end={"here": 5, "all": 5})),
    case("directory that is longer than the archive", "longer than the archive", lambda: archive(
        A, end={"length": 1 << 20})),
    case("directory of gigabytes", "are allowed", lambda: archive(A, end={"length": 1 << 31})),
    case("directory elsewhere", "not a zip archive|not where|ahead of", lambda: archive(
        A, end={"at": 3})),
    case("several disks", "several disks", lambda: archive(A, end={"disk": 1})),
    case("data ahead", "data ahead", lambda: archive(A, before=b"#!/bin/sh\n")),
    case("data behind", "behind its end", lambda: archive(A, after=b"more")),
    case("archive behind", "ahead of its first|behind its end", lambda: archive(A) + archive(A)),
    case("end record in the comment", "two ends|behind its end|ahead|longer", lambda: archive(
        A, comment=struct.pack(END, b"PK\5\6", 0, 0, 0, 0, 0, 0, 9))),
    case("comment that is cut off", "behind its end", lambda: archive(A, end={"comment": 50})),
    case("zip64 record outside", "outside of the archive", lambda: zip64(where=1 << 40)),
    case("zip64 record elsewhere", "no zip64 record where", lambda: zip64(where=0)),
    case("zip64 count of billions", "are allowed", lambda: zip64(all=1 << 40)),
    case("zip64 directory of gigabytes", "are allowed", lambda: zip64(length=1 << 40)),
    case("zip64 record unlike the end record", "contradicts its end record", lambda: zip64(
        end={"all": 7})),
    case("cut off", "no end record", lambda: archive(A)[:-30]),
    case("page that was not found", "no end record", lambda: b"<html>404</html>"),
    case("empty file", "no end record", lambda: b""),
]  # fmt: skip
