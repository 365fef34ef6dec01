# SPDX-License-Identifier: BUSL-1.1
"""Uploads: resumed, cut, wrong, too many, expired."""

import asyncio
import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest

from axon_client.registry.blobs import Blobs
from axon_client.registry.limits import Limits
from axon_client.registry.uploads import Uploads
from mlos_core.errors import MlosError, NotFound, OutOfMemory, Overloaded, PayloadTooLarge

from .conftest import WEIGHTS, Publisher

DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
BLOB = f"/api/v1/blobs/sha256/{DIGEST}"


@pytest.fixture
def limits():
    return Limits(blob=1 << 20, uploads=3, uploads_each=2)


def start(publisher, data=WEIGHTS, **more):
    return publisher.begin(data, **more).headers["location"]


def test_an_upload_in_pieces_becomes_a_blob(publisher, web):
    answer = publisher.begin(WEIGHTS)
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "0")
    location = answer.headers["location"]
    assert publisher.patch(location, 0, WEIGHTS[:1000]).headers["upload-offset"] == "1000"
    head = publisher.web("HEAD", location)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == (
        "1000",
        str(len(WEIGHTS)),
    )
    assert publisher.patch(location, 1000, WEIGHTS[1000:]).status_code == 204
    assert web.get(BLOB).status_code == 404
    done = publisher.web("PUT", location)
    assert (done.status_code, done.headers["location"]) == (201, BLOB)
    assert web.get(BLOB).content == WEIGHTS


def test_what_is_there_needs_no_upload(publisher):
    publisher.upload(WEIGHTS)
    answer = publisher.begin(WEIGHTS)
    assert (answer.status_code, answer.json()) == (200, {"exists": True})


def test_a_digest_with_another_size_is_a_lie_that_the_upload_shows(publisher, error, web):
    publisher.upload(WEIGHTS)
    location = publisher.begin(WEIGHTS, size=5).headers["location"]
    publisher.patch(location, 0, WEIGHTS[:5])
    assert error(publisher.web("PUT", location)) == "wrong_digest"
    assert web.get(BLOB).content == WEIGHTS


def test_a_blob_that_lost_bytes_is_healed_by_the_next_upload(publisher, site, web):
    publisher.upload(WEIGHTS)
    blob = site.blobs.root / DIGEST
    blob.unlink()
    blob.write_bytes(WEIGHTS[:10])
    assert publisher.upload(WEIGHTS).status_code == 201
    assert web.get(BLOB).content == WEIGHTS


def test_an_empty_file_is_a_file(publisher, web):
    empty = hashlib.sha256(b"").hexdigest()
    answer = publisher.web("POST", "/api/v1/uploads", json={"sha256": empty, "size": 0})
    assert publisher.web("PUT", answer.headers["location"]).status_code == 201
    assert web.get(f"/api/v1/blobs/sha256/{empty}").content == b""


@pytest.mark.parametrize("offset", [0, 999, 1001, 10**9])
def test_bytes_at_another_place_are_refused_with_the_right_one(publisher, error, offset):
    location = start(publisher)
    publisher.patch(location, 0, WEIGHTS[:1000])
    answer = publisher.patch(location, offset, b"x")
    assert (error(answer), answer.status_code) == ("wrong_offset", 409)
    assert answer.headers["upload-offset"] == "1000"


@pytest.mark.parametrize("offset", ["", "-1", "1e3", "²", "0x0", "9" * 30])
def test_an_offset_is_a_whole_number(publisher, error, offset):
    location = start(publisher)
    answer = publisher.web(
        "PATCH", location, headers={"upload-offset": offset.encode()}, content=b"x"
    )
    assert error(answer) == "invalid_input"


def test_an_incomplete_upload_is_not_finished_and_goes_on(publisher, error, web):
    location = start(publisher)
    publisher.patch(location, 0, WEIGHTS[:-1])
    answer = publisher.web("PUT", location)
    assert error(answer) == "wrong_offset"
    assert answer.headers["upload-offset"] == str(len(WEIGHTS) - 1)
    publisher.patch(location, len(WEIGHTS) - 1, WEIGHTS[-1:])
    assert publisher.web("PUT", location).status_code == 201
    assert web.get(BLOB).status_code == 200


def test_wrong_bytes_are_thrown_away(publisher, error, web, site):
    location = start(publisher)
    publisher.patch(location, 0, b"x" * len(WEIGHTS))
    answer = publisher.web("PUT", location)
    assert (error(answer), answer.status_code) == ("wrong_digest", 422)
    assert web.get(BLOB).status_code == 404
    assert publisher.web("HEAD", location).status_code == 404
    assert list(site.blobs.root.iterdir()) == list(site.blobs.uploads.folder.iterdir()) == []
    publisher.upload(WEIGHTS)
    assert web.get(BLOB).content == WEIGHTS


def test_more_than_announced_is_refused(publisher, error):
    location = start(publisher)
    assert error(publisher.patch(location, 0, WEIGHTS + b"x")) == "payload_too_large"


def test_a_file_above_the_limit_is_refused_when_it_is_announced(publisher, error):
    assert error(publisher.begin(b"", "0" * 64, size=(1 << 20) + 1)) == "payload_too_large"


@pytest.fixture
def free(monkeypatch):
    """`free(count)`: the disk has room for so many bytes of uploads."""

    def leave(count):
        usage = SimpleNamespace(free=Limits().spare + count)
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage)

    return leave


def test_a_file_that_the_disk_has_no_room_for_is_refused(publisher, error, free):
    free(len(WEIGHTS) - 1)
    answer = publisher.begin(WEIGHTS)
    assert (error(answer), answer.status_code) == ("out_of_memory", 507)


def test_an_upload_goes_on_while_the_disk_has_room_for_the_rest(publisher, free):
    location = start(publisher)
    publisher.patch(location, 0, WEIGHTS[:1000])
    free(len(WEIGHTS) - 1000)
    assert publisher.begin(WEIGHTS).headers["location"] == location
    assert publisher.patch(location, 1000, WEIGHTS[1000:]).status_code == 204


def test_uploads_leave_the_database_its_room_on_the_disk(publisher, error, free, site):
    location = start(publisher)
    free(10)
    answer = publisher.patch(location, 0, WEIGHTS)
    assert (error(answer), answer.status_code) == ("out_of_memory", 507)
    unannounced = site.blobs.uploads.start("me").id
    with site.blobs.uploads.append(unannounced, "me", 0) as writer, pytest.raises(OutOfMemory):
        writer.write(WEIGHTS)
    free(len(WEIGHTS))
    assert publisher.patch(location, 0, WEIGHTS).status_code == 204


@pytest.mark.parametrize(
    "body",
    [
        {"sha256": "../../etc/passwd", "size": 1},
        {"sha256": DIGEST.upper(), "size": 1},
        {"sha256": DIGEST, "size": -1},
        {"sha256": DIGEST, "size": 1.5},
        {"sha256": DIGEST, "size": 10**30},
        {"sha256": DIGEST},
        [],
        "text",
        None,
    ],
)
def test_an_announcement_is_checked(publisher, error, body):
    assert error(publisher.web("POST", "/api/v1/uploads", json=body)) == "invalid_input"


def test_an_upload_belongs_to_the_token_that_began_it(publisher, login, error):
    location = start(publisher)
    other = Publisher(login("publish:*"))
    assert error(other.patch(location, 0, b"x")) == "not_found"
    assert error(other.web("PUT", location)) == "not_found"
    assert error(other.web("DELETE", location)) == "not_found"
    assert other.web("HEAD", location).status_code == 404


def test_uploads_under_way_are_limited_for_one_and_for_all(publisher, login, error):
    first = start(publisher, b"1")
    start(publisher, b"2")
    answer = publisher.begin(b"3")
    assert (error(answer), answer.status_code) == ("overloaded", 429)
    other = Publisher(login("publish:*"))
    start(other, b"4")
    assert error(other.begin(b"5")) == "overloaded"
    assert publisher.web("DELETE", first).status_code == 204
    assert other.begin(b"5").status_code == 201


def test_two_writers_do_not_mix(site, publisher):
    uploads = site.blobs.uploads
    key = uploads.start("me", DIGEST, len(WEIGHTS)).id
    with uploads.append(key, "me", 0) as writer:
        writer.write(WEIGHTS[:10])
        with pytest.raises(Overloaded), uploads.append(key, "me", 10):
            pass
        with pytest.raises(Overloaded):
            uploads.finish(key, "me")
    with uploads.append(key, "me", 10) as writer:
        writer.write(WEIGHTS[10:])
    assert uploads.finish(key, "me") == DIGEST


def test_an_upload_goes_on_after_a_restart(site, publisher):
    uploads = site.blobs.uploads
    key = uploads.start("me", DIGEST, len(WEIGHTS)).id
    with uploads.append(key, "me", 0) as writer:
        writer.write(WEIGHTS[:10])
    again = Blobs(site.folder, site.database).uploads
    assert again.get(key, "me").offset == 10
    with again.append(key, "me", 10) as writer:
        writer.write(WEIGHTS[10:])
    assert again.finish(key, "me") == DIGEST


def test_wrong_bytes_are_found_after_a_restart_too(site):
    key = site.blobs.uploads.start("me", DIGEST, len(WEIGHTS)).id
    with site.blobs.uploads.append(key, "me", 0) as writer:
        writer.write(b"x")
    again = Blobs(site.folder, site.database).uploads
    with again.append(key, "me", 1) as writer:
        writer.write(WEIGHTS[1:])
    with pytest.raises(MlosError) as refused:
        again.finish(key, "me")
    assert refused.value.code == "wrong_digest"


def test_size_and_digest_may_be_told_at_the_end(site):
    uploads = site.blobs.uploads
    key = uploads.start("me").id
    with uploads.append(key, "me", 0) as writer:
        writer.write(WEIGHTS)
    assert uploads.finish(key, "me", DIGEST) == DIGEST
    key = uploads.start("me").id
    with uploads.append(key, "me", 0) as writer, pytest.raises(PayloadTooLarge):
        writer.write(b"x" * ((1 << 20) + 1))


def test_an_upload_expires_unless_bytes_come(site, tmp_path):
    now = [1000.0]
    blobs = Blobs(tmp_path / "other", site.database, Limits(upload_life=100), lambda: now[0])
    uploads = blobs.uploads
    key = uploads.start("me", DIGEST, len(WEIGHTS)).id
    now[0] += 90
    with uploads.append(key, "me", 0) as writer:
        writer.write(b"x")
    now[0] += 90
    assert uploads.get(key, "me").offset == 1
    now[0] += 20
    with pytest.raises(NotFound):
        uploads.get(key, "me")
    uploads.expire()
    assert list(uploads.folder.iterdir()) == []


def test_a_request_that_uploads_for_longer_than_uploads_live_is_not_cut_off(site, tmp_path):
    now = [1000.0]
    blobs = Blobs(tmp_path / "other", site.database, Limits(upload_life=100), lambda: now[0])
    uploads = blobs.uploads
    key = uploads.start("me", DIGEST, len(WEIGHTS)).id
    with uploads.append(key, "me", 0) as writer:
        for at in range(0, len(WEIGHTS), 1000):
            writer.write(WEIGHTS[at : at + 1000])
            now[0] += 60
            uploads.expire()
    assert uploads.finish(key, "me") == DIGEST


@pytest.mark.parametrize("key", ["..", "%2e%2e%2fregistry.db", "x" * 5000, "%00", "registry.db"])
def test_an_upload_of_no_such_name_is_not_found(publisher, key):
    assert publisher.web("PUT", f"/api/v1/uploads/{key}").status_code == 404
    assert publisher.web("DELETE", f"/api/v1/uploads/{key}").status_code == 404


def test_who_lost_the_answer_to_the_end_asks_again(publisher, error):
    location = start(publisher)
    publisher.patch(location, 0, WEIGHTS)
    first, again = (publisher.web("PUT", location) for _ in range(2))
    assert (again.status_code, again.json()) == (201, first.json())
    assert publisher.web("HEAD", location).headers["upload-offset"] == str(len(WEIGHTS))
    answer = publisher.patch(location, 0, WEIGHTS)
    assert error(answer) == "wrong_offset"
    assert answer.headers["upload-offset"] == str(len(WEIGHTS))
    assert publisher.web("DELETE", location).status_code == 204
    assert publisher.web("HEAD", location).status_code == 404


def test_who_lost_the_place_of_an_upload_is_told_it_again(publisher, login):
    location = start(publisher)
    publisher.patch(location, 0, WEIGHTS[:1000])
    again = publisher.begin(WEIGHTS)
    assert (again.status_code, again.headers["location"]) == (201, location)
    assert (again.headers["upload-offset"], again.json()["offset"]) == ("1000", 1000)
    assert start(Publisher(login("publish:*"))) != location


def test_finished_uploads_do_not_count_and_are_forgotten_in_time(site, tmp_path):
    now = [1000.0]
    limits = Limits(uploads=1, upload_life=100)
    uploads = Blobs(tmp_path / "other", site.database, limits, lambda: now[0]).uploads
    for text in (b"1", b"2"):
        key = uploads.start("me").id
        with uploads.append(key, "me", 0) as writer:
            writer.write(text)
        uploads.finish(key, "me")
    now[0] += 4000
    uploads.expire()
    with pytest.raises(NotFound):
        uploads.get(key, "me")


def test_an_upload_that_is_becoming_a_blob_is_there_all_the_while(site, tmp_path):
    renamed, asked = threading.Event(), threading.Event()

    def adopt(path, digest):
        path.rename(tmp_path / digest)
        renamed.set()
        asked.wait(10)

    uploads = Uploads(tmp_path / "up", adopt, site.database, Limits(), time.time)
    key = uploads.start("me", DIGEST, len(WEIGHTS)).id
    with uploads.append(key, "me", 0) as writer:
        writer.write(WEIGHTS)
    with ThreadPoolExecutor(2) as pool:
        finished = pool.submit(uploads.finish, key, "me")
        renamed.wait(10)
        seen = pool.submit(uploads.get, key, "me")
        asked.set()
        assert finished.result(10) == DIGEST
        assert seen.result(10).finished


def test_uploads_that_are_hashed_leave_threads_to_others(app, site, monkeypatch):
    token, _ = site.tokens.create("somebody", ["publish:*"])
    may_end = threading.Event()
    monkeypatch.setattr(site.blobs.uploads, "finish", lambda *_: may_end.wait(30) and DIGEST)

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://registry") as client:
            headers = {"authorization": f"Bearer {token}"}
            ends = [client.put(f"/api/v1/uploads/{n}", headers=headers) for n in range(50)]
            waiting = [asyncio.ensure_future(end) for end in ends]
            try:
                async with asyncio.timeout(10):
                    for _ in range(3):
                        assert (await client.get("/api/v1/search")).status_code == 200
            finally:
                may_end.set()
            assert {end.status_code for end in await asyncio.gather(*waiting)} == {201}

    asyncio.run(ask())
