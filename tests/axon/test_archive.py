# SPDX-License-Identifier: BUSL-1.1
import io
import lzma
import os
import shutil
import tarfile
import warnings
import zipfile

import pytest

from axon_client import xz_stream
from axon_client.archive import Limits, extract_tar, open_tar, open_zip
from axon_client.errors import IntegrityError


def ignore(count):
    pass


@pytest.fixture
def zipped(tmp_path):
    def make(*entries, compress=zipfile.ZIP_DEFLATED):
        path = tmp_path / "a.whl"
        with zipfile.ZipFile(path, "w", compress) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns of what these tests want: duplicates
            for entry, data in entries:
                archive.writestr(entry, data)
        return path

    return make


@pytest.fixture
def tarred(tmp_path):
    def make(*members):
        path = tmp_path / "a.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, data, kind in members:
                member = tarfile.TarInfo(name)
                member.size, member.type = len(data), kind
                member.linkname = (
                    "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
                )
                archive.addfile(member, io.BytesIO(data))
        return path

    return make


EVIL = ["/etc/passwd", "../x", "a/../../x", "a/./b", "a//b", "C:/x", "a\\..\\x", "a\x1bb", "a\nb"]


@pytest.mark.parametrize("name", EVIL)
def test_one_bad_name_refuses_a_whole_zip(zipped, name):
    path = zipped(("good.onnx", b"1"), (name, b"2"))
    with pytest.raises(IntegrityError), open_zip(path):
        pass


@pytest.mark.parametrize("name", EVIL)
def test_one_bad_name_refuses_a_whole_tar(tarred, name):
    path = tarred(("good.onnx", b"1", tarfile.REGTYPE), (name, b"2", tarfile.REGTYPE))
    with pytest.raises(IntegrityError), open_tar(path):
        pass


def test_a_name_that_hides_behind_a_zero_byte_is_refused(zipped):
    path = zipped(("good.onnx_/../../x", b"1"))
    path.write_bytes(path.read_bytes().replace(b"good.onnx_", b"good.onnx\0"))
    with pytest.raises(IntegrityError), open_zip(path):
        pass


def test_an_entry_that_comes_twice_is_refused(zipped, tarred):
    with pytest.raises(IntegrityError, match="twice"), open_zip(zipped(("a", b"1"), ("a", b"2"))):
        pass
    twice = [("a", b"1", tarfile.REGTYPE)] * 2
    with pytest.raises(IntegrityError, match="twice"), open_tar(tarred(*twice)):
        pass


def test_a_link_in_a_zip_is_refused(zipped):
    link = zipfile.ZipInfo("model.onnx")
    link.external_attr = 0o120777 << 16
    with pytest.raises(IntegrityError, match="link"), open_zip(zipped((link, b"/etc/passwd"))):
        pass


def test_an_encrypted_entry_is_refused(zipped):
    path = zipped(("model.onnx", b"1"))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="encrypted"), open_zip(path):
        pass


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_no_files(tarred, kind):
    path = tarred(("a/model.onnx", b"", kind), ("a/b", b"1", tarfile.REGTYPE))
    with open_tar(path) as archive:
        assert list(archive.entries) == ["a/b"]


def test_a_file_comes_out_with_its_size_and_digest(zipped, tmp_path):
    with open_zip(zipped(("a/m", b"abc"))) as archive:
        size, digest = archive.unpack("a/m", tmp_path / "out" / "m", ignore)
    assert (size, digest[:8]) == (3, "ba7816bf")
    assert (tmp_path / "out" / "m").read_bytes() == b"abc"


def test_a_zip_that_unpacks_to_far_more_than_it_holds_is_refused(zipped, tmp_path):
    path = zipped(("m.onnx", b"\0" * 3_000_000))
    limits = Limits(ratio_from=1_000_000)
    with open_zip(path, limits) as archive, pytest.raises(IntegrityError, match="more than"):
        archive.unpack("m.onnx", tmp_path / "m", ignore)
    assert not (tmp_path / "m").exists()


def test_the_limit_is_on_all_files_together(zipped, tmp_path):
    path = zipped(*((f"{n}.onnx", b"\0" * 400_000) for n in range(3)))
    with open_zip(path, Limits(ratio_from=1_000_000)) as archive:
        archive.unpack("0.onnx", tmp_path / "0", ignore)
        archive.unpack("1.onnx", tmp_path / "1", ignore)
        with pytest.raises(IntegrityError, match="more than"):
            archive.unpack("2.onnx", tmp_path / "2", ignore)


def test_a_tar_that_unpacks_to_far_more_than_it_holds_is_refused(tarred):
    path = tarred(("m.onnx", b"\0" * 3_000_000, tarfile.REGTYPE))
    with (
        pytest.raises(IntegrityError, match="more than"),
        open_tar(path, Limits(ratio_from=1_000_000)),
    ):
        pass


def test_too_many_entries_are_refused(zipped):
    path = zipped(*((str(n), b"") for n in range(5)))
    with pytest.raises(IntegrityError, match="entries"), open_zip(path, Limits(entries=4)):
        pass


def test_a_damaged_entry_is_named(zipped, tmp_path):
    path = zipped(("m.onnx", b"abcdefgh"), compress=zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"abcdXfgh"))
    with open_zip(path) as archive, pytest.raises(IntegrityError, match=r"m\.onnx is damaged"):
        archive.unpack("m.onnx", tmp_path / "m", ignore)


def test_a_small_file_is_only_read_up_to_its_limit(zipped):
    with open_zip(zipped(("METADATA", b"x" * 100))) as archive:
        assert archive.read("METADATA", 100) == b"x" * 100
        with pytest.raises(IntegrityError, match="larger"):
            archive.read("METADATA", 99)


def test_what_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "a.whl"
    path.write_bytes(b"<html>not found</html>")
    for open_it in (open_zip, open_tar):
        with pytest.raises(IntegrityError, match="is not a"), open_it(path):
            pass


def test_a_truncated_tar_is_refused(tarred):
    path = tarred(("m.onnx", bytes(range(256)) * 100, tarfile.REGTYPE))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(IntegrityError), open_tar(path):
        pass


def packed_xz(path, members, pieces=1, **settings):
    """A tar.xz file of several streams, with padding between them."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    data = plain.getvalue()
    step = -(-len(data) // pieces)
    streams = [lzma.compress(data[at : at + step], **settings) for at in range(0, len(data), step)]
    path.write_bytes(bytes(4).join(streams))
    return path


@pytest.mark.parametrize("pieces", [1, 3])
def test_xz_is_read_in_any_order_and_of_several_streams(tmp_path, pieces):
    members = {"a": os.urandom(700_000), "b": b"b" * 900_000, "c": b"c"}
    path = packed_xz(tmp_path / "a.tar.xz", members, pieces)
    found = extract_tar(path, tmp_path / "out", ignore)
    assert {file.path: (tmp_path / "out" / file.path).read_bytes() for file in found} == members
    with open_tar(path) as archive:
        for name in ("c", "a", "b"):
            assert archive.read(name, 1 << 20) == members[name]


def test_xz_that_is_cut_off_goes_on_or_wants_much_memory_is_refused(tmp_path, monkeypatch):
    path = packed_xz(tmp_path / "a.tar.xz", {"a": os.urandom(70_000)})
    sound = path.read_bytes()
    for data in (sound[:-20], sound[:40], sound + b"more"):
        path.write_bytes(data)
        with pytest.raises(IntegrityError):
            extract_tar(path, tmp_path / "out", ignore)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    monkeypatch.setattr(xz_stream, "MOST_MEMORY", 4 << 20)  # its dictionary takes 8 MiB
    path.write_bytes(sound)
    with pytest.raises(IntegrityError, match="usage limit"):
        extract_tar(path, tmp_path / "out", ignore)
