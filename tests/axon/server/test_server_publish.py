# SPDX-License-Identifier: BUSL-1.1
"""Publishing: what is checked, what never changes, tags, yanks."""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from axon_client import manifest as manifests
from axon_client import trust
from axon_client.registry.database import FILE_NAME, Database
from axon_client.registry.rows import needed
from axon_client.registry.site import Site

from .conftest import WEIGHTS, Publisher, describe

INDEX = "/api/v1/models/acme/tiny/-/index.json"
VERSION = "/api/v1/models/acme/tiny/-/versions/1.0.0"
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


def tags(web):
    return web.get(INDEX).json()["tags"]


def test_a_published_version_is_listed_with_its_files_and_exact_manifest(web, publisher):
    manifest = describe("tiny", {"model.onnx": WEIGHTS}, needs=["acme/other@^1"])
    publisher.upload(WEIGHTS)
    answer = publisher.put(manifest)
    assert answer.status_code == 201
    assert web.get(answer.headers["location"]).status_code == 200
    sha256 = hashlib.sha256(manifest).hexdigest()
    index = web.get(INDEX).json()
    assert (index["namespace"], index["name"], index["tags"]) == (
        "acme",
        "tiny",
        {"latest": "1.0.0"},
    )
    row = index["versions"][0]
    assert (row["version"], row["manifest_sha256"], row["yanked"], row["size"]) == (
        "1.0.0",
        sha256,
        None,
        len(WEIGHTS),
    )
    detail = web.get(VERSION + ".json").json()
    assert detail["dependencies"] == ["acme/other@^1"]
    assert detail["files"] == [{"path": "model.onnx", "size": len(WEIGHTS), "sha256": DIGEST}]
    found = web.get("/api/v1/models/acme/tiny/1.0.0/manifest.yaml")
    assert found.content == manifest
    assert found.headers["etag"] == f'"{sha256}"'
    assert web.get("/api/v1/registry.json").json()["namespaces"] == ["acme"]


def test_a_name_may_have_several_segments_and_a_version_may_be_percent_encoded(web, publisher):
    assert publisher.publish(
        "org/family/tiny", version="1.0+cpu", namespace="pypi"
    ).status_code in (201,)
    url = "/api/v1/models/pypi/org/family/tiny"
    assert web.get(f"{url}/1.0%2Bcpu/manifest.yaml").status_code == 200
    assert web.get(f"{url}/-/versions/1.0%2Bcpu.json").json()["version"] == "1.0+cpu"
    assert web.get(f"{url}/-/index.json").json()["name"] == "org/family/tiny"


def test_the_same_version_again_changes_nothing_and_another_manifest_is_refused(
    publisher, web, error
):
    assert publisher.publish().status_code == 201
    before = web.get(VERSION + ".json").json()
    again = publisher.publish()
    assert (again.status_code, again.json()["created"]) == (200, False)
    assert error(publisher.publish(description="another")) == "already_exists"
    assert web.get(VERSION + ".json").json() == before


def test_a_yanked_version_stays_immutable(publisher, error):
    publisher.publish()
    publisher.web("POST", VERSION + "/yank", json={"reason": "broken"})
    assert error(publisher.publish(description="another")) == "already_exists"


def test_missing_blobs_and_wrong_sizes_are_named(publisher, web, error):
    manifest = describe("tiny", {"model.onnx": WEIGHTS, "other.bin": b"other"})
    publisher.upload(b"other")
    answer = publisher.put(manifest)
    assert (answer.status_code, error(answer)) == (422, "missing_blobs")
    assert answer.json()["error"]["missing"] == [DIGEST]
    publisher.upload(WEIGHTS)
    lying = manifest.replace(f"size: {len(WEIGHTS)}".encode(), b"size: 7")
    assert lying != manifest
    assert publisher.put(lying).json()["error"]["missing"] == [DIGEST]
    assert web.get(INDEX).status_code == 404
    assert publisher.put(manifest).status_code == 201


@pytest.mark.parametrize(
    "url",
    [
        "/api/v1/models/other/tiny/-/versions/1.0.0",
        "/api/v1/models/acme/tiny2/-/versions/1.0.0",
        "/api/v1/models/acme/tiny/-/versions/1.0.1",
    ],
)
def test_the_manifest_must_say_what_the_url_says(publisher, error, url):
    publisher.upload(WEIGHTS)
    answer = publisher.put(describe("tiny", {"model.onnx": WEIGHTS}), url)
    assert error(answer) == "invalid_input"
    assert "acme/tiny@1.0.0" in answer.json()["error"]["message"]


@pytest.mark.parametrize("version", ["latest", "main", "1.x", "nightly"])
def test_a_version_that_reads_like_a_tag_or_a_range_is_refused(publisher, error, version):
    assert error(publisher.publish(version=version)) == "invalid_input"


def test_a_package_without_files_needs_parts(publisher, error):
    assert error(publisher.publish(files={})) == "invalid_input"
    assert publisher.publish(files={}, needs=["acme/a", "acme/b"]).status_code == 201


def test_names_that_differ_in_case_alone_are_one_name(publisher, error):
    publisher.publish("tiny")
    assert error(publisher.publish("Tiny")) == "already_exists"


def test_latest_is_the_highest_stable_version_unless_set_by_hand(web, publisher):
    publisher.publish(version="2.0.0-rc.1")
    assert tags(web) == {"latest": "2.0.0-rc.1"}
    publisher.publish(version="1.10.0")
    publisher.publish(version="1.9.0")
    assert tags(web) == {"latest": "1.10.0"}
    assert [row["version"] for row in web.get(INDEX).json()["versions"]] == [
        "2.0.0-rc.1",
        "1.10.0",
        "1.9.0",
    ]
    put = publisher.web("PUT", "/api/v1/models/acme/tiny/-/tags/latest", json={"version": "1.9.0"})
    assert put.status_code == 200
    publisher.publish(version="3.0.0")
    assert tags(web) == {"latest": "1.9.0"}
    publisher.web("DELETE", "/api/v1/models/acme/tiny/-/tags/latest")
    assert tags(web) == {"latest": "3.0.0"}


def test_a_yank_moves_latest_and_can_be_taken_back(web, publisher):
    publisher.publish()
    publisher.publish(version="2.0.0")
    url = "/api/v1/models/acme/tiny/-/versions/2.0.0"
    assert publisher.web("POST", url + "/yank", json={"reason": "wrong weights"}).status_code == 200
    assert web.get(url + ".json").json()["yanked"] == "wrong weights"
    assert tags(web) == {"latest": "1.0.0"}
    assert publisher.web("POST", url + "/yank").json()["yanked"] == "yanked"
    assert publisher.web("DELETE", url + "/yank").status_code == 200
    assert web.get(url + ".json").json()["yanked"] is None
    assert tags(web) == {"latest": "2.0.0"}


def test_the_reason_of_a_yank_steers_no_terminal(publisher, error):
    publisher.publish()
    answer = publisher.web("POST", VERSION + "/yank", json={"reason": "\x1b[2J"})
    assert error(answer) == "invalid_input"


def test_the_reason_of_a_yank_may_come_in_chunks(web, publisher):
    async def body():
        yield b'{"reason": '
        yield b'"wrong weights"}'

    publisher.publish()
    assert publisher.web("POST", VERSION + "/yank", content=body()).status_code == 200
    assert web.get(VERSION + ".json").json()["yanked"] == "wrong weights"


def test_a_package_whose_versions_are_all_yanked_is_found_by_name_alone(web, publisher):
    publisher.publish(description="unique words")
    publisher.web("POST", VERSION + "/yank")
    assert web.get("/api/v1/search?q=unique").json() == []
    assert tags(web) == {}
    assert web.get("/api/v1/models/acme/tiny/1.0.0/manifest.yaml").status_code == 200


def test_tags_are_set_with_a_version_moved_and_deleted(web, publisher, error):
    publisher.publish(tags_=["stable"])
    publisher.publish(version="1.1.0", tags_=["stable", "edge"])
    assert tags(web) == {"edge": "1.1.0", "latest": "1.1.0", "stable": "1.1.0"}
    url = "/api/v1/models/acme/tiny/-/tags/edge"
    assert publisher.web("DELETE", url).status_code == 204
    assert error(publisher.web("DELETE", url)) == "not_found"
    assert error(publisher.web("PUT", url, json={"version": "9.9.9"})) == "not_found"


@pytest.mark.parametrize("tag", ["1.0.0", "v1", "x", "1", "-a", "a b", "a" * 65, "tägg", "^1"])
def test_a_tag_that_could_be_a_version_or_is_malformed_is_refused(publisher, error, tag):
    publisher.publish()
    answer = publisher.web(
        "PUT", f"/api/v1/models/acme/tiny/-/tags/{tag}", json={"version": "1.0.0"}
    )
    assert error(answer) == "invalid_input"


def test_signatures_are_checked_kept_and_added_later(web, publisher, error, home):
    trust.generate("me")
    key = trust.load_key("me")
    manifest = describe("tiny", {"model.onnx": WEIGHTS})
    signature = trust.sign(key, manifest)
    forged = trust.sign(key, manifest + b" ")
    publisher.upload(WEIGHTS)
    assert error(publisher.put(manifest, signatures=[forged])) == "invalid_input"
    assert error(publisher.put(manifest, signatures=[{"key": "x"}])) == "invalid_input"
    assert publisher.put(manifest).status_code == 201
    assert publisher.put(manifest, signatures=[signature]).status_code == 200
    assert publisher.put(manifest, signatures=[signature]).status_code == 200
    assert web.get(VERSION + ".json").json()["signatures"] == [signature]


def test_of_publishers_at_the_same_time_one_creates_the_version(app, site, publisher, web):
    publisher.upload(WEIGHTS)
    text, _ = site.tokens.create("somebody", ["publish:*"])
    manifests = [
        describe("tiny", {"model.onnx": WEIGHTS}, description=f"by {number}").decode()
        for number in range(8)
    ]

    async def ask():
        transport = httpx.ASGITransport(app)
        headers = {"authorization": f"Bearer {text}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://r", headers=headers
        ) as client:
            calls = [client.put(VERSION, json={"manifest": text}) for text in manifests * 2]
            return await asyncio.gather(*calls)

    statuses = sorted(answer.status_code for answer in asyncio.run(ask()))
    assert statuses == [200, 201] + [409] * 14
    assert len(web.get(INDEX).json()["versions"]) == 1


def test_what_fails_in_the_middle_leaves_nothing(site, publisher, web, monkeypatch):
    publisher.upload(WEIGHTS)

    def fail(*arguments):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("axon_client.registry.shelf.refresh", fail)
        answer = publisher.put(describe("tiny", {"model.onnx": WEIGHTS}))
    assert answer.status_code == 500
    assert "power cut" not in answer.text
    assert web.get(INDEX).status_code == 404
    with site.database.read() as connection:
        assert list(needed(connection)) == []
    assert Publisher(publisher.web).publish().status_code == 201


def test_a_manifest_is_found_by_a_tag_too_but_not_kept(web, publisher):
    publisher.publish()
    publisher.publish(version="1.1.0")
    url = "/api/v1/models/acme/tiny/{}/manifest.yaml"
    latest, exact = web.get(url.format("latest")), web.get(url.format("1.1.0"))
    assert latest.content == exact.content
    assert "immutable" in exact.headers["cache-control"]
    assert latest.headers["cache-control"] == "no-cache"
    assert web.get(url.format("none")).status_code == 404


def test_many_that_open_a_new_registry_at_once_find_one(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        sites = list(pool.map(lambda _: Site(tmp_path / "new"), range(8)))
    for site in sites:
        assert site.database.namespaces() == []
        site.close()


def test_nobody_waits_while_a_manifest_is_read(site, publisher, monkeypatch):
    read, decode = [], manifests.decode

    def decode_while_another_writes(data, *arguments, **named):
        other = Database(site.folder / FILE_NAME, busy_timeout_s=0.01)
        with other.write():
            read.append(data)
        other.close()
        return decode(data, *arguments, **named)

    monkeypatch.setattr("axon_client.manifest.decode", decode_while_another_writes)
    assert publisher.publish().status_code == 201
    yank = "/api/v1/models/acme/tiny/-/versions/1.0.0/yank"
    assert publisher.web("POST", yank).status_code == 200
    assert publisher.web("DELETE", yank).status_code == 200
    assert read
