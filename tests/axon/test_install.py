# SPDX-License-Identifier: BUSL-1.1
"""Installing from a source that notes what it is asked."""

import errno
import os
import pickle
import threading
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

import axon_client
from axon_client import adapters, net, trust
from axon_client.adapters.base import Choice
from axon_client.adapters.local import LocalAdapter
from axon_client.errors import IntegrityError
from axon_client.installation import explained
from axon_client.installer import InstallOptions, install, install_all
from axon_client.satisfied import whole
from axon_client.spec import PackageSpec, PathSpec, parse, parse_name
from axon_client.verify import SIGNATURES
from mlos_core.errors import (
    ConfigError,
    InvalidInput,
    MlosError,
    NotFound,
    OutOfMemory,
    PermissionDenied,
    Unavailable,
)
from tests.axon.shop import Shop


@pytest.fixture
def shop(home, onnx, monkeypatch):
    return open_shop(Shop(), onnx, monkeypatch)


def open_shop(shop, onnx, monkeypatch):
    monkeypatch.setattr(adapters, "adapter_for", lambda spec, home=None: shop)
    monkeypatch.setattr(net, "download", shop.download)
    model = {"model.onnx": onnx()}
    shop.add("t/alone@1.0.0", {**model, "a.json": b"{}"})
    shop.add("t/part@1.0.0", {**model, "p.json": b"1"})
    shop.add("t/part@1.2.0", {**model, "p.json": b"12"})
    shop.add("t/part@2.0.0", {**model, "p.json": b"2"})
    shop.add("t/whole@1.0.0", {**model, "w.json": b"w"}, ["t/part@^1.0"])
    shop.add("t/other@1.0.0", {**model, "o.json": b"o"}, ["t/part@>=1"])
    return shop


def names(done):
    return [str(one.model.spec) for one in done]


def wishes(*texts):
    return [parse(text) for text in texts]


def test_a_package_comes_after_what_it_depends_on(shop, store):
    done = install_all(wishes("t/whole"))
    assert names(done) == ["t/part@1.2.0", "t/whole@1.0.0"]
    assert [one.wanted for one in done] == [False, True]
    assert all(one.fresh for one in done)
    assert all(store.verify(model) == [] for model in store.installed())


def test_packages_that_are_installed_together_agree_on_their_dependencies(shop):
    done = install_all(wishes("t/whole", "t/other"))
    assert names(done) == ["t/part@1.2.0", "t/other@1.0.0", "t/whole@1.0.0"]
    assert shop.fetched.count("model.onnx") == 1, "they share it"


def test_what_excludes_each_other_is_explained(shop, store):
    with pytest.raises(MlosError, match="t/part"):
        install_all(wishes("t/whole", "t/part@2.0.0"))
    assert store.installed() == []


def test_dependencies_can_be_left_out(shop):
    assert names(install_all(wishes("t/whole"), options=InstallOptions(dependencies=False))) == [
        "t/whole@1.0.0"
    ]


@pytest.mark.parametrize("again", ["t/whole", "t/whole@1.0.0", "t/whole@^1", "t/whole@*"])
def test_what_is_there_and_fits_asks_nobody(shop, again):
    (_, first) = install_all(wishes("t/whole"))
    shop.asked.clear()
    (one,) = install_all(wishes(again))
    assert (one.model.path, one.fresh, one.wanted) == (first.model.path, False, True)
    assert shop.asked == []


def test_what_is_there_is_found_without_a_write(shop, home):
    install_all(wishes("t/whole"))

    def state():
        return sorted((str(path), path.lstat().st_mtime_ns) for path in home.rglob("*"))

    before = state()
    install_all(wishes("t/whole", "t/part@^1"))
    assert state() == before


class Layers:
    """A store of packages `a/x<n>` and `a/y<n>` that both need both of the next number."""

    def __init__(self, depth):
        self.depth = depth
        self.asked = 0

    def at(self, spec):
        self.asked += 1
        number = int(spec.name[1:])
        below = [f"a/{side}{number + 1}@1" for side in "xy"] if number < self.depth else []
        dependencies = SimpleNamespace(models=below)
        manifest = SimpleNamespace(spec=SimpleNamespace(dependencies=dependencies))
        return SimpleNamespace(spec=spec, manifest=manifest)


@pytest.mark.parametrize("depth", [10, 1500])
def test_what_many_depend_on_is_looked_at_once_however_deep(depth):
    layers = Layers(depth)
    assert whole(layers, layers.at(parse("a/x0@1")))
    assert layers.asked == 1 + 2 * (2 * depth - 1)


def test_a_version_that_does_not_fit_is_no_substitute(shop):
    axon_client.install("t/part@1.0.0")
    assert axon_client.install("t/part@>=1.1,<2").spec.version == "1.2.0"
    assert axon_client.install("t/part").spec.version == "1.2.0", "the best of those installed"
    assert axon_client.install("t/part@2.0.0").spec.version == "2.0.0"


def test_an_installed_dependency_that_fits_stays(shop):
    axon_client.install("t/part@1.0.0")
    assert names(install_all(wishes("t/whole"))) == ["t/part@1.0.0", "t/whole@1.0.0"]


def test_a_dependency_that_went_comes_again(shop, store):
    install_all(wishes("t/whole"))
    store.uninstall(store.at(PackageSpec("t", "part", "1.2.0")))
    done = install_all(wishes("t/whole"))
    assert [(str(one.model.spec), one.fresh) for one in done] == [
        ("t/part@1.2.0", True),
        ("t/whole@1.0.0", False),
    ]


def test_dependencies_that_only_the_files_tell_of_are_installed_too(home, onnx, monkeypatch):
    shop = open_shop(Shop(declares=False), onnx, monkeypatch)
    shop.add("t/round@1.0.0", {"model.onnx": onnx()}, ["t/trip@1.0.0"])
    shop.add("t/trip@1.0.0", {"model.onnx": onnx()}, ["t/round@1.0.0"])
    assert names(install_all(wishes("t/whole"))) == ["t/part@1.2.0", "t/whole@1.0.0"]
    done = install_all(wishes("t/round"))
    assert sorted(names(done)) == ["t/round@1.0.0", "t/trip@1.0.0"]
    assert [str(one.model.spec) for one in done if one.wanted] == ["t/round@1.0.0"]


def test_a_folder_brings_what_its_manifest_names(shop, folder, monkeypatch):
    local = LocalAdapter()
    monkeypatch.setattr(
        adapters, "adapter_for", lambda spec, home=None: shop if is_package(spec) else local
    )
    (folder / "axon.yaml").write_text(
        "apiVersion: axon.mlos.io/v1\nkind: Model\n"
        "metadata: {name: mine, namespace: me, version: '1'}\n"
        "spec: {dependencies: {models: ['t/part@~1.0']}}\n"
    )
    done = install_all([PathSpec(folder)])
    assert sorted(names(done)) == ["me/mine@1", "t/part@1.0.0"]


def is_package(spec):
    return isinstance(spec, PackageSpec)


def test_offline_what_is_installed_has_to_do(shop, store):
    install_all(wishes("t/whole"))
    shop.asked.clear()
    offline = InstallOptions(offline=True)
    assert names(install_all(wishes("t/whole@1.x"), options=offline)) == ["t/whole@1.0.0"]
    with pytest.raises((NotFound, Unavailable)) as caught:
        install_all(wishes("t/alone"), options=offline)
    assert "--offline" in caught.value.hint
    assert shop.asked == []


@pytest.mark.parametrize("lists", [True, False])
def test_a_format_that_is_missing_is_refused_with_those_there_are(home, onnx, monkeypatch, lists):
    shop = open_shop(Shop(lists=lists), onnx, monkeypatch)
    with pytest.raises(InvalidInput, match="gguf") as caught:
        install_all(wishes("t/alone"), options=InstallOptions(format="gguf"))
    assert caught.value.hint == "it has: onnx"
    assert (shop.fetched == []) == lists, "what can be told ahead costs nothing"
    assert axon_client.Store().installed() == []
    for format in ("onnx", "auto"):
        assert install_all(wishes("t/alone"), options=InstallOptions(format=format))
    with pytest.raises(InvalidInput, match="native"):
        install_all(wishes("t/alone"), options=InstallOptions(format="native"))


def test_pickles_are_refused_with_the_reason_unless_allowed(shop, store, onnx):
    shop.add("t/risky@1.0.0", {"model.onnx": onnx(), "extra.pkl": pickle.dumps({})})
    with pytest.raises(InvalidInput, match=r"extra\.pkl") as caught:
        install_all(wishes("t/risky"))
    assert "--allow-pickle" in caught.value.hint
    assert store.installed() == []
    (one,) = install_all(wishes("t/risky"), options=InstallOptions(allow_pickle=True))
    assert one.model.manifest.spec.format.pickled


def test_a_source_that_hides_a_pickle_is_seen_through(shop, store, onnx, monkeypatch):
    """Whether a source looked at its files or not: they are looked at here."""
    shop.add("t/risky@1.0.0", {"model.onnx": onnx(), "extra.pkl": pickle.dumps({})})
    whole = shop.fetch

    def fetch(spec, found, stage, progress):
        stage.allow_pickle = True
        manifest = whole(spec, found, stage, progress)
        format = replace(manifest.spec.format, pickled=False)
        return replace(manifest, spec=replace(manifest.spec, format=format))

    monkeypatch.setattr(shop, "fetch", fetch)
    with pytest.raises(InvalidInput, match="run code"):
        install_all(wishes("t/risky"))


def test_a_source_that_gives_another_package_is_refused(shop, store, monkeypatch):
    monkeypatch.setattr(shop, "manifest", lambda title: Shop.manifest(shop, "t/part@2.0.0"))
    with pytest.raises(IntegrityError, match="asked for t/alone"):
        install_all(wishes("t/alone"))
    assert store.installed() == []


def test_a_check_of_the_caller_refuses_before_anything_is_installed(shop, store):
    def check(manifest):
        raise IntegrityError(f"{manifest.title} drifted")

    with pytest.raises(IntegrityError, match="drifted"):
        install_all(wishes("t/alone"), options=InstallOptions(check=check))
    assert store.installed() == []


def test_pinned_versions_are_taken_as_long_as_they_fit(shop):
    pins = InstallOptions(pins={"t/part": "1.0.0"})
    assert names(install_all(wishes("t/whole"), options=pins)) == ["t/part@1.0.0", "t/whole@1.0.0"]


def test_a_pinned_version_that_does_not_fit_is_no_substitute(shop):
    pins = InstallOptions(pins={"t/part": "1.0.0"})
    axon_client.install("t/part@1.0.0")
    assert names(install_all(wishes("t/part@^2"), options=pins)) == ["t/part@2.0.0"]
    assert names(install_all(wishes("t/part"), options=pins)) == ["t/part@1.0.0"]


def test_what_is_chosen_reaches_a_source_that_chooses(shop):
    options = InstallOptions(include=("q4",), allow_pickle=True)
    install_all(wishes("t/alone"), options=options)
    assert shop.choice == Choice(("q4",), pickles=True)


def test_one_name_is_not_given_to_two(shop):
    name = PackageSpec("me", "x", "1")
    with pytest.raises(InvalidInput, match="one name"):
        install_all(wishes("t/alone", "t/part"), options=InstallOptions(rename=name))
    assert str(axon_client.install("t/alone", rename=name).spec) == "me/x@1"


def test_replacing_heals_what_rotted_and_leaves_dependencies_alone(shop, store):
    install_all(wishes("t/whole"))
    (model,) = [one for one in store.installed() if one.spec.name == "whole"]
    rotten = model.path / "w.json"
    times = rotten.stat()
    rotten.chmod(0o600)
    rotten.write_bytes(b"W")
    os.utime(rotten, ns=(times.st_atime_ns, times.st_mtime_ns))
    shop.fetched.clear()
    done = install_all(wishes("t/whole"), options=InstallOptions(replace=True))
    assert [(one.model.spec.name, one.fresh) for one in done] == [("part", False), ("whole", True)]
    assert shop.fetched == ["w.json"], "the rest was sound"
    assert store.verify(store.at(model.spec)) == []


def test_what_was_withdrawn_is_said(shop, onnx):
    shop.add("t/bad@1.0.0", {"model.onnx": onnx()}, yanked="it is wrong", notes=("only the q4",))
    (one,) = install_all(wishes("t/bad@1.0.0"))
    assert one.notes == ("only the q4", "t/bad@1.0.0 was withdrawn: it is wrong")


def test_who_installs_the_same_at_once_fetches_it_once(shop, store):
    done, errors = [], []

    def work():
        try:
            done.append(axon_client.install("t/whole").path)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(set(done)) == 1
    assert sorted(shop.fetched) == ["model.onnx", "p.json", "w.json"]


@pytest.fixture
def registry(home, shop, onnx):
    """The settings of a registry that serves `t`; writes its policy."""
    home.mkdir()

    def registry(policy, *signatures):
        (home / "config.yaml").write_text(
            "registries:\n  hub: {url: 'https://hub.example', namespaces: [t], "
            f"policy: {policy}}}\n"
        )
        shop.add("t/signed@1.0.0", {"model.onnx": onnx()})
        data = shop.published("t/signed@1.0.0")
        shop.more["t/signed@1.0.0"] = {"manifest": data, "signatures": signatures}
        return data

    return registry


def test_a_policy_that_requires_signatures_refuses_what_has_none(registry, shop, store):
    registry("require")
    with pytest.raises(PermissionDenied, match="not signed"):
        install_all(wishes("t/signed"))
    assert shop.fetched == [], "nothing is fetched that is refused"
    assert store.installed() == []


def test_a_policy_that_warns_warns(registry, shop):
    registry("warn")
    (one,) = install_all(wishes("t/signed"))
    assert any("not signed" in note for note in one.notes)


@pytest.fixture
def impostor(folder):
    """A folder that calls itself a package of somebody else's."""
    (folder / "manifest.yaml").write_text(
        "apiVersion: axon.mlos.io/v1\nkind: Model\n"
        "metadata: {name: signed, namespace: t, version: 9.0.0}\n"
    )
    return folder


@pytest.fixture
def local(monkeypatch):
    monkeypatch.setattr(adapters, "adapter_for", lambda spec, home=None: LocalAdapter())


@pytest.mark.parametrize("name", [None, "other"])
def test_a_name_that_needs_a_signature_is_not_had_by_saying_it(
    registry, local, store, impostor, name
):
    registry("require")
    rename = parse_name(name) if name else None
    with pytest.raises(PermissionDenied, match=r"unsigned") as refused:
        install(str(impostor), rename=rename)
    assert "--as local/" in refused.value.hint
    assert store.installed() == []
    assert install(str(impostor), rename=parse_name("local/signed")).spec.namespace == "local"


def test_a_name_of_another_source_is_warned_of(home, local, impostor):
    path = impostor / "manifest.yaml"
    path.write_text(path.read_text().replace("namespace: t", "namespace: pypi"))
    (one,) = install_all([parse(str(impostor))])
    assert any("did not come from pypi/" in note for note in one.notes)
    path.write_text(path.read_text().replace("namespace: pypi", "namespace: mine"))
    (one,) = install_all([parse(str(impostor))])
    assert one.notes == ()


def test_a_name_that_should_have_a_signature_is_warned_of(registry, local, impostor):
    registry("warn")
    (one,) = install_all([parse(str(impostor))])
    assert any("unsigned" in note for note in one.notes)


def test_signatures_are_kept_beside_the_model(registry, shop, store, home):
    data = registry("off")
    key = trust.generate("mine", home)
    trust.add(trust.Trusted(key.public, "me", namespaces=["t"]), home)
    registry("require", trust.sign(key, data))
    (one,) = install_all(wishes("t/signed"))
    assert one.notes == ()
    assert trust.FILE_NAME == SIGNATURES
    kept = one.model.path / SIGNATURES
    assert store.verify(one.model) == []
    kept.unlink()
    other = data.replace(b"model.onnx", b"other.onnx")
    kept.write_bytes(trust.keep(other, [trust.sign(key, other)]))
    (problem,) = store.verify(one.model)
    assert (problem.path, problem.kind) == (SIGNATURES, "signature")


def test_files_other_than_the_signed_ones_are_refused(registry, shop, store, home):
    data = registry("off").replace(b"model.onnx", b"other.onnx")
    key = trust.generate("mine", home)
    trust.add(trust.Trusted(key.public, "me", namespaces=["t"]), home)
    registry("require", trust.sign(key, data))
    shop.more["t/signed@1.0.0"]["manifest"] = data
    with pytest.raises(IntegrityError, match=r"model\.onnx was added|other\.onnx is missing"):
        install_all(wishes("t/signed"))
    assert store.installed() == []


def test_settings_that_are_wrong_are_named(shop, home):
    home.mkdir()
    (home / "config.yaml").write_text("ofline: true\n")
    with pytest.raises(ConfigError, match="ofline"):
        install_all(wishes("t/alone"))


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, OutOfMemory), (errno.EROFS, ConfigError), (errno.EINVAL, InvalidInput)],
)
def test_what_the_system_says_of_the_store_names_another_one(store, number, kind):
    with pytest.raises(kind, match=str(store.home)) as caught, explained(store.home):
        raise OSError(number, os.strerror(number))
    assert "AXON_HOME" in caught.value.hint
