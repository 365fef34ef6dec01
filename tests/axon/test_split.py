# SPDX-License-Identifier: BUSL-1.1
"""Models in parts over several wheels; the real pip against an index on disk."""

import hashlib

import pytest

import axon_client
from axon_client.adapters.split import part_of, read_sums, requirements
from axon_client.errors import IntegrityError
from axon_client.spec import PackageSpec
from mlos_core.errors import InvalidInput, NotFound

WHOLE = bytes(range(256)) * 20
PARTS = [WHOLE[:3000], WHOLE[3000:]]
SUM = hashlib.sha256(WHOLE).hexdigest()


NET = "n/net.gguf.part"


@pytest.fixture
def publish(index):
    """Publish `big-net` with `files`, and one wheel for each of PARTS."""

    def publish(files=None, requires="", **options):
        for number, data in enumerate(PARTS, 1):
            name = f"big-net-part{number}"
            requires += f"Requires-Dist: {name}==1.0\n"
            path = f"{name.replace('-', '_')}/data/net.gguf.part{number - 1:02}"
            index.wheel(name, {path: data}, **options)
        files = files or {"big_net/__init__.py": b"raise SystemExit('imported')"}
        return index.wheel("big-net", files, metadata=requires)

    return publish


def test_parts_are_fetched_and_joined(home, publish, files_of):
    wheel = publish({"n/__init__.py": b"raise SystemExit('imported')", **sums(SUM)})
    model = axon_client.install("pypi/big-net")
    assert files_of(model.path) == ["manifest.yaml", "net.gguf"]
    assert model.model_file().read_bytes() == WHOLE
    (file,) = model.manifest.spec.format.files
    assert (file.path, file.size, file.sha256) == ("net.gguf", len(WHOLE), SUM)
    assert model.manifest.spec.framework.name == "gguf"
    assert model.manifest.distribution.package.url == wheel.as_uri()


def sums(digest):
    return {"n/data/SHA256SUMS": f"{digest}  net.gguf\n".encode()}


@pytest.mark.parametrize("first", [0, 1])
def test_parts_in_the_wheel_itself_are_joined_too(home, index, first):
    index.wheel("big-net", {f"{NET}{n}": data for n, data in enumerate(PARTS, first)})
    assert axon_client.install("pypi/big-net").model_file().read_bytes() == WHOLE


def test_a_joined_file_with_another_digest_is_refused(home, index, store):
    index.wheel("big-net", {f"{NET}0": PARTS[0], **sums(SUM)})
    with pytest.raises(IntegrityError, match=f"when joined, SHA256SUMS says {SUM}"):
        axon_client.install("pypi/big-net")
    assert store.installed() == []


def test_a_missing_part_is_named(home, index, store):
    index.wheel("big-net", {f"{NET}0": PARTS[0], f"{NET}2": PARTS[1]})
    with pytest.raises(IntegrityError, match=r"part 1 of net\.gguf is missing"):
        axon_client.install("pypi/big-net")
    assert store.installed() == []


def test_one_part_alone_is_no_model(home, index):
    index.wheel("big-net-part1", {f"{NET}00": PARTS[0]})
    with pytest.raises(InvalidInput, match="one part of net"):
        axon_client.install("pypi/big-net-part1")


def test_a_part_that_comes_twice_is_refused(home, index):
    index.wheel("big-net", {f"{NET}0": PARTS[0], "m/net.gguf.part00": PARTS[1]})
    with pytest.raises(IntegrityError, match="twice"):
        axon_client.install("pypi/big-net")


def test_a_required_wheel_that_no_index_has_is_not_found(home, index):
    requires = "Requires-Dist: big-net-part9==1.0\n"
    index.wheel("big-net", {"n/__init__.py": b""}, metadata=requires)
    with pytest.raises(NotFound, match="big-net-part9"):
        axon_client.install("pypi/big-net")


def test_a_part_that_is_not_the_one_in_record_is_refused(home, publish):
    publish(record={"big_net_part1/data/net.gguf.part00": "sha256=" + "A" * 43})
    with pytest.raises(IntegrityError, match="RECORD"):
        axon_client.install("pypi/big-net")


def test_a_wheel_of_parts_with_another_digest_than_the_index_states_is_refused(home, publish):
    publish(digest="0" * 64)
    with pytest.raises(IntegrityError, match="index states"):
        axon_client.install("pypi/big-net")


def test_required_wheels_without_parts_make_no_model(home, index):
    index.wheel("big-net-tools", {"t/__init__.py": b""})
    index.wheel("big-net", {"b.py": b""}, metadata="Requires-Dist: big-net-tools==1.0\n")
    with pytest.raises(InvalidInput, match="no model"):
        axon_client.install("pypi/big-net")


def test_only_pinned_requirements_of_the_packages_name_are_followed():
    lines = [
        "big-net-part1==1.0",
        "Big_Net.Part2 (==2.0)",
        "big-net-part3>=1.0",
        "big-net-part4==1.*",
        "big-net-part5==1.0; python_version < '3'",
        "big-net-part6[x]==1.0",
        "torch==2.0",
        "bignet-part7==1.0",
        "big-net==1.0",
    ]
    about = "".join(f"Requires-Dist: {line}\n" for line in lines).encode()
    found = requirements(about, PackageSpec("pypi", "big-net", "1.0"))
    assert found == [("big-net-part1", "1.0"), ("big-net-part2", "2.0")]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("a/net.gguf.part00", ("net.gguf", 0)),
        ("net.safetensors.part12", ("net.safetensors", 12)),
        ("net.gguf.part", None),
        ("net.gguf.part123456", None),
        ("net.gguf", None),
        ("net.zip.part1", None),
        (".part1", None),
    ],
)
def test_parts_are_told_by_their_names(name, part):
    assert part_of(name) == part


def test_sums_are_read_as_sha256sum_writes_them():
    assert read_sums(b"AB  a b.gguf\ncd *c.gguf\n\nodd\n\xff\n") == {
        "a b.gguf": "ab",
        "c.gguf": "cd",
    }
