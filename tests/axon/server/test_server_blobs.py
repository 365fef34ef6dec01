# SPDX-License-Identifier: BUSL-1.1
"""Blobs and archives over HTTP: ranges and their lies, entity tags, what is collected."""

import hashlib
import os
from io import BytesIO

import pytest

from axon_client import pack
from axon_client.manifest import decode
from axon_client.registry.blobs import Blobs
from axon_client.registry.limits import Limits
from axon_client.registry.problems import BadRange
from axon_client.registry.ranges import Span, matches, wanted
from mlos_core.errors import ConfigError, MlosError

from .conftest import WEIGHTS, describe

DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
BLOB = f"/api/v1/blobs/sha256/{DIGEST}"
ETAG = f'"{DIGEST}"'
SIZE = len(WEIGHTS)


def test_a_blob_may_be_kept_forever(publisher, web):
    publisher.upload(WEIGHTS)
    answer = web.get(BLOB)
    assert answer.content == WEIGHTS
    assert answer.headers["etag"] == ETAG
    assert answer.headers["accept-ranges"] == "bytes"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-length"] == str(SIZE)
    assert web.get(BLOB, headers={"if-none-match": f'"x", W/{ETAG}'}).status_code == 304


def test_head_tells_the_size_and_sends_nothing(publisher, web):
    publisher.upload(WEIGHTS)
    answer = web("HEAD", BLOB)
    assert (answer.headers["content-length"], answer.content) == (str(SIZE), b"")


@pytest.mark.parametrize("range_", ["bytes=0-0", f"bytes={SIZE}-"])
def test_head_knows_no_ranges(publisher, web, range_):
    publisher.upload(WEIGHTS)
    answer = web("HEAD", BLOB, headers={"range": range_})
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(SIZE))


@pytest.mark.parametrize(
    ("range_", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=10-", 10, SIZE),
        ("bytes=-10", SIZE - 10, SIZE),
        (f"bytes=10-{10**15}", 10, SIZE),
        (f"bytes=-{10**15}", 0, SIZE),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
    ],
)
def test_a_range_is_sent_alone(publisher, web, range_, start, end):
    publisher.upload(WEIGHTS)
    answer = web.get(BLOB, headers={"range": range_})
    assert (answer.status_code, answer.content) == (206, WEIGHTS[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"


@pytest.mark.parametrize("range_", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"])
def test_a_range_behind_the_end_is_refused_with_the_size(publisher, web, error, range_):
    publisher.upload(WEIGHTS)
    answer = web.get(BLOB, headers={"range": range_})
    assert (error(answer), answer.status_code) == ("bad_range", 416)
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "range_",
    ["bytes=5-1", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes=-", "bytes=" + "9" * 40 + "-"],
)
def test_a_range_that_is_not_understood_gives_everything(publisher, web, range_):
    publisher.upload(WEIGHTS)
    answer = web.get(BLOB, headers={"range": range_})
    assert (answer.status_code, answer.content) == (200, WEIGHTS)


def test_a_range_of_another_version_gives_everything():
    assert wanted({"range": "bytes=0-0", "if-range": '"other"'}, 10, ETAG) == Span(0, 10)
    assert wanted({"range": "bytes=0-0", "if-range": ETAG}, 10, ETAG) == Span(0, 1, True)


def test_nothing_has_no_ranges():
    with pytest.raises(BadRange):
        wanted({"range": "bytes=0-"}, 0, ETAG)
    assert wanted({}, 0, ETAG) == Span(0, 0)


def test_any_tag_matches_a_star():
    assert matches("*", ETAG)
    assert not matches(None, ETAG)
    assert not matches('"other"', ETAG)


@pytest.mark.parametrize(
    "digest",
    [
        "0" * 64,
        "0" * 63,
        DIGEST.upper(),
        "..%2f..%2fregistry.db",
        "..",
        "%00",
        "é" * 64,
        "x" * 9000,
    ],
)
def test_what_is_no_blob_is_not_found(publisher, web, error, digest):
    publisher.upload(WEIGHTS)
    assert error(web.get(f"/api/v1/blobs/sha256/{digest}")) in ("not_found", "unknown_route")


def test_the_archive_is_the_one_that_pack_makes(publisher, web):
    files = {"model.onnx": WEIGHTS, "labels/en.txt": b"zero\n"}
    publisher.publish("org/tiny", files)
    manifest = describe("org/tiny", files)
    answer = web.get("/packages/acme-org--tiny-1.0.0.axon")
    listed = {hashlib.sha256(data).hexdigest(): data for data in files.values()}

    expected = b"".join(
        pack.packed(
            manifest,
            decode(manifest).spec.format.files,
            lambda file: BytesIO(listed[file.sha256]),
        )
    )
    assert answer.content == expected
    assert answer.headers["content-length"] == str(len(expected))
    assert web("HEAD", "/packages/acme-org--tiny-1.0.0.axon").content == b""
    assert web.get("/packages/acme-other-1.0.0.axon").status_code == 404


def test_an_archive_name_that_means_two_packages_means_none(publisher, web, error):
    publisher.publish("b-c", namespace="a")
    assert web.get("/packages/a-b-c-1.0.0.axon").status_code == 200
    publisher.publish("c", namespace="a-b")
    assert error(web.get("/packages/a-b-c-1.0.0.axon")) == "already_exists"


def test_collection_takes_what_nothing_needs_and_nobody_asked_for(site, tmp_path, publisher):
    now = [1e9]
    blobs = Blobs(site.folder, site.database, Limits(keep=100), lambda: now[0])
    source = tmp_path / "source"
    source.write_bytes(WEIGHTS)
    needed, lost, fresh, wanted_soon = (
        blobs.put(source, DIGEST),
        *(blobs.put(_file(tmp_path, text)) for text in ("lost", "fresh", "soon")),
    )
    publisher.publish()
    for digest in (needed, lost, fresh, wanted_soon):
        os.utime(blobs.root / digest, (now[0] - 200, now[0] - 200))
    os.utime(blobs.root / fresh, (now[0], now[0]))
    assert blobs.claim(wanted_soon, 4)
    assert blobs.collect().blobs == 1
    assert {path.name for path in blobs.root.iterdir()} == {needed, fresh, wanted_soon}


def _file(folder, text):
    path = folder / text
    path.write_text(text)
    return path


def test_collection_leaves_what_an_upload_promises(site, tmp_path):
    digest = site.blobs.put(_file(tmp_path, "text"))
    os.utime(site.blobs.root / digest, (0, 0))
    key = site.blobs.uploads.start("me", digest, 4).id
    assert site.blobs.collect().blobs == 0
    site.blobs.uploads.cancel(key, "me")
    assert site.blobs.collect().blobs == 1


def test_collection_holds_nobody_up_that_writes_and_spares_what_is_wanted_meanwhile(
    site, tmp_path, monkeypatch
):
    lost, wanted_now = (site.blobs.put(_file(tmp_path, text)) for text in ("lost", "now"))
    for digest in (lost, wanted_now):
        os.utime(site.blobs.root / digest, (0, 0))
    announced = site.blobs.uploads.announced

    def claim_once(connection):
        monkeypatch.setattr(site.blobs.uploads, "announced", announced)
        assert site.blobs.claim(wanted_now)
        return announced(connection)

    monkeypatch.setattr(site.blobs.uploads, "announced", claim_once)
    assert site.blobs.collect().blobs == 1
    assert (site.blobs.size(lost), site.blobs.size(wanted_now)) == (None, 3)


def test_collection_removes_what_a_crash_left_among_the_uploads(site):
    old, young = (site.blobs.uploads.folder / name for name in ("put-old", "put-young"))
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    site.blobs.collect()
    assert (old.exists(), young.exists()) == (False, True)


def test_wrong_bytes_are_not_put(site, tmp_path):
    with pytest.raises(MlosError) as refused:
        site.blobs.put(_file(tmp_path, "text"), "0" * 64)
    assert refused.value.code == "wrong_digest"
    assert list(site.blobs.root.iterdir()) == list(site.blobs.uploads.folder.iterdir()) == []


def test_an_axon_home_is_no_folder_for_a_registry(site, tmp_path):
    (tmp_path / "home" / "models").mkdir(parents=True)
    with pytest.raises(ConfigError):
        Blobs(tmp_path / "home", site.database)
