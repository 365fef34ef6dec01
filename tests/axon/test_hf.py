# SPDX-License-Identifier: BUSL-1.1
"""The hub source against a hub that also serves the real `hf` command."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import fake_hub
import pytest

import axon_client
from axon_client import cli, installer
from axon_client.adapters import hf_hub
from axon_client.adapters.base import Choice
from axon_client.adapters.hf import HfAdapter
from axon_client.errors import IntegrityError
from axon_client.spec import PackageSpec, parse
from axon_client.store import Store
from mlos_core.errors import (
    ConfigError,
    InvalidInput,
    MlosError,
    NotFound,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    Unavailable,
    Unsupported,
)

CARD = b"""---
license: apache-2.0
library_name: onnx
pipeline_tag: image-classification
tags: [digits, small]
---
# Digits

![logo](logo.png)
Reads handwritten **digits**, see [the paper](https://example.org).
"""


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(hf_hub, "PAUSES_S", (0.0, 0.0))


@pytest.fixture
def hub(home, monkeypatch, tmp_path):
    for name in [n for n in os.environ if n.startswith(("HF_", "HUGGING")) or "proxy" in n.lower()]:
        monkeypatch.delenv(name)
    with fake_hub.running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf home"))
        yield hub


@pytest.fixture(scope="module", autouse=True)
def session():
    """huggingface_hub's connections, of which making the first takes a while."""
    import huggingface_hub

    yield
    huggingface_hub.close_session()


@pytest.fixture
def files(onnx):
    noise = random.Random(5).randbytes(300_000)
    return {
        "model.onnx": onnx(extra=b"\xa2\x06\xe0\xa7\x12" + noise),
        "config.json": b'{"model_type": "digits"}',
        "tokenizer.json": json.dumps({"vocab": list(range(9000))}).encode(),
        "README.md": CARD,
        "LICENSE": b"Apache",
        ".gitattributes": b"*.onnx filter=lfs",
        "pytorch_model.bin": noise,
        "train.py": b"print()",
    }


def resolve(spec, **choice):
    namespace, _, rest = spec.partition("/")
    name, _, version = rest.partition("@")
    return HfAdapter(choice=Choice(**choice)).resolve(PackageSpec(namespace, name, version))


def taken(spec, **choice):
    return [file.path for file in resolve(spec, **choice).files]


# --- the reference --------------------------------------------------------------------


def hf_download(hub, repo, folder, *options):
    """What the real command brings, by path."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }
    command = [str(Path(sys.executable).with_name("hf")), "download", repo, *options]
    subprocess.run(
        [*command, "--local-dir", str(folder)],
        env=environment,
        check=True,
        timeout=60,
        capture_output=True,
    )
    there = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in there}
    return {path: data for path, data in found.items() if not path.startswith(".cache/")}


def test_the_hf_command_and_axon_end_with_the_same_bytes(hub, files, tmp_path):
    hub.add("ada/digits", files)
    model = axon_client.install("hf/ada/digits")
    reference = hf_download(hub, "ada/digits", tmp_path / "reference")
    ours = {f.path: (model.path / f.path).read_bytes() for f in model.manifest.spec.format.files}
    assert set(ours) == {"model.onnx", "config.json", "tokenizer.json", "README.md", "LICENSE"}
    assert ours == {path: reference[path] for path in ours}
    assert reference == files


def test_names_that_need_quoting_and_other_revisions_come_through_both_alike(hub, files, tmp_path):
    odd = ("a b.json", "zahl-ü.json", "c#d.txt", "e%20f.json", "g+h.json", "sub dir/i&j=k.txt")
    repo = hub.add("ada/digits", {**files, **{path: path.encode() for path in odd}}, tag="v1.0.0")
    repo.commit({"model.onnx": files["model.onnx"]})
    model = axon_client.install("hf/ada/digits@1.0.0")
    reference = hf_download(hub, "ada/digits", tmp_path / "reference", "--revision", "v1.0.0")
    ours = {f.path: (model.path / f.path).read_bytes() for f in model.manifest.spec.format.files}
    assert set(odd[:5]) <= set(ours)
    assert ours == {path: reference[path] for path in ours}


@pytest.mark.network
def test_a_real_model_is_the_same_through_both(home, hub, tmp_path):
    source = axon_client.install("pypi/magika", home=tmp_path / "other home")
    real = {
        file.path: (source.path / file.path).read_bytes()
        for file in source.manifest.spec.format.files
    }
    assert any(len(data) > 1_000_000 for data in real.values())
    hub.add("google/magika", real)
    model = axon_client.install("hf/google/magika")
    ours = {f.path: (model.path / f.path).read_bytes() for f in model.manifest.spec.format.files}
    assert ours == real == hf_download(hub, "google/magika", tmp_path / "reference")


# --- revisions ------------------------------------------------------------------------


def test_a_branch_is_pinned_to_its_commit_which_the_manifest_keeps(hub, files):
    repo = hub.add("ada/digits", files)
    commit = repo.branches["main"]
    model = axon_client.install("hf/ada/digits")
    assert str(model.spec) == f"hf/ada/digits@0.0.0+{commit[:12]}"
    about = model.manifest.metadata
    assert about.annotations["hf.revision"] == commit
    assert model.manifest.distribution.package.url == f"{hub.url}/ada/digits/tree/{commit}"
    assert (about.license, about.tags) == (
        "apache-2.0",
        ["digits", "small", "onnx", "image-classification"],
    )
    assert about.description == "Reads handwritten digits, see the paper."
    assert about.license_files == ["LICENSE"]


def test_every_spelling_of_a_revision_leads_to_its_commit(hub, files):
    repo = hub.add("ada/digits", files, tag="v1.2")
    old = repo.branches["main"]
    new = repo.commit({**files, "config.json": b"{}"})
    for selector in (old, old[:12], old[:7], "v1.2", "1.2.0", "^1.0", "1"):
        found = resolve(f"hf/ada/digits@{selector}")
        assert (found.revision, found.package.version) == (old, "1.2.0"), selector
    for selector in ("", "main", "latest", new, f"0.0.0+{new[:12]}"):
        found = resolve(f"hf/ada/digits@{selector}")
        assert (found.revision, found.package.version) == (new, f"0.0.0+{new[:12]}"), selector


def test_a_version_stays_what_it_was_though_tags_come_and_move(hub, files):
    repo = hub.add("ada/digits", files, tag="v1.0.0")
    old = repo.branches["main"]
    untagged = repo.commit({**files, "config.json": b"{}"})
    version = resolve("hf/ada/digits").package.version
    repo.tags["v2.0.0"] = untagged
    assert resolve(f"hf/ada/digits@{version}").package.version == version
    repo.tags["v1.0.0"] = untagged
    before = PackageSpec("hf", "ada/digits", "1.0.0")
    found = HfAdapter().resolve_at(before, old)
    assert (found.package, found.revision) == (before, old)
    assert resolve(str(before)).revision == untagged


def test_a_commit_that_no_branch_ends_with_is_found_by_its_beginning(hub, files):
    repo = hub.add("ada/digits", files)
    old = repo.branches["main"]
    repo.commit({**files, "config.json": b"{}"})
    assert resolve(f"hf/ada/digits@0.0.0+{old[:12]}").revision == old
    with pytest.raises(NotFound, match="0123456789ab"):
        resolve("hf/ada/digits@0.0.0+0123456789ab")


def test_versions_are_the_tags_and_the_newest_commit_is_latest(hub, files):
    repo = hub.add("ada/digits", files, tag="v1.2.0")
    repo.commit({**files, "config.json": b"{}"}, tag="not-a-version")
    repo.commit({**files, "config.json": b"[]"}, branch="next")
    offered = HfAdapter().versions(PackageSpec("hf", "ada/digits"))
    named = {tag: version.version for version in offered for tag in version.tags}
    assert named["v1.2.0"] == "1.2.0"
    assert named["latest"] == named["main"] == named["not-a-version"]
    assert named["next"] != named["main"]
    assert all(named[tag].startswith("0.0.0+") for tag in ("main", "next"))


def test_an_unknown_revision_names_the_near_one(hub, files):
    hub.add("ada/digits", files, tag="release-7")
    with pytest.raises(NotFound, match="release-8") as caught:
        resolve("hf/ada/digits@release-8")
    assert "release-7" in caught.value.hint


def test_a_digest_is_no_revision(hub, files):
    hub.add("ada/digits", files)
    with pytest.raises(Unsupported, match="commits"):
        resolve("hf/ada/digits@sha256:" + "a" * 64)


def test_a_hub_without_refs_still_gives_its_newest_commit(hub, files, monkeypatch):
    repo = hub.add("ada/digits", files)
    hub.faults.append((404, {}, b"no such route"))
    assert resolve("hf/ada/digits").revision == repo.branches["main"]


# --- which files ----------------------------------------------------------------------


def test_weights_that_an_onnx_file_keeps_elsewhere_come_whatever_they_are_called(hub, onnx):
    files = {
        "onnx/model.onnx": onnx(external={"w": "model.onnx_data", "v": "strange.weights"}),
        "onnx/model.onnx_data": b"w" * 20_000,
        "onnx/strange.weights": b"v" * 20_000,
        "onnx/model_fp16.onnx": onnx(),
        "onnx/model_fp16.onnx_data": b"unused",
        "config.json": b"{}",
    }
    hub.add("ada/digits", files)
    model = axon_client.install("hf/ada/digits")
    there = {file.path for file in model.manifest.spec.format.files}
    assert there == {
        "config.json",
        "onnx/model.onnx",
        "onnx/model.onnx_data",
        "onnx/strange.weights",
    }


GGUF = [
    *(f"digits-{quant}.gguf" for quant in ("Q2_K", "Q4_K_M", "Q8_0", "f16")),
    "Q6_K/digits-Q6_K-00001-of-00002.gguf",
    "Q6_K/digits-Q6_K-00002-of-00002.gguf",
    "README.md",
    "config.json",
]


@pytest.fixture
def many(hub):
    return hub.add("ada/digits-GGUF", {path: path.encode() for path in GGUF})


def test_of_many_quantizations_one_is_taken_and_the_others_are_named(many):
    found = resolve("hf/ada/digits-GGUF")
    assert [file.path for file in found.files] == [
        "README.md",
        "config.json",
        "digits-Q4_K_M.gguf",
    ]
    (note,) = found.notes
    assert "q8-0" in note
    assert "--include" in note


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Q8_0", ["digits-Q8_0.gguf"]),
        ("q8-0", ["digits-Q8_0.gguf"]),
        ("digits-f16", ["digits-f16.gguf"]),
        ("digits-Q2_K.gguf", ["digits-Q2_K.gguf"]),
        ("q6_k", GGUF[4:6]),
        ("*Q[28]*", ["digits-Q2_K.gguf", "digits-Q8_0.gguf"]),
    ],
)
def test_a_variant_is_chosen_by_name_and_is_part_of_the_version(many, name, expected):
    found = resolve("hf/ada/digits-GGUF", include=(name,))
    weights = [file.path for file in found.files if file.path.endswith(".gguf")]
    assert weights == sorted(expected)
    assert found.package.version.startswith(f"0.0.0+{many.branches['main'][:12]}.")
    if "*" not in name:
        again = resolve(f"hf/ada/digits-GGUF@{found.package.version}")
        assert (again.files, again.package) == (found.files, found.package)
    else:
        with pytest.raises(InvalidInput, match="patterns"):
            resolve(f"hf/ada/digits-GGUF@{found.package.version}")


def test_a_variant_that_is_not_there_names_those_that_are(many):
    with pytest.raises(NotFound, match="Q5_K_M") as caught:
        resolve("hf/ada/digits-GGUF", include=("Q5_K_M",))
    assert "q4-k-m" in caught.value.hint
    with pytest.raises(InvalidInput, match="model"):
        resolve("hf/ada/digits-GGUF", include=("config.json",))


def names(*paths):
    return {path: path.encode() for path in paths}


def test_another_format_is_chosen_by_its_name(hub):
    hub.add("ada/digits", names("model.onnx", "model.safetensors", "model.fp16.safetensors"))
    assert taken("hf/ada/digits") == ["model.onnx"]
    found = resolve("hf/ada/digits", include=("safetensors",))
    assert [file.path for file in found.files] == ["model.safetensors"]
    assert "safetensors" in resolve("hf/ada/digits").notes[0]


def test_pickles_are_refused_with_the_reason_unless_allowed(hub):
    hub.add("ada/digits", names("pytorch_model.bin", "config.json"))
    with pytest.raises(InvalidInput, match="run code") as caught:
        resolve("hf/ada/digits")
    assert "--allow-pickle" in caught.value.hint
    with pytest.raises(InvalidInput, match="runs code"):
        resolve("hf/ada/digits", include=("pytorch_model.bin",))
    assert taken("hf/ada/digits", pickles=True) == ["config.json", "pytorch_model.bin"]


def test_a_repository_without_a_model_is_refused(hub):
    hub.add("ada/data", names("README.md", "data.csv"))
    with pytest.raises(InvalidInput, match="no model"):
        resolve("hf/ada/data")


def test_a_file_that_could_be_torchscript_is_looked_at_when_it_is_asked_for(hub, home):
    hub.add("ada/digits", names("model.pt", "config.json"))
    with pytest.raises(InvalidInput):
        resolve("hf/ada/digits")
    source = HfAdapter().choosing(Choice(include=("model.pt",)))
    with pytest.raises(InvalidInput, match="pickle"):
        axon_client.install("hf/ada/digits", adapter=source)
    assert Store(home).installed() == []


# --- trust in the hub -----------------------------------------------------------------


def test_a_large_file_that_is_not_what_the_hub_states_is_refused(hub, files, home):
    repo = hub.add("ada/digits", files)
    data = files["model.onnx"]
    repo.lies["model.onnx"] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(IntegrityError):
        axon_client.install("hf/ada/digits")
    assert Store(home).installed() == []


def test_a_small_file_that_is_not_what_git_calls_so_is_refused(hub, files, home):
    repo = hub.add("ada/digits", files)
    repo.lies["config.json"] = files["config.json"].replace(b"digits", b"digitz")
    with pytest.raises(IntegrityError):
        axon_client.install("hf/ada/digits")
    assert Store(home).installed() == []


def test_a_file_in_the_store_is_not_fetched_again(hub, files):
    repo = hub.add("ada/digits", files)
    axon_client.install("hf/ada/digits")
    repo.commit({**files, "config.json": b"{}"})
    before = len(hub.asked("hub", "/resolve/"))
    axon_client.install("hf/ada/digits@main")
    assert len(hub.asked("hub", "/resolve/")) == before + 1
    assert len(hub.asked("content")) == len(set(hub.asked("content")))


@pytest.mark.parametrize("path", ["../evil.onnx", "/etc/evil.onnx", "a/../../evil.onnx"])
def test_a_path_that_leaves_the_package_is_refused(hub, files, path, home):
    hub.add("ada/digits", {path: files["model.onnx"]})
    with pytest.raises(IntegrityError):
        axon_client.install("hf/ada/digits")
    assert not list(home.rglob("evil.onnx"))


SHA = "a" * 40


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        b"null",
        b'{"id": "ada/digits", "sha": "main", "siblings": []}',
        b'{"id": "ada/digits", "sha": null, "siblings": null}',
        f'{{"id": "a/b", "sha": "{SHA}", "siblings": [{{"rfilename": 5}}]}}'.encode(),
        f'{{"id": "a/b", "sha": "{SHA}", "siblings": [{{"rfilename": "a.onnx"}}]}}'.encode(),
        f'{{"id": "a/b", "sha": "{SHA}", "siblings": [{{"rfilename": "a.onnx", "size": 1, '
        f'"lfs": {{"size": 1, "sha256": "../../x", "pointerSize": 1}}}}]}}'.encode(),
        b"[" * 100_000,
    ],
    ids=range(10),
)
def test_an_answer_that_is_none_of_a_hub_is_a_protocol_error(hub, body):
    hub.faults += [(404, {}, b""), (200, {"Content_Type": "application/json"}, body)]
    with pytest.raises(ProtocolError, match=hub.url):
        resolve("hf/ada/digits")


def test_an_answer_without_end_is_cut_off(hub, monkeypatch):
    from axon_client.adapters import hf_session

    monkeypatch.setattr(hf_session, "MOST_BYTES", 1000)
    hub.faults += [(404, {}, b""), (200, {}, b" " * 100_000)]
    with pytest.raises(ProtocolError, match="1000 bytes"):
        resolve("hf/ada/digits")


def test_a_hub_that_answers_for_another_commit_is_not_believed(hub, files):
    repo = hub.add("ada/digits", files)
    old = repo.branches["main"]
    repo.commit({**files, "config.json": b"{}"})
    repo.about["sha"] = old
    with pytest.raises(ProtocolError, match=old):
        resolve("hf/ada/digits")


# --- who may have it ------------------------------------------------------------------


def test_a_gated_model_says_where_to_ask_and_how_to_log_in(hub, files, monkeypatch):
    hub.add("ada/digits", files, gated=True, readers={"hf_good"})
    with pytest.raises(PermissionDenied, match="gated") as caught:
        resolve("hf/ada/digits")
    assert f"{hub.url}/ada/digits" in caught.value.hint
    assert "hf auth login" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(PermissionDenied, match="no access to it yet"):
        resolve("hf/ada/digits")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert axon_client.install("hf/ada/digits").size > 0


def test_a_token_goes_to_the_hub_alone_and_into_nothing_that_is_kept(hub, files, monkeypatch, home):
    hub.add("ada/secret", files, private=True, readers={"hf_good"})
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    found = resolve("hf/ada/secret")
    assert "hf_good" not in repr(found)
    axon_client.install("hf/ada/secret")
    sent = {(server, token) for server, _, token in hub.requests}
    assert sent == {("hub", "Bearer hf_good"), ("content", "")}
    kept = (path for path in home.rglob("*") if path.is_file())
    assert not any(b"hf_good" in path.read_bytes() for path in kept)


def test_the_token_that_the_hf_command_keeps_is_used(hub, files, tmp_path):
    hub.add("ada/secret", files, private=True, readers={"hf_kept"})
    script = (
        "from huggingface_hub import constants; import pathlib;"
        "path = pathlib.Path(constants.HF_TOKEN_PATH);"
        "path.parent.mkdir(parents=True); path.write_text('hf_kept')"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    axon = "import sys; from axon_client.cli import run; sys.exit(run(sys.argv[1:]))"
    result = subprocess.run(
        [sys.executable, "-c", axon, "install", "hf/ada/secret", "--json"],
        check=False,
        timeout=60,
        capture_output=True,
    )
    assert result.returncode == 0, result.stderr


def test_another_hub_never_sees_the_usual_ones_token(hub, files, monkeypatch, home):
    hub.add("ada/digits", files)
    monkeypatch.setenv("HF_TOKEN", "hf_usual")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    home.mkdir()
    (home / "config.yaml").write_text(f"registries: {{corp: {{url: '{hub.url}', kind: hf}}}}")
    model = axon_client.install("corp/ada/digits")
    assert model.spec.namespace == "corp"
    assert {token for _, _, token in hub.requests} == {""}
    with pytest.raises(NotFound) as caught:
        HfAdapter(hub.url, "corp").resolve(PackageSpec("corp", "ada/missing"))
    assert "axon registry login corp" in caught.value.hint
    from axon_client import credentials

    credentials.keep(hub.url, credentials.Credential("corp-token"), home)
    HfAdapter(hub.url, "corp").resolve(PackageSpec("corp", "ada/digits"))
    assert hub.requests[-1][2] == "Bearer corp-token"


def test_a_missing_model_names_the_near_one_and_speaks_of_private_ones(hub, files):
    hub.add("ada/digits", files)
    with pytest.raises(NotFound, match="ada/digit'") as caught:
        resolve("hf/ada/digit")
    assert "did you mean ada/digits?" in caught.value.hint
    assert "private" in caught.value.hint


@pytest.mark.parametrize(
    ("status", "headers", "kind", "says"),
    [
        (429, {"Retry_After": "40"}, Overloaded, "wait 40 s"),
        (429, {}, Overloaded, "log in"),
        (503, {}, Unavailable, "later"),
        (403, {}, PermissionDenied, "log in"),
        (400, {}, ProtocolError, ""),
    ],
)
def test_a_hub_that_refuses_says_why_and_what_to_do(hub, status, headers, kind, says):
    hub.faults += [(404, {}, b"")] + [(status, headers, b"{}")] * 3
    with pytest.raises(kind) as caught:
        resolve("hf/ada/digits")
    assert says in caught.value.hint


def test_a_hub_that_stumbles_is_asked_again(hub, files):
    repo = hub.add("ada/digits", files)
    hub.faults += [(502, {}, b""), (503, {}, b"")]
    assert resolve("hf/ada/digits").revision == repo.branches["main"]


def test_offline_the_hub_is_not_asked(hub, files, monkeypatch):
    hub.add("ada/digits", files)
    monkeypatch.setenv("AXON_OFFLINE", "1")
    for question in (lambda: resolve("hf/ada/digits"), lambda: HfAdapter().search("digits", 5)):
        with pytest.raises(ConfigError, match="offline"):
            question()
    assert hub.requests == []


def test_pages_without_end_are_not_followed(hub, monkeypatch):
    from axon_client.adapters import hf_session

    monkeypatch.setattr(hf_session, "MOST_ANSWERS", 20)
    more = {"Link": f'<{hub.url}/api/models?cursor=1>; rel="next"'}
    hub.faults += [(200, more, b"[]")] * 30
    with pytest.raises(ProtocolError, match="pages"):
        HfAdapter().search("digits", 5)


def test_a_hub_that_is_not_there_is_unavailable(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        resolve("hf/ada/digits")
    monkeypatch.setenv("HF_ENDPOINT", "ftp://example.org")
    with pytest.raises(MlosError):
        resolve("hf/ada/digits")


@pytest.fixture
def _no_waiting(monkeypatch):
    def sleep(seconds):
        assert seconds == 0, "huggingface_hub waits"

    monkeypatch.setattr("time.sleep", sleep)


@pytest.mark.parametrize(
    ("status", "kind"), [(429, Overloaded), (503, Unavailable), (408, ProtocolError)]
)
@pytest.mark.usefixtures("_no_waiting")
def test_a_search_waits_no_longer_than_axon_does(hub, status, kind, capfd):
    hub.faults += [(status, {"Retry_After": "4000"}, b"{}")] * 3
    with pytest.raises(kind):
        HfAdapter().search("digits", 5)
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("_no_waiting")
def test_a_search_at_a_hub_that_is_not_there_ends_soon(hub, monkeypatch, capfd):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        HfAdapter().search("digits", 5)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["a/b/c", "ada/..evil", "ada/-x", "a" * 100 + "/b"])
def test_a_name_that_no_hub_has_is_refused(hub, name):
    with pytest.raises((InvalidInput, NotFound)):
        resolve(f"hf/{name}")


def test_without_the_library_the_error_says_what_to_install(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(Unsupported) as caught:
        resolve("hf/ada/digits")
    assert "mlos-core[hf]" in caught.value.hint


# --- search ---------------------------------------------------------------------------


def test_search_narrows_by_the_hubs_own_facets(hub, capfd):
    for name in ("ada/digits", "ada/words", "eve/digits-large"):
        about = {"pipeline_tag": "image-classification", "library_name": "onnx"}
        hub.add(name, names("model.onnx")).about |= about | {"tags": ["license:mit", "onnx"]}
    hub.repos["eve/digits-large"].about["tags"] = ["license:apache-2.0"]
    hits = HfAdapter().search("digits", 10)
    assert [hit.name for hit in hits] == ["ada/digits", "eve/digits-large"]
    assert (hits[0].license, hits[0].framework, hits[0].tags) == ("mit", "onnx", ("onnx",))
    assert [h.name for h in HfAdapter().search("author:ada", 10)] == ["ada/digits", "ada/words"]
    assert [h.name for h in HfAdapter().search("license:mit words", 10)] == ["ada/words"]
    assert len(HfAdapter().search("", 1)) == 1
    assert cli.run(["search", "digits", "--source", "hf", "--license", "mit", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [hit["name"] for hit in found["hits"]] == ["ada/digits"]
    assert "filter=license" in hub.asked("hub", "/api/models?")[-1]
    assert len(HfAdapter().search("", 3)) == 3


def test_the_policy_of_a_registry_is_no_matter_of_the_hub(hub, files, home):
    home.mkdir()
    (home / "config.yaml").write_text(
        "registries: {main: {url: 'http://127.0.0.1:9', policy: require}}\ndefault_registry: main\n"
    )
    hub.add("ada/digits", files)
    assert axon_client.install("hf/ada/digits").spec.namespace == "hf"


def test_a_variant_is_installed_beside_another_one(hub, onnx, home):
    variants = {"model.onnx": onnx(), "model_fp16.onnx": onnx(weights=("w",))}
    hub.add("ada/digits", {**variants, "config.json": b"{}"})
    plain = axon_client.install("hf/ada/digits")
    chosen = installer.InstallOptions(include=("fp16",))
    (half,) = installer.install_all([parse("hf/ada/digits")], options=chosen)
    assert half.model.spec.version == f"{plain.spec.version}.fp16"
    assert [model.path for model in half.model.models] == ["model_fp16.onnx"]
    assert len(Store(home).installed()) == 2


def test_a_source_without_variants_refuses_a_choice(home, folder):
    chosen = installer.InstallOptions(include=("fp16",))
    with pytest.raises(InvalidInput, match="no choice"):
        installer.install_all([parse(str(folder))], options=chosen)


def test_a_lock_gives_the_same_bytes_on_another_machine_though_the_tag_has_moved(
    hub, files, tmp_path, monkeypatch, capfd
):
    repo = hub.add("ada/digits", files, tag="v1.0.0")
    hub.add("ada/words", files)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    for command in (["init"], ["install", "hf/ada/digits@^1", "hf/ada/words", "--save"], ["lock"]):
        assert cli.run(command) == 0, capfd.readouterr()
    locked = (project / "axon.lock").read_bytes()
    repo.commit({**files, "config.json": b"{}"}, tag="v1.0.0")
    hub.repos["ada/words"].commit({**files, "config.json": b"{}"}, tag="v1.0.0")
    there = {m.spec: m.manifest for m in Store().installed()}
    monkeypatch.setenv("AXON_HOME", str(tmp_path / "other home"))
    assert cli.run(["sync", "--frozen"]) == 0, capfd.readouterr()
    assert (project / "axon.lock").read_bytes() == locked
    assert {m.spec: m.manifest for m in Store().installed()} == there


def test_a_format_that_is_asked_for_chooses_the_variant(hub, onnx, home):
    hub.add("ada/digits", {"model.onnx": onnx(), **names("model.safetensors", "config.json")})
    axon_client.install("hf/ada/digits")
    chosen = installer.InstallOptions(format="pytorch")
    (made,) = installer.install_all([parse("hf/ada/digits")], options=chosen)
    assert [model.path for model in made.model.models] == ["model.safetensors"]
    assert made.model.spec.version.endswith(".pytorch")
    with pytest.raises(NotFound, match="gguf"):
        installer.install_all(
            [parse("hf/ada/digits")], options=installer.InstallOptions(format="gguf")
        )
