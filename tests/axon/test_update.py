# SPDX-License-Identifier: BUSL-1.1
"""Newer versions: of what is installed, of what a project wants, of what a daemon serves."""

import json
from contextlib import contextmanager

import msgspec
import pytest

from axon_client import adapters, cli, outlook, updating
from axon_client import manifest as manifests
from axon_client.adapters.base import Resolved, Version
from axon_client.describe import complete
from axon_client.manifest import Manifest, Metadata, Spec
from axon_client.project import load_lock
from axon_client.resolver import Offers
from axon_client.spec import parse
from axon_client.store import Store
from mlos_core.errors import InvalidInput, NotFound, Unavailable


class Shop:
    """A source of tiny models: versions by title, each with its tags; `down` breaks it."""

    def __init__(self, onnx):
        self.model = onnx()
        self.offered = {}
        self.needs = {}
        self.down = set()

    def offer(self, title, *versions, tags=None, yanked=()):
        tags = tags or {}
        self.offered[title] = [
            Version(v, "broken" if v in yanked else "", tuple(tags.get(v, ()))) for v in versions
        ]

    def versions(self, spec):
        if spec.title in self.down:
            raise Unavailable(f"the source of {spec.title} does not answer")
        if spec.title not in self.offered:
            raise NotFound(f"there is no {spec.title}")
        return self.offered[spec.title]

    def resolve(self, spec):
        if spec.version not in {one.version for one in self.versions(spec)}:
            raise NotFound(f"there is no {spec}")
        return Resolved(spec, dependencies=self.needs.get(str(spec), ()))

    def fetch(self, spec, found, stage, progress):
        (stage.files / "model.onnx").write_bytes(self.model)
        (stage.files / "labels.txt").write_text(str(spec))
        about = Metadata(name=spec.name, namespace=spec.namespace, version=spec.version)
        needs = manifests.Dependencies(models=list(found.dependencies))
        manifest = Manifest("axon.mlos.io/v1", "Model", about, Spec(dependencies=needs))
        return complete(manifest, stage.files)


@pytest.fixture
def shop(onnx, home, monkeypatch, tmp_path):
    made = Shop(onnx)
    monkeypatch.setattr(adapters, "source", lambda namespace, home=None: made)
    monkeypatch.chdir(tmp_path)
    return made


class Daemon:
    """A control plane that serves models and takes swaps."""

    def __init__(self, models):
        self.models = models
        self.swapped = []

    def call(self, method, **parameters):
        if method == "models":
            return self.models
        assert method == "swap_model"
        self.swapped.append(parameters)
        return {}


@pytest.fixture
def daemon(monkeypatch):
    """What `connect_to` finds; no model is served at first."""
    running = Daemon([])

    @contextmanager
    def connect(socket):
        yield running

    monkeypatch.setattr("axon_client.register.connect_to", connect)
    return running


def axon(*arguments):
    return cli.run([str(one) for one in arguments])


def said(capsys, *arguments):
    capsys.readouterr()
    code = axon(*arguments, "--json")
    return json.loads(capsys.readouterr().out), code


def installed(home):
    return [str(model.spec) for model in Store(home).installed()]


def serve(daemon, model):
    daemon.models.append(
        {
            "name": model.spec.name,
            "versions": [{"version": model.spec.version, "path": str(model.path / "model.onnx")}],
        }
    )


def test_outdated_shows_what_is_compatible_and_what_is_newest(shop, home, capsys):
    shop.offer("a/m", "1.0.0", "1.2.0", "2.0.0", "3.0.0-rc.1")
    shop.offer("a/n", "1.0.0")
    assert axon("install", "a/m@1.0.0", "a/n") == 0
    rows, code = said(capsys, "outdated")
    assert (rows, code) == (
        [{"package": "a/m", "current": "1.0.0", "wanted": "1.2.0", "latest": "2.0.0"}],
        0,
    )
    assert [row["package"] for row in said(capsys, "outdated", "--all")[0]] == ["a/m", "a/n"]
    assert axon("outdated", "--exit-code") == 1
    assert axon("update", "--latest") == 0
    assert axon("outdated", "--exit-code") == 0


def test_a_source_that_is_down_does_not_hide_the_others(shop, capsys):
    shop.offer("a/m", "1.0.0", "1.1.0")
    shop.offer("b/n", "1.0.0")
    assert axon("install", "a/m@1.0.0", "b/n") == 0
    shop.down.add("b/n")
    rows, code = said(capsys, "outdated")
    assert code == Unavailable.exit_code
    assert rows[0]["wanted"] == "1.1.0"
    assert rows[1]["error"]["code"] == "unavailable"


def test_what_can_be_updated_is_though_another_source_is_down(shop, home, capsys):
    shop.offer("a/m", "1.0.0", "1.1.0")
    shop.offer("b/n", "1.0.0", "1.1.0")
    assert axon("install", "a/m@1.0.0", "b/n@1.0.0") == 0
    shop.down.add("b/n")
    assert axon("update", "b/n") == Unavailable.exit_code
    assert axon("update") == 0
    assert "b/n does not answer" in capsys.readouterr().err
    assert installed(home) == ["a/m@1.0.0", "a/m@1.1.0", "b/n@1.0.0"]
    assert axon("update") == Unavailable.exit_code


def test_what_has_no_source_is_left_alone(home, folder, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert axon("install", folder, "--as", "nowhere/digits@1.0.0") == 0
    assert said(capsys, "outdated", "--all") == ([], 0)
    answer, code = said(capsys, "update")
    assert (answer["updated"], code) == ([], 0)
    assert axon("update", "nowhere/digits") == NotFound.exit_code


def test_update_stays_compatible_and_keeps_the_old_version(shop, home, capsys):
    shop.offer("a/m", "1.0.0", "1.2.0", "2.0.0")
    assert axon("install", "a/m@1.0.0") == 0
    answer, code = said(capsys, "update", "--dry-run")
    assert answer["updated"] == [{"package": "a/m", "before": "1.0.0", "after": "1.2.0"}]
    assert installed(home) == ["a/m@1.0.0"]
    assert axon("update") == 0
    assert installed(home) == ["a/m@1.0.0", "a/m@1.2.0"]
    answer, code = said(capsys, "update")
    assert (answer["updated"], code) == ([], 0)


@pytest.mark.parametrize(
    ("selector", "after"),
    [("@^2", "2.1.0"), ("@2.0.0", "2.0.0"), ("@stable", "2.0.0"), ("@1.0.0", "1.0.0"), ("@1", "")],
)
def test_a_named_package_goes_where_its_selector_says(shop, home, capsys, selector, after):
    shop.offer("a/m", "1.0.0", "1.2.0", "2.0.0", "2.1.0", tags={"2.0.0": ["stable"]})
    assert axon("install", "a/m@1.2.0") == 0
    answer, code = said(capsys, "update", f"a/m{selector}")
    assert code == 0
    assert [one["after"] for one in answer["updated"]] == ([after] if after else [])


def test_what_is_yanked_is_no_update(shop, home):
    shop.offer("a/m", "1.0.0", "1.1.0", "1.2.0", yanked=["1.2.0"])
    assert axon("install", "a/m@1.0.0") == 0
    assert axon("update") == 0
    assert installed(home)[-1] == "a/m@1.1.0"


def test_new_versions_bring_what_they_need(shop, home):
    shop.offer("a/m", "1.0.0", "1.1.0")
    shop.offer("a/tokens", "1.0.0")
    shop.needs["a/m@1.1.0"] = ("a/tokens@^1",)
    assert axon("install", "a/m@1.0.0") == 0
    assert axon("update", "m") == 0
    assert installed(home) == ["a/m@1.0.0", "a/m@1.1.0", "a/tokens@1.0.0"]


def test_names_that_are_not_installed_are_refused_with_the_one_that_was_meant(shop, capsys):
    shop.offer("a/model", "1.0.0")
    assert axon("install", "a/model") == 0
    answer, code = said(capsys, "update", "a/modle")
    assert code == NotFound.exit_code
    assert "a/model" in answer["error"]["hint"]


def test_a_folder_has_no_newer_version(home, folder, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert axon("install", folder) == 0
    assert said(capsys, "outdated", "--all")[0] == []
    answer, code = said(capsys, "update", "local/digits")
    assert code == InvalidInput.exit_code
    assert "folder" in answer["error"]["message"]


def test_what_a_daemon_serves_is_swapped_live(shop, home, daemon, capsys):
    shop.offer("a/m", "1.0.0", "1.1.0")
    shop.offer("a/other", "1.0.0")
    assert axon("install", "a/m@1.0.0", "a/other") == 0
    for model in Store(home).installed():
        serve(daemon, model)
    answer, _ = said(capsys, "update")
    assert [(one["name"], one["version"]) for one in answer["swapped"]] == [("m", "1.1.0")]
    (swap,) = daemon.swapped
    assert swap["path"] == str(home / "models" / "a" / "m" / "1.1.0" / "model.onnx")
    assert (swap["version"], swap["new_version"]) == ("1.0.0", "1.1.0")


def test_naming_a_model_swaps_what_is_served_in_an_older_version(shop, home, daemon):
    shop.offer("a/m", "1.0.0", "1.1.0")
    assert axon("install", "a/m@1.0.0") == 0
    serve(daemon, Store(home).installed()[0])
    assert axon("update", "--no-swap") == 0
    assert axon("update") == 0
    assert daemon.swapped == []
    assert axon("update", "m") == 0
    assert [swap["new_version"] for swap in daemon.swapped] == ["1.1.0"]


def test_no_swap_leaves_the_daemon_alone(shop, home, daemon):
    shop.offer("a/m", "1.0.0", "1.1.0")
    assert axon("install", "a/m@1.0.0") == 0
    serve(daemon, Store(home).installed()[0])
    assert axon("update", "--no-swap") == 0
    assert daemon.swapped == []


def test_without_a_daemon_an_update_is_complete_unless_one_was_named(shop, home, tmp_path):
    shop.offer("a/m", "1.0.0", "1.1.0", "1.2.0")
    assert axon("install", "a/m@1.0.0") == 0
    assert axon("update", "a/m@1.1.0") == 0
    assert axon("update", "--socket", tmp_path / "nobody.sock") == Unavailable.exit_code
    assert installed(home)[-1] == "a/m@1.2.0"


def test_a_project_is_updated_within_its_ranges_and_swapped(shop, home, daemon, tmp_path, capsys):
    shop.offer("a/m", "1.0.0", "1.1.0", "2.0.0")
    shop.offer("a/n", "1.0.0", "1.1.0")
    (tmp_path / "axon.toml").write_text('[models]\n"a/m" = "1.0.0"\n"a/n" = "1.0.0"\n')
    assert axon("sync") == 0
    (tmp_path / "axon.toml").write_text('[models]\n"a/m" = "^1"\n"a/n" = "1.0.0"\n')
    assert axon("lock") == 0
    (tmp_path / "axon.toml").write_text('[models]\n"a/m" = "^1"\n"a/n" = "^1"\n')
    rows = {row["package"]: row for row in said(capsys, "outdated")[0]}
    assert rows["a/m"] == {
        "package": "a/m",
        "current": "1.1.0",
        "wanted": "1.1.0",
        "latest": "2.0.0",
    }
    assert rows["a/n"]["wanted"] == "1.1.0"
    for model in Store(home).installed():
        serve(daemon, model)
    answer, code = said(capsys, "update", "a/n")
    assert code == 0
    assert answer["updated"] == [{"package": "a/n", "before": "1.0.0", "after": "1.1.0"}]
    assert [one["name"] for one in answer["swapped"]] == ["n"]
    assert {one.name: one.version for one in load_lock(tmp_path).packages} == {
        "a/m": "1.1.0",
        "a/n": "1.1.0",
    }


def test_a_project_s_ranges_are_not_given_on_the_command_line(shop, tmp_path, capsys):
    (tmp_path / "axon.toml").write_text('[models]\n"a/m" = "^1"\n')
    answer, code = said(capsys, "update", "a/m@^2")
    assert code == InvalidInput.exit_code
    assert "axon install --save a/m@^2" in answer["error"]["hint"]
    answer, code = said(capsys, "update", "a/x")
    assert code == NotFound.exit_code


@pytest.mark.parametrize(
    ("version", "namespace", "wish"),
    [
        ("1.2.3", "a", "^1.2.3"),
        ("0.4.1", "a", "^0.4.1"),
        ("1.2.3+q8-0", "hf", "^1.2.3"),
        ("1.0.0-rc.1", "a", "^1.0.0-rc.1"),
        ("1.0.3.post1", "pypi", "^1.0.3"),
        ("1.0", "pypi", "^1.0.0"),
        ("0.0.0+0123456789ab", "hf", ""),
        ("0.0.0", "local", ""),
        ("1!2.0", "pypi", ""),
        ("main", "hf", ""),
    ],
)
def test_compatible_is_what_a_caret_makes_of_a_version(version, namespace, wish):
    assert outlook.compatible(version, namespace) == wish


@pytest.mark.parametrize(
    ("version", "label"),
    [
        ("1.2.0+q8-0", "q8-0"),
        ("0.0.0+0123456789ab.q4-k-m", "q4-k-m"),
        ("0.0.0+0123456789ab", ""),
        ("1.2.0", ""),
    ],
)
def test_the_variant_of_a_version_is_chosen_again(version, label, home):
    assert updating.variant_of(version) == label

    class Chooser:
        def __init__(self, choice=None):
            self.choice = choice

        def choosing(self, choice):
            return Chooser(choice)

    spec = parse(f"hf/org/m@{version}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapters, "source", lambda namespace, home=None: Chooser())
        found = updating.source_of(spec, Store(home))(spec)
    assert (found.choice.include if found.choice else ()) == ((label,) if label else ())


def test_a_commit_goes_on_to_the_newest_one(shop):
    old, new = "0.0.0+aaaaaaaaaaaa", "0.0.0+bbbbbbbbbbbb"
    shop.offer("hf/m", old, new, tags={new: ["latest", "main"]})
    seen = outlook.look(parse("hf/m"), old, lambda package: shop)
    assert (seen.wanted, seen.outdated) == (new, True)
    assert outlook.newest(Offers(lambda package: shop), parse("hf/m"), new) == new


def test_what_is_newer_than_the_source_s_latest_is_kept(shop):
    shop.offer("a/m", "1.0.0", "1.1.0", tags={"1.0.0": ["latest"]})
    seen = outlook.look(parse("a/m@^1.1.0"), "1.1.0", lambda package: shop)
    assert (seen.wanted, seen.latest, seen.outdated) == ("1.1.0", "1.1.0", False)
    assert msgspec.structs.replace(seen, current="").outdated
