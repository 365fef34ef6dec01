# SPDX-License-Identifier: BUSL-1.1
"""Projects against a served registry, an index of wheels and folders, in several homes."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from axon_served import answering, files_of, serving

from axon_client import cli, config_file
from axon_client.prepare import prepared
from axon_client.project import load, load_lock, locked, record, settings, syncing
from axon_client.publish import publish
from axon_client.remote import Remote
from axon_client.spec import PathSpec
from axon_client.store import Store

from .conftest import make_onnx

NEEDS = {
    "acme/tokens@1.0.0": [],
    "acme/tokens@1.1.0": [],
    "acme/tokens@2.0.0": [],
    "acme/ranker@1.0.0": ["acme/tokens@^1"],
    "acme/pipeline@1.0.0": ["acme/ranker@^1", "acme/tokens@>=1"],
}


def offer(registry, root, name, needs=()):
    """Publish a small package, which differs by its name and version."""
    namespace, _, rest = name.partition("/")
    own, _, version = rest.partition("@")
    folder = root / rest
    (folder / "labels").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(make_onnx())
    (folder / "labels" / "en.txt").write_text(name)
    about = {
        "apiVersion": "axon.mlos.io/v1",
        "kind": "Model",
        "metadata": {"name": own, "namespace": namespace, "version": version},
        "spec": {"dependencies": {"models": list(needs)}},
    }
    (folder / "axon.yaml").write_text(json.dumps(about))
    store = Store(root / "publisher")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AXON_HOME", str(store.home))
        patch.setenv("AXON_TOKEN", registry.token)
        config_file.edit(store.home, use(registry.url))
        with prepared(PathSpec(folder), store) as package:
            publish(package, Remote(registry.url, store.home), store)


def use(url):
    def change(values):
        values["registries"] = {"hub": {"url": url}}
        values["default_registry"] = "hub"

    return change


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = tmp_path_factory.mktemp("registry")
    with serving(root / "data") as registry:
        for name, needs in NEEDS.items():
            offer(registry, root / "packages", name, needs)
        yield registry


@pytest.fixture
def here(tmp_path, home, monkeypatch):
    """A project's folder, which is the current one."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def work(here, served, home):
    """The same, in a home that knows the registry."""
    config_file.edit(home, use(served.url))
    return here


@pytest.fixture
def other_machine(tmp_path, monkeypatch):
    """Go to a machine whose store is empty and whose settings say nothing."""

    def go():
        fresh = tmp_path / "another home"
        shutil.rmtree(fresh, ignore_errors=True)
        monkeypatch.setenv("AXON_HOME", str(fresh))
        return Store(fresh)

    return go


def axon(*arguments):
    return cli.run([str(one) for one in arguments])


def said(capsys, *arguments):
    """The JSON that a command prints, and its exit code."""
    capsys.readouterr()
    code = axon(*arguments, "--json")
    return json.loads(capsys.readouterr().out), code


def want(root, **models):
    lines = [f'"{name}" = {json.dumps(wish)}' for name, wish in models.items()]
    (root / "axon.toml").write_text("\n".join(["# ours", "[models]", *lines, ""]))


def versions(root):
    return {one.name: one.version for one in load_lock(root).packages}


def contents(store):
    """Every file of every installed model with its digest."""
    return {
        (str(model.spec), file.path): file.sha256
        for model in store.installed()
        for file in model.manifest.spec.format.files
    }


def test_a_lock_has_every_package_with_the_digest_of_every_file(work, home):
    want(work, **{"acme/pipeline": "^1"})
    assert axon("lock") == 0
    lock = load_lock(work)
    assert versions(work) == {
        "acme/pipeline": "1.0.0",
        "acme/ranker": "1.0.0",
        "acme/tokens": "1.1.0",
    }
    pipeline = lock.get("acme/pipeline")
    assert pipeline.dependencies == ["acme/ranker@1.0.0", "acme/tokens@1.1.0"]
    assert pipeline.manifest == pipeline.revision
    assert [file.path for file in pipeline.files] == ["labels/en.txt", "model.onnx"]
    assert not Store(home).installed(), "the registry lists the digests; nothing is fetched"


def test_sync_frozen_reproduces_the_lock_from_a_cold_cache_on_another_machine(
    work, home, served, index, onnx, folder, other_machine
):
    index.wheel("tiny-model", {"tiny/model.onnx": onnx()}, version="1.0.3.post1")
    shutil.copytree(folder, work / "models" / "digits")
    (work / "axon.toml").write_text(
        '[models]\n"acme/pipeline" = "^1"\n"pypi/tiny-model" = "^1.0"\n'
        '"local/digits" = { path = "models/digits" }\n'
    )
    assert axon("sync") == 0
    before, mine = (work / "axon.lock").read_bytes(), contents(Store(home))
    assert len(load_lock(work).packages) == 5

    store = other_machine()
    assert axon("sync", "--frozen") == 0
    assert (work / "axon.lock").read_bytes() == before
    assert contents(store) == mine
    assert not [problem for model in store.installed() for problem in store.verify(model)]

    config_file.edit(other_machine().home, use(served.url))
    (work / "axon.lock").unlink()
    assert axon("lock") == 0
    assert (work / "axon.lock").read_bytes() == before, "made anew, it is the same to the byte"


def test_the_order_of_wishes_changes_no_byte_of_the_lock(work):
    wishes = {"acme/ranker": "^1", "acme/tokens": "~1.0"}
    want(work, **wishes)
    assert axon("lock") == 0
    before = (work / "axon.lock").read_bytes()
    (work / "axon.lock").unlink()
    want(work, **dict(reversed(wishes.items())))
    assert axon("lock") == 0
    assert (work / "axon.lock").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"acme/tokens": "^2"}, "acme/tokens is locked for ^1 and wanted as ^2"),
        ({}, "acme/tokens is locked and no longer wanted"),
        ({"acme/tokens": "^1", "acme/ranker": "1"}, "acme/ranker is wanted and not locked"),
    ],
)
def test_frozen_fails_on_drift_and_writes_nothing(work, home, capsys, change, what):
    want(work, **{"acme/tokens": "^1"})
    assert axon("lock") == 0
    before = {path.name: path.read_bytes() for path in work.iterdir()}
    want(work, **change)
    wished = (work / "axon.toml").read_bytes()
    answer, code = said(capsys, "sync", "--frozen")
    assert code == 65
    assert what in answer["error"]["message"]
    assert "axon lock" in answer["error"]["hint"]
    assert (work / "axon.lock").read_bytes() == before["axon.lock"]
    assert (work / "axon.toml").read_bytes() == wished
    assert sorted(path.name for path in work.iterdir()) == ["axon.lock", "axon.toml"]
    assert not Store(home).installed()


def test_frozen_without_a_lock_is_drift(here, capsys):
    want(here, **{"acme/tokens": "^1"})
    answer, code = said(capsys, "sync", "--frozen")
    assert code == 65
    assert "there is no axon.lock" in answer["error"]["message"]
    assert not (here / "axon.lock").exists()


def test_sync_brings_a_drifted_lock_up_to_date_and_leaves_the_rest_alone(work, home):
    want(work, **{"acme/tokens": "1.0.0"})
    assert axon("sync") == 0
    want(work, **{"acme/tokens": "1.0.0", "acme/ranker": "^1"})
    assert axon("sync") == 0
    assert versions(work) == {"acme/ranker": "1.0.0", "acme/tokens": "1.0.0"}
    assert {str(m.spec) for m in Store(home).installed()} == {
        "acme/ranker@1.0.0",
        "acme/tokens@1.0.0",
    }


def test_what_is_locked_stays_until_an_update_is_asked_for(work, served, tmp_path):
    want(work, **{"acme/slow": "^1"})
    offer(served, tmp_path / "first", "acme/slow@1.0.0")
    assert axon("lock") == 0
    offer(served, tmp_path / "second", "acme/slow@1.1.0")
    assert axon("lock") == 0
    assert versions(work) == {"acme/slow": "1.0.0"}
    assert axon("lock", "--check") == 0
    assert axon("update", "--dry-run") == 0
    assert versions(work) == {"acme/slow": "1.0.0"}
    assert axon("update") == 0
    assert versions(work) == {"acme/slow": "1.1.0"}


def test_other_bytes_than_the_locked_ones_are_refused_and_not_installed(work, home, capsys):
    want(work, **{"acme/tokens": "^1"})
    assert axon("lock") == 0
    text = (work / "axon.lock").read_text()
    digest = load_lock(work).packages[0].files[0].sha256
    (work / "axon.lock").write_text(text.replace(digest, "0" * 64))
    answer, code = said(capsys, "sync", "--frozen")
    assert code == 74
    assert "is not what was locked" in answer["error"]["message"]
    assert "labels/en.txt" in answer["error"]["message"]
    assert not Store(home).installed()


def test_a_wheel_with_other_contents_than_the_locked_ones_is_refused(here, home, index, onnx):
    index.wheel("tiny-model", {"tiny/model.onnx": onnx()}, version="1.0")
    want(here, **{"pypi/tiny-model": "^1"})
    assert axon("sync") == 0
    Store(home).uninstall(Store(home).installed()[0])
    (index.root / "simple" / "tiny-model" / "index.html").unlink()
    index.wheel("tiny-model", {"tiny/model.onnx": onnx(weights=["w"])}, version="1.0")
    assert axon("sync", "--frozen") == 74
    assert not Store(home).installed()


def test_what_somebody_installs_meanwhile_with_other_files_is_replaced(
    work, home, folder, monkeypatch
):
    want(work, **{"acme/tokens": "1.0.0"})
    assert axon("lock") == 0
    syncer = syncing.Syncer(load(work), Store(home))
    resolve = syncer._chosen

    def while_resolving(package):
        assert axon("install", folder, "--as", "acme/tokens@1.0.0") == 0
        return resolve(package)

    monkeypatch.setattr(syncer, "_chosen", while_resolving)
    (done,) = syncer.sync(load_lock(work))
    assert syncing.holds(done.model, load_lock(work).packages[0])


def test_of_two_syncs_at_once_one_installs_and_the_other_finds_it_there(work, home, monkeypatch):
    """The other one is done between the first one's look and its installation."""
    want(work, **{"acme/tokens": "^1"})
    assert axon("lock") == 0
    project, lock = load(work), load_lock(work)
    store = Store(home)
    first = syncing.Syncer(project, store)
    resolve = first._chosen

    def while_resolving(package):
        (other,) = syncing.Syncer(project, Store(home)).sync(lock)
        assert other.fresh
        return resolve(package)

    monkeypatch.setattr(first, "_chosen", while_resolving)
    (done,) = first.sync(lock)
    assert not done.fresh


def test_a_lock_is_made_of_what_the_source_has_not_of_what_lies_installed(
    here, home, index, onnx, folder
):
    index.wheel("tiny-model", {"tiny/model.onnx": onnx()}, version="1.0")
    assert axon("install", folder, "--as", "pypi/tiny-model@1.0") == 0
    want(here, **{"pypi/tiny-model": "^1"})
    assert axon("lock") == 0
    (file,) = load_lock(here).packages[0].files
    assert file.sha256 == hashlib.sha256(onnx()).hexdigest()


def test_a_lock_allows_no_pickles_that_axon_toml_does_not(here, index, onnx, home):
    index.wheel(
        "tiny-model", {"tiny/model.onnx": onnx(), "tiny/x.pkl": b"\x80\x04."}, version="1.0"
    )
    want(here, **{"pypi/tiny-model": "^1"})
    wishes = load(here).models
    files = [
        locked.ModelFile(path, len(data), hashlib.sha256(data).hexdigest())
        for path, data in (("model.onnx", onnx()), ("x.pkl", b"\x80\x04."))
    ]
    origin = locked.Origin(namespace="pypi")
    package = locked.Locked("pypi/tiny-model", "1.0", origin, pickles=True, files=files)
    locked.save(here, locked.make(wishes, [package]))
    assert axon("sync", "--frozen") in (74, 77)
    assert not Store(home).installed()


def test_a_version_that_is_installed_with_other_files_is_replaced(here, home, folder):
    shutil.copytree(folder, here / "digits")
    (here / "axon.toml").write_text('[models]\n"local/digits" = { path = "digits" }\n')
    assert axon("sync") == 0
    wanted = contents(Store(home))
    (folder / "labels" / "en.txt").write_text("nil\none\n")
    assert axon("install", folder, "--replace") == 0
    assert contents(Store(home)) != wanted
    assert axon("sync", "--frozen") == 0
    assert contents(Store(home)) == wanted


def test_a_folder_that_changed_since_it_was_locked_is_drift(here, folder, other_machine, capsys):
    shutil.copytree(folder, here / "digits")
    (here / "axon.toml").write_text('[models]\n"local/digits" = { path = "digits" }\n')
    assert axon("lock") == 0
    (here / "digits" / "labels" / "en.txt").write_text("nil\n")
    other_machine()
    answer, code = said(capsys, "sync", "--frozen")
    assert code == 74
    assert "labels/en.txt" in answer["error"]["message"]
    assert axon("update", "local/digits") == 0
    assert axon("sync", "--frozen") == 0


def test_a_file_on_a_web_server_is_locked_by_its_digest(
    here, onnx, tmp_path, other_machine, capsys
):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "scorer.onnx").write_bytes(onnx())
    digest = hashlib.sha256(onnx()).hexdigest()
    with answering(files_of(tmp_path / "web")) as url:
        wish = f'{{ url = "{url}/scorer.onnx", sha256 = "{digest}" }}'
        (here / "axon.toml").write_text(f'[models]\n"https/x/scorer" = {wish}\n')
        answer, code = said(capsys, "lock")
        assert code == 65
        name = answer["error"]["hint"].split('"')[1]
        (here / "axon.toml").write_text(f'[models]\n"{name}" = {wish}\n')
        assert axon("lock") == 0
        assert load_lock(here).get(name).files[0].sha256 == digest
        store = other_machine()
        assert axon("sync", "--frozen") == 0
        assert contents(store) == {(str(store.installed()[0].spec), "scorer.onnx"): digest}
        before = (here / "axon.lock").read_bytes()
        assert axon("lock") == 0
        assert (here / "axon.lock").read_bytes() == before


def test_offline_installs_nothing_and_names_what_is_missing(work, home, capsys):
    want(work, **{"acme/ranker": "^1"})
    assert axon("lock") == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AXON_OFFLINE", "")
        answer, code = said(capsys, "sync", "--offline")
    assert code == 69
    assert "acme/ranker@1.0.0" in answer["error"]["message"]
    assert axon("sync") == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AXON_OFFLINE", "")
        assert axon("sync", "--offline", "--frozen") == 0
        assert axon("lock", "--offline", "--check") == 0


def test_prune_takes_what_syncs_brought_and_nobody_else_s(work, home, tmp_path, folder):
    assert axon("install", folder) == 0
    want(work, **{"acme/ranker": "^1"})
    assert axon("sync") == 0
    neighbour = tmp_path / "neighbour"
    neighbour.mkdir()
    want(neighbour, **{"acme/tokens": "^1"})
    assert axon("sync", "--project", neighbour) == 0
    want(work)
    assert axon("sync") == 0
    assert len(Store(home).installed()) == 3
    assert axon("sync", "--prune") == 0
    assert [str(m.spec) for m in Store(home).installed()] == [
        "acme/tokens@1.1.0",
        "local/digits@0.0.0",
    ]
    assert record.superfluous(Store(home), work) == []


def test_a_conflict_is_explained_and_changes_nothing(work, capsys):
    want(work, **{"acme/ranker": "^1", "acme/tokens": "^2"})
    answer, code = said(capsys, "lock")
    assert code == 65
    said_so = answer["error"]["message"]
    assert "axon.toml wants ^2" in said_so
    assert "acme/ranker@1.0.0 wants ^1" in said_so
    assert not (work / "axon.lock").exists()


def test_a_registry_of_the_project_serves_its_namespaces(work, home, served):
    config_file.edit(home, lambda values: values.clear())
    (work / "axon.toml").write_text(
        f'[models]\n"acme/tokens" = "^1"\n[registries.hub]\nurl = "{served.url}"\n'
        'namespaces = ["acme"]\n'
    )
    assert axon("sync") == 0
    assert load_lock(work).packages[0].origin.registry == served.url


def test_a_project_does_not_say_where_the_user_s_namespaces_come_from(work, home, served, capsys):
    mine = {"url": "https://mine.example", "namespaces": ["acme"]}
    settings = {"registries": {"mine": mine}, "default_registry": "mine"}
    config_file.edit(home, lambda values: values.update(settings))
    (work / "axon.toml").write_text(
        f'[models]\n"acme/tokens" = "^1"\n[registries.hub]\nurl = "{served.url}"\n'
        'namespaces = ["acme"]\n'
    )
    answer, code = said(capsys, "sync")
    assert code == 78, answer
    assert "mine.example" in answer["error"]["message"]
    assert Store(home).installed() == []


@pytest.mark.parametrize("said_so", [True, False])
@pytest.mark.parametrize("namespace", ["pypi", "acme"])
def test_a_path_of_a_project_does_not_take_somebody_else_s_name(
    work, home, served, capsys, onnx, namespace, said_so
):
    """It would be installed in the place of what every project has under that name."""
    hub = {"url": served.url, "namespaces": ["acme"]}
    config_file.edit(home, lambda values: values.update(registries={"hub": hub}))
    (work / "m").mkdir()
    (work / "m" / "model.onnx").write_bytes(onnx())
    (work / "m" / "manifest.yaml").write_text(
        "apiVersion: axon.mlos.io/v1\nkind: Model\n"
        f"metadata: {{name: tokens, namespace: {namespace}, version: 1.0.0}}\n"
    )
    title = f"{namespace}/tokens" if said_so else "local/tokens"
    (work / "axon.toml").write_text(f'[models]\n"{title}" = {{ path = "m" }}\n')
    answer, code = said(capsys, "sync")
    assert code == (78 if said_so else 65), answer
    assert Store(home).installed() == []


def test_the_policy_of_a_project_s_registry_holds(work, served, capsys):
    (work / "axon.toml").write_text(
        f'[models]\n"acme/tokens" = "^1"\n[registries.hub]\nurl = "{served.url}"\n'
        'namespaces = ["acme"]\npolicy = "require"\n'
    )
    answer, code = said(capsys, "sync")
    assert code == 77, answer


def test_install_save_keeps_comments_and_locks_what_was_installed(work, capsys):
    (work / "axon.toml").write_text(
        '# ours\n[models]  # the models\n# none yet\n\n[project]\nname = "x"\n'
    )
    assert axon("install", "--save", "acme/tokens@1.0.0", "acme/ranker") == 0
    assert f"added to {work / 'axon.toml'}" in capsys.readouterr().out
    text = (work / "axon.toml").read_text()
    for line in ("# ours", "[models]  # the models", "# none yet", 'name = "x"'):
        assert line in text
    wishes = load(work).models
    assert wishes["acme/tokens"].version == "1.0.0"
    assert wishes["acme/ranker"].version == "^1.0.0"
    assert versions(work) == {"acme/ranker": "1.0.0", "acme/tokens": "1.0.0"}
    assert axon("sync", "--frozen") == 0


def test_a_folder_is_saved_by_its_path_from_the_project(here, folder):
    axon("init")
    assert axon("install", "--save", folder) == 0
    assert load(here).models["local/digits"].path == "../digits"
    assert axon("sync", "--frozen") == 0


def test_what_cannot_be_locked_is_not_saved(work, folder, capsys):
    want(work, **{"acme/tokens": "^2"})
    assert axon("lock") == 0
    before = {path.name: path.read_bytes() for path in work.iterdir()}
    answer, code = said(capsys, "install", "--save", "acme/ranker")
    assert code == 65
    assert "axon.toml wants ^2" in answer["error"]["message"]
    assert axon("install", "--save", folder, "--as", "local/other@1.0") == 65
    assert {path.name: path.read_bytes() for path in work.iterdir()} == before


def test_another_name_cannot_be_saved(work, capsys):
    axon("init")
    answer, code = said(capsys, "install", "--save", "acme/tokens", "--as", "mine/tokens@1.0.0")
    assert code == 65
    assert "no source has" in answer["error"]["message"]


def test_init_makes_a_project_that_locks_and_syncs(here, capsys):
    assert axon("init", "--name", "acme/reader") == 0
    project = load(here)
    assert (project.about.namespace, project.about.name) == ("acme", "reader")
    assert axon("sync") == 0
    assert load_lock(here).packages == []
    _, code = said(capsys, "init")
    assert code == 73


def test_init_model_makes_a_package_that_installs(here, home, onnx, monkeypatch):
    (here / "model.onnx").write_bytes(onnx())
    assert axon("init", "--model", "--name", "acme/123", "--version", "1.0") == 0
    assert axon("install", ".") == 0
    assert [str(model.spec) for model in Store(home).installed()] == ["acme/123@1.0"]
    assert axon("init", "--model") == 73


def test_without_a_project_the_commands_say_how_to_make_one(tmp_path, home, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in ("lock", "sync"):
        answer, code = said(capsys, command)
        assert code == 66
        assert "axon init" in answer["error"]["hint"]


def test_a_project_is_found_from_the_folders_in_it(work, monkeypatch):
    want(work, **{"acme/tokens": "^1"})
    (work / "src" / "deep").mkdir(parents=True)
    monkeypatch.chdir(work / "src" / "deep")
    assert axon("lock") == 0
    assert (work / "axon.lock").exists()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[models", "is not TOML"),
        ('[models]\n"magika" = "1"', "no namespace"),
        ('[models]\n"a/b@1" = "1"', "is no package"),
        ('[models]\n"pypi/Silero_VAD" = "1"', "silero-vad"),
        ('[models]\n"a/b" = "^^1"', "is not a version range"),
        ('[models]\n"a/b" = 1', "models"),
        ('[models]\n"a/b" = { version = "1", path = "x" }', "one of version, path and url"),
        ('[models]\n"a/b" = { url = "https://x.test/m.onnx" }', "without the digest"),
        ('[models]\n"a/b" = { sha256 = "' + "0" * 64 + '" }', "belongs to a url"),
        ('[models]\n"a/b" = { verison = "1" }', "verison"),
        ('[modles]\n"a/b" = "1"', "modles"),
        ('[project]\nnamespace = "a b"', "namespace"),
        ('[models]\n"a/b" = { url = "https://x.test/m", sha256 = "00" }', "sha256"),
        ('[registries.pypi]\nurl = "https://x.test"\nnamespaces = ["a"]', "source of its own"),
        ('[registries.r]\nurl = "https://x.test"\nnamespaces = ["hf"]', "source of its own"),
        ('[registries.r]\nurl = "https://x.test"', "which namespaces"),
        ("x = " + "[" * 5000, "is not TOML"),
        ("a." * 200_000 + "a = 1", "more than 16 parts"),
        ("[" + "'a' . " * 100_000 + "a]", "more than 16 parts"),
        ("a" * 900_000, "is not TOML"),
        ('"""' + "x" * 900_000, "is not TOML"),
        ("\x00", "is not TOML"),
        ("#" * (2 << 20), "larger than"),
    ],
)
def test_a_wrong_axon_toml_is_an_error_that_says_where(here, capsys, text, what):
    (here / "axon.toml").write_text(text)
    answer, code = said(capsys, "lock")
    assert code == 78
    assert what in answer["error"]["message"]
    assert "axon.toml" in answer["error"]["message"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("version = 1\n", "version = 2\n"),
        lambda text: text.replace("size = ", "size = -"),
        lambda text: text.replace("labels/en.txt", "../../labels/en.txt"),
        lambda text: text.replace('name = "acme/tokens"', 'name = "acme/../tokens"'),
        lambda text: text.replace("sha256:", "sha256:X"),
        lambda text: text.replace("[[packages]]", "[[pakages]]"),
        lambda text: text.replace("origin = {registry", "origin = {path = 'x', registry"),
        lambda text: text.replace('registry = "http', 'registry = "file'),
        lambda text: "<<<<<<< ours\n" + text,
    ],
)
def test_a_damaged_lock_is_refused_with_a_way_out(work, capsys, damage):
    want(work, **{"acme/tokens": "^1"})
    assert axon("lock") == 0
    path = work / "axon.lock"
    path.write_text(damage(path.read_text()))
    answer, code = said(capsys, "sync", "--frozen")
    assert code == 78
    assert "axon.lock" in answer["error"]["message"]


def test_any_lock_reads_back_as_it_was_written():
    odd = "a'b=c #é\u2028ü[x]"
    files = [locked.ModelFile(f"{odd}/{n}", n, f"{n:064x}") for n in range(3)]
    wishes = {"a/b": locked.Wish("^1", include=["q8-0", odd], pickles=True), "a/c": locked.Wish()}
    package = locked.Locked(
        "a/b", "1.0.0+x", locked.Origin(url=odd), revision='"\\\x7f\n', files=files
    )
    lock = locked.make(wishes, [package])
    text = locked.encode(lock).decode()
    assert locked.encode(locked.make(wishes, [package])).decode() == text
    assert (
        locked.msgspec.convert(locked.read_toml(text.encode(), "x", 1 << 20), locked.Lock) == lock
    )


def test_a_file_of_somebody_else_above_is_no_project(here):
    status = (here / "axon.toml").parent.stat()
    assert settings.trusts(status.st_uid)
    assert settings.trusts(0)
    assert not settings.trusts(status.st_uid + 4242)


def test_the_guide_s_example_is_an_axon_toml(tmp_path):
    guide = (Path(__file__).resolve().parents[2] / "docs" / "projects.md").read_text()
    example = guide.split("```toml\n")[1].split("```")[0]
    project = settings.decode(example.encode(), tmp_path)
    assert len(project.models) == example.count('" = ') == 5
    assert project.registries["hub"].policy == "warn"
