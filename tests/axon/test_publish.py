# SPDX-License-Identifier: BUSL-1.1
"""Publishing to a registry that is served by a process of its own."""

import hashlib
import json
import os
import threading
import uuid

import pytest
from axon_served import Quiet, answering, serving

from axon_client import config_file, credentials, net, uploads
from axon_client.cli import run
from axon_client.installer import install
from axon_client.manifest import ModelFile
from axon_client.remote import Remote
from axon_client.spec import parse_name
from mlos_core.errors import Cancelled, PermissionDenied, ProtocolError, Unavailable


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("registry") / "data") as registry:
        yield registry


@pytest.fixture
def namespace():
    return f"n{uuid.uuid4().hex[:8]}"


@pytest.fixture
def axon(home, served, capsys, monkeypatch):
    """Run a command with the registry as the default one, as somebody who may publish."""
    monkeypatch.setenv("AXON_TOKEN", served.token)

    def change(values):
        values["registries"] = {"hub": {"url": served.url}}
        values["default_registry"] = "hub"

    config_file.edit(home, change)

    def axon(*arguments):
        code = run(list(map(str, arguments)))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return axon


def test_a_folder_is_published_and_can_be_installed_elsewhere(
    axon, served, folder, namespace, tmp_path
):
    name = f"{namespace}/digits@1.0.0"
    code, out, err = axon("publish", folder, "--as", name, "--tag", "stable")
    assert (code, err) == (0, "")
    assert f"published {name}" in out
    assert "tagged stable" in out
    other = tmp_path / "other"
    os.environ["AXON_HOME"] = str(other)  # the fixture's monkeypatch restores it
    config_file.edit(other, lambda values: values.update(_registry(served.url)))
    model = install(f"{namespace}/digits@stable")
    assert str(model.spec) == name
    assert model.model_file().read_bytes() == (folder / "model.onnx").read_bytes()


def _registry(url):
    return {"registries": {"hub": {"url": url}}, "default_registry": "hub"}


def test_an_installed_model_is_published_by_its_name(axon, folder, namespace):
    assert axon("install", folder)[0] == 0
    code, out, _ = axon("publish", "digits", "--as", f"{namespace}/digits@1.0.0", "--json")
    assert code == 0
    about = json.loads(out)
    assert about["package"] == f"{namespace}/digits@1.0.0"
    assert about["new"]
    assert (about["files"], about["signed"], about["dry_run"]) == (3, False, False)


def test_what_is_there_is_not_sent_again(axon, folder, namespace):
    first = json.loads(axon("publish", folder, "--as", f"{namespace}/a@1", "--json")[1])
    again = json.loads(axon("publish", folder, "--as", f"{namespace}/a@1", "--json")[1])
    assert (first["new"], again["new"]) == (True, False)
    assert again["sent"] == {"files": 0, "bytes": 0}
    (folder / "config.json").write_text(json.dumps({"n": namespace}))
    more = json.loads(axon("publish", folder, "--as", f"{namespace}/a@2", "--json")[1])
    assert more["sent"] == {"files": 1, "bytes": (folder / "config.json").stat().st_size}


def test_a_published_version_never_changes(axon, folder, namespace):
    name = f"{namespace}/a@1"
    assert axon("publish", folder, "--as", name)[0] == 0
    (folder / "config.json").write_text('{"changed": 1}')
    code, _, err = axon("publish", folder, "--as", name)
    assert code == 73
    assert "choose another version" in err


def test_a_dry_run_sends_nothing(axon, folder, namespace):
    (folder / "config.json").write_text(json.dumps({"dry": namespace}))
    about = json.loads(
        axon("publish", folder, "--as", f"{namespace}/a@1", "--dry-run", "--json")[1]
    )
    assert about["sent"]["files"] >= 1
    assert axon("tag", "list", f"{namespace}/a")[0] == 66


@pytest.mark.parametrize("name", ["pypi/x@1", "local/x@1", "hf/x@1"])
def test_a_built_in_sources_namespace_is_not_published(axon, folder, name):
    code, _, err = axon("publish", folder, "--as", name)
    assert code == 65
    assert "--as NAMESPACE/x@1" in err


def test_without_a_registry_nothing_is_published(home, capsys, folder, monkeypatch):
    monkeypatch.delenv("AXON_DEFAULT_REGISTRY", raising=False)
    assert run(["publish", str(folder), "--as", "acme/a@1"]) == 78
    assert "axon registry set NAME URL" in capsys.readouterr().err


def test_pickles_are_published_only_by_who_says_so(axon, folder, namespace):
    (folder / "model.onnx").unlink()
    (folder / "model.bin").write_bytes(b"\x80\x04K\x01.")
    name = f"{namespace}/p@1"
    code, _, err = axon("publish", folder, "--as", name)
    assert code == 65
    assert "--allow-pickle" in err
    assert axon("publish", folder, "--as", name, "--allow-pickle")[0] == 0


def test_who_may_not_publish_is_told_before_the_files_are_sent(
    axon, served, folder, namespace, monkeypatch
):
    monkeypatch.setenv("AXON_TOKEN", served.new_token("read"))
    code, _, err = axon("publish", folder, "--as", f"{namespace}/a@1")
    assert code == 77
    assert served.token not in err
    monkeypatch.delenv("AXON_TOKEN")
    code, _, err = axon("publish", folder, "--as", f"{namespace}/a@1")
    assert code == 77
    assert "axon registry login" in err


@pytest.mark.parametrize(
    ("change", "said"), [(lambda text: text.upper(), "digest"), (lambda text: "[]", "axon verify")]
)
def test_a_damaged_file_is_refused(axon, folder, namespace, store, change, said):
    (folder / "config.json").write_text(json.dumps({"only": namespace}))
    axon("install", folder)
    (model,) = store.installed()
    path = model.path / "config.json"
    path.chmod(0o644)
    path.write_text(change(path.read_text()))
    code, _, err = axon("publish", "digits", "--as", f"{namespace}/a@1")
    assert code == 74
    assert said in err


def test_a_signature_goes_along_and_is_checked(axon, folder, namespace, served, home):
    assert axon("keygen")[0] == 0
    about = json.loads(axon("publish", folder, "--as", f"{namespace}/a@1", "--sign", "--json")[1])
    assert about["signed"]
    detail = Remote(served.url).detail(parse_name(f"{namespace}/a@1"))
    (signature,) = detail.signatures
    assert signature["manifest_sha256"] == about["manifest_sha256"]


def test_what_came_from_a_registry_goes_to_another_as_it_came(
    axon, served, folder, namespace, tmp_path
):
    axon("keygen")
    name = f"{namespace}/a@1.0.0"
    first = json.loads(axon("publish", folder, "--as", name, "--sign", "--json")[1])
    assert axon("install", name)[0] == 0
    again = json.loads(axon("publish", name, "--json")[1])
    assert not again["new"]
    with serving(tmp_path / "other") as other:
        environ = {"AXON_TOKEN": other.token, "AXON_DEFAULT_REGISTRY": other.url}
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in environ.items():
                patch.setenv(variable, value)
            there = json.loads(axon("publish", name, "--json")[1])
        (signature,) = Remote(other.url).detail(parse_name(name)).signatures
    assert there["new"]
    assert there["signed"]
    assert there["manifest_sha256"] == first["manifest_sha256"] == signature["manifest_sha256"]


def test_an_unsigned_package_is_the_same_wherever_it_is_published_from(axon, folder, namespace):
    name = f"{namespace}/a@1.0.0"
    first = json.loads(axon("publish", folder, "--as", name, "--json")[1])
    assert axon("install", name)[0] == 0
    again = json.loads(axon("publish", name, "--json")[1])
    assert (again["new"], again["manifest_sha256"]) == (False, first["manifest_sha256"])


def test_a_registry_of_kind_oci_gets_an_artifact(axon, served, folder, namespace):
    axon("registry", "add", "box", served.url, "--kind", "oci")
    name = f"{namespace}/a@1.0.0"
    code, out, err = axon("publish", folder, "--as", name, "--registry", "box", "--dry-run")
    assert (code, err) == (0, "")
    assert "would be published" in out


def test_a_hub_is_no_place_to_publish(axon, folder, namespace):
    axon("registry", "add", "lab", "https://lab.example.org", "--kind", "hf")
    code, _, err = axon("publish", folder, "--as", f"{namespace}/a@1", "--registry", "lab")
    assert code == 69
    assert "hf upload" in err


# --- yank and tags -----------------------------------------------------------------------


def test_a_yanked_version_is_chosen_by_nobody_until_it_is_unyanked(axon, folder, namespace):
    for version in ("1.0.0", "1.1.0"):
        axon("publish", folder, "--as", f"{namespace}/a@{version}")
    assert axon("yank", f"{namespace}/a@1.1.0", "--reason", "wrong labels")[0] == 0
    out = axon("tag", "list", f"{namespace}/a")[1]
    assert "yanked: wrong labels" in out
    about = json.loads(axon("tag", "list", f"{namespace}/a", "--json")[1])
    assert about["tags"] == {"latest": "1.0.0"}
    assert axon("unyank", f"{namespace}/a@1.1.0")[0] == 0
    about = json.loads(axon("tag", "list", f"{namespace}/a", "--json")[1])
    assert about["tags"] == {"latest": "1.1.0"}


def test_tags_are_added_and_removed(axon, folder, namespace):
    axon("publish", folder, "--as", f"{namespace}/a@1.0.0")
    assert axon("tag", "add", f"{namespace}/a@1.0.0", "stable")[0] == 0
    about = json.loads(axon("tag", "list", f"{namespace}/a", "--json")[1])
    assert about["tags"]["stable"] == "1.0.0"
    assert axon("tag", "remove", f"{namespace}/a", "stable")[0] == 0
    assert axon("tag", "remove", f"{namespace}/a", "stable")[0] == 66


@pytest.mark.parametrize(
    "arguments",
    [("yank", "acme/a"), ("yank", "a@1"), ("tag", "add", "acme/a", "x"), ("tag", "list", "a")],
)
def test_a_half_named_package_is_refused(axon, arguments):
    code, _, err = axon(*arguments)
    assert code == 65
    assert "namespace/name" in err


# --- registries in the configuration -----------------------------------------------------


def test_a_registry_is_added_chosen_listed_and_removed(axon, home):
    assert axon("registry", "add", "lab", "https://lab.example.org", "--namespace", "x")[0] == 0
    assert axon("registry", "add", "lab", "https://other.example.org")[0] == 73
    rows = {row["name"]: row for row in json.loads(axon("registry", "list", "--json")[1])}
    assert rows["hub"]["default"]
    assert rows["lab"]["namespaces"] == ["x"]
    assert axon("registry", "set", "lab", "https://new.example.org")[0] == 0
    rows = {row["name"]: row for row in json.loads(axon("registry", "list", "--json")[1])}
    assert rows["lab"]["default"]
    assert rows["lab"]["url"] == "https://new.example.org"
    assert axon("registry", "remove", "lab")[0] == 0
    code, _, err = axon("registry", "remove", "hubb")
    assert code == 66
    assert "did you mean hub?" in err


def test_login_checks_the_token_keeps_it_and_shows_it_nowhere(axon, served, monkeypatch, home):
    monkeypatch.delenv("AXON_TOKEN")
    secret = served.new_token("publish:acme")
    monkeypatch.setattr("sys.stdin", Input(secret + "\n"))
    code, out, err = axon("registry", "login", "hub")
    assert code == 0
    assert "publish:acme" in out
    assert secret not in out + err
    assert credentials.find(served.url).token == secret
    assert secret not in axon("registry", "list")[1] + axon("config", "list")[1]
    assert axon("registry", "logout", "hub")[0] == 0
    assert credentials.find(served.url) is None


def test_a_wrong_token_is_not_kept(axon, served, monkeypatch):
    monkeypatch.delenv("AXON_TOKEN")
    monkeypatch.setattr("sys.stdin", Input("axon_wrong"))
    assert axon("registry", "login", "hub")[0] == 77
    assert credentials.find(served.url) is None


def test_removing_the_last_registry_of_a_host_forgets_its_token(axon, served):
    credentials.keep(served.url, credentials.Credential("kept"))
    axon("registry", "remove", "hub")
    assert credentials.find(served.url, environ={}) is None


class Input:
    def __init__(self, text):
        self._text = text

    def isatty(self):
        return False

    def read(self, most):
        return self._text


# --- uploads that are cut ----------------------------------------------------------------


class Shelf:
    """A registry that takes uploads, and misbehaves as it is told."""

    def __init__(self):
        self.data = bytearray()
        self.cuts = []
        self.received = 0
        self.begun = 0
        self.location = "/up/1"

    def handler(self):
        shelf = self

        class Upload(Quiet):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                shelf.begun += 1
                self.rfile.read(int(self.headers["Content-Length"]))
                self.reply(201, Location=shelf.location)

            def do_HEAD(self):
                self.reply(200, Upload_Offset=str(len(shelf.data)))

            def do_PATCH(self):
                size = int(self.headers["Content-Length"])
                assert int(self.headers["Upload-Offset"]) == len(shelf.data)
                if shelf.cuts:
                    size = shelf.cuts.pop(0)
                    self.close_connection = True
                data = self.rfile.read(size)
                shelf.data += data
                shelf.received += len(data)
                if not self.close_connection:
                    self.reply(204, Upload_Offset=str(len(shelf.data)))

            def do_PUT(self):
                self.reply(201)

        return Upload


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def blob(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(os.urandom(1 << 20))
    data = path.read_bytes()
    return path, ModelFile("blob", len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def _no_waiting(monkeypatch):
    monkeypatch.setattr(net.options.SYSTEM, "sleep", lambda *arguments: None)


def told(task, done, total):
    assert 0 <= done <= total


@pytest.mark.usefixtures("_no_waiting")
def test_an_upload_goes_on_where_it_was_cut(home, shelf, blob):
    shelf.cuts = [100_000, 0, 300_001, 1]
    with answering(shelf.handler()) as url:
        sent = uploads.send(Remote(url), {blob[0]: blob[1]}, home, told)
    assert bytes(shelf.data) == blob[0].read_bytes()
    assert shelf.received == blob[1].size
    assert (sent.files, sent.bytes) == (1, blob[1].size)
    assert list((home / "uploads").iterdir()) == []


@pytest.mark.usefixtures("_no_waiting")
def test_an_upload_goes_on_in_the_next_process(home, shelf, blob, monkeypatch):
    monkeypatch.setattr(uploads, "ATTEMPTS", 2)
    shelf.cuts = [400_000] + [0] * 4
    with answering(shelf.handler()) as url:
        with pytest.raises(Unavailable, match="goes on from there"):
            uploads.send(Remote(url), {blob[0]: blob[1]}, home, told)
        shelf.cuts = []
        uploads.send(Remote(url), {blob[0]: blob[1]}, home, told)
    assert bytes(shelf.data) == blob[0].read_bytes()
    assert (shelf.begun, shelf.received) == (1, blob[1].size)


def test_an_upload_is_not_led_to_another_host(home, shelf, blob):
    shelf.location = "http://evil.example.org/up/1"
    with answering(shelf.handler()) as url, pytest.raises(ProtocolError, match="another host"):
        uploads.send(Remote(url), {blob[0]: blob[1]}, home, told)


def test_one_failure_ends_the_other_uploads(home, blob):
    class Refusing(Quiet):
        def do_POST(self):
            self.reply(403, b'{"error": {"code": "permission_denied", "message": "not here"}}')

    files = {blob[0].with_name(f"b{n}"): ModelFile(f"b{n}", 1, f"{n:064x}") for n in range(20)}
    for path in files:
        path.write_bytes(b"x")
    with answering(Refusing) as url, pytest.raises(PermissionDenied, match="not here"):
        uploads.send(Remote(url), files, home, told)


def test_a_stopped_uploader_sends_no_more(home, shelf, blob):
    stop = threading.Event()
    stop.set()
    with answering(shelf.handler()) as url, pytest.raises(Cancelled):
        uploads.Uploader(Remote(url).exchange, home / "uploads", told, stop).send(*blob)
    assert shelf.received == 0
