# SPDX-License-Identifier: BUSL-1.1
"""Signed packages from a registry to another machine's home, and checked there without it."""

import json
import uuid

import pytest
from axon_served import serving

from axon_client import config_file, trust
from axon_client.cli import run
from axon_client.errors import IntegrityError
from axon_client.store import Store
from mlos_core.errors import PermissionDenied


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("registry") / "data") as registry:
        yield registry


class Machine:
    """One home that knows the registry."""

    def __init__(self, home, url, policy, capsys, monkeypatch):
        self.home, self._capsys, self._monkeypatch = home, capsys, monkeypatch
        self._registry = {"url": url, "policy": policy}
        self.set_policy(policy)

    def set_policy(self, policy):
        registry = {**self._registry, "policy": policy}
        settings = {"registries": {"hub": registry}, "default_registry": "hub"}
        config_file.edit(self.home, lambda values: values.update(settings))

    def __call__(self, *arguments):
        self._monkeypatch.setenv("AXON_HOME", str(self.home))
        code = run([*map(str, arguments), "--json"])
        return code, json.loads(self._capsys.readouterr().out)


@pytest.fixture
def machine(tmp_path, served, capsys, monkeypatch):
    def machine(name, policy="off"):
        return Machine(tmp_path / name, served.url, policy, capsys, monkeypatch)

    return machine


@pytest.fixture
def published(machine, served, folder, monkeypatch):
    """A signed package's spec, and the public key that signed it."""
    namespace = f"n{uuid.uuid4().hex[:8]}"
    author = machine("author")
    key = author("keygen")[1]["public"]
    monkeypatch.setenv("AXON_TOKEN", served.token)
    spec = f"{namespace}/digits@1.0.0"
    assert author("publish", folder, "--as", spec, "--sign")[0] == 0
    monkeypatch.delenv("AXON_TOKEN")
    return spec, key


def test_a_signed_package_is_installed_once_its_key_is_trusted_for_its_namespace(
    machine, published
):
    spec, key = published
    user = machine("user", "require")
    code, answer = user("install", spec)
    assert code == PermissionDenied.exit_code
    assert key in answer["error"]["hint"]
    assert Store(user.home).installed() == []
    assert user("trust", "add", key, "--namespace", "somebody-else")[0] == 0
    code, answer = user("install", spec)
    assert (code, "may not sign for" in answer["error"]["message"]) == (77, True)
    user("trust", "add", key, "--namespace", spec.partition("/")[0], "--name", "Ada")
    assert user("install", spec)[0] == 0


def test_an_unsigned_package_is_refused_or_only_warned_of(machine, served, folder, monkeypatch):
    author = machine("author")
    monkeypatch.setenv("AXON_TOKEN", served.token)
    spec = f"n{uuid.uuid4().hex[:8]}/digits@1.0.0"
    assert author("publish", folder, "--as", spec)[0] == 0
    code, answer = machine("strict", "require")("install", spec)
    assert code == PermissionDenied.exit_code
    assert "not signed" in answer["error"]["message"]
    code, answer = machine("lenient", "warn")("install", spec)
    assert code == 0
    assert "not signed" in json.dumps(answer)


@pytest.mark.parametrize("policy", ["off", "warn", "require"])
def test_what_was_signed_is_checked_again_without_a_network(
    machine, published, policy, monkeypatch
):
    spec, key = published
    user = machine("user", policy)
    user("trust", "add", key, "--namespace", "*", "--name", "Ada")
    assert user("install", spec)[0] == 0
    monkeypatch.setenv("AXON_OFFLINE", "1")
    code, answer = user("verify", spec, "--signatures")
    assert code == 0, answer
    assert answer["models"][0]["signature"]["name"] == "Ada"
    user("trust", "remove", "Ada")
    code, answer = user("verify", spec, "--signatures")
    assert (code, answer["ok"]) == (PermissionDenied.exit_code, False)
    assert answer["models"][0]["signature"]["state"] == "unknown-key"
    assert user("verify", spec)[0] == 0


def rewrite(path, change):
    """Put another file in its place: the installed one is read-only, and linked elsewhere."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(change(path.read_bytes()))
    new.replace(path)


def test_a_manifest_that_is_changed_after_installation_is_not_what_was_signed(machine, published):
    spec, key = published
    user = machine("user", "require")
    user("trust", "add", key, "--namespace", "*")
    user("install", spec)
    (model,) = Store(user.home).installed()
    digest = model.manifest.spec.format.files[0].sha256
    rewrite(model.path / "manifest.yaml", lambda data: data.replace(digest.encode(), b"0" * 64))
    assert trust.check_installed(Store(user.home).installed()[0], home=user.home).state == "altered"
    code, _ = user("verify", spec, "--signatures")
    assert code == IntegrityError.exit_code


def test_signatures_that_are_removed_or_changed_are_no_longer_trusted(machine, published):
    spec, key = published
    user = machine("user", "require")
    user("trust", "add", key, "--namespace", "*")
    user("install", spec)
    (model,) = Store(user.home).installed()
    kept = model.path / trust.FILE_NAME
    original = kept.read_bytes()
    for data, state in ((b"{", "malformed"), (b"[]", "malformed"), (b"", "unsigned")):
        rewrite(kept, lambda _, data=data: data)
        code, answer = user("verify", spec, "--signatures")
        assert answer["models"][0]["signature"]["state"] == state
        assert code == PermissionDenied.exit_code
    kept.unlink()
    assert user("verify", spec, "--signatures")[1]["models"][0]["signature"]["state"] == "unsigned"
    kept.write_bytes(original)
    assert user("verify", spec, "--signatures")[0] == 0
