# SPDX-License-Identifier: BUSL-1.1
import base64
import json
import stat

import msgspec
import pytest
from click.testing import CliRunner

from axon_client import cli, trust
from axon_client import manifest as manifests
from axon_client.commands.trust import keygen
from axon_client.errors import IntegrityError
from axon_client.trust import ring
from axon_client.trust.encoding import key_bytes, key_text
from mlos_core.errors import (
    AlreadyExists,
    ConfigError,
    InvalidInput,
    NotFound,
    PermissionDenied,
)

A, B = "a" * 64, "b" * 64
MANIFEST = f"""apiVersion: axon.mlos.io/v1
kind: Model
metadata:
  name: digits
  namespace: ada
  version: 1.2.3
  description: Reads digits
  license: MIT
spec:
  format:
    type: onnx
    files:
    - path: model.onnx
      size: 17
      sha256: {A}
    - path: config.json
      size: 2
      sha256: {B}
  requirements:
    storage:
      min_gb: 1
  dependencies:
    models:
    - ada/words@^1
""".encode()


@pytest.fixture
def key(home):
    return trust.generate("ada")


@pytest.fixture
def ada(key):
    return trust.Trusted(key.public, "Ada", ["ada"])


def judge(signatures, trusted, *, manifest=MANIFEST, namespace="ada", policy="require", **more):
    return trust.check(manifest, signatures, namespace, policy, trusted=trusted, **more)


def test_what_a_trusted_key_has_signed_is_trusted(key, ada):
    verdict = judge([trust.sign(key, MANIFEST)], [ada])
    assert (verdict.state, verdict.refused, verdict.name) == ("trusted", False, "Ada")
    assert verdict.message == verdict.warning == ""


def test_without_a_policy_nothing_is_looked_at(home):
    (home / "trust.json").parent.mkdir(parents=True)
    (home / "trust.json").write_text("damaged")
    assert trust.check(b"", [{"anything": 1}], "ada", "off").state == "off"


def test_each_thing_that_can_be_wrong_says_so_and_what_to_do(key, ada):
    good = trust.sign(key, MANIFEST)
    stranger = trust.sign(trust.generate("eve"), MANIFEST)
    cases = {
        "unsigned": judge([], [ada]),
        "unknown-key": judge([stranger], [ada]),
        "altered": judge([good], [ada], manifest=MANIFEST + b" "),
        "wrong-namespace": judge([good], [ada], namespace="eve"),
        "malformed": judge([{**good, "signature": good["signature"] + "="}], [ada]),
    }
    assert {state: verdict.state for state, verdict in cases.items()} == {s: s for s in cases}
    assert len({verdict.message for verdict in cases.values()}) == len(cases)
    assert all(verdict.refused and verdict.hint for verdict in cases.values())
    assert f"axon trust add {stranger['key']}" in cases["unknown-key"].hint
    assert isinstance(cases["altered"].error(), IntegrityError)
    assert isinstance(cases["unsigned"].error(), PermissionDenied)


def test_a_warning_lets_pass_what_nobody_vouches_for_but_nothing_altered(key, ada):
    unsigned = judge([], [ada], policy="warn")
    assert not unsigned.refused
    assert "not signed" in unsigned.warning
    altered = judge([trust.sign(key, MANIFEST)], [ada], manifest=MANIFEST + b" ", policy="warn")
    assert altered.refused


def values(data, path=()):
    """Every value in plain data, with its path."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield from values(value, (*path, name))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from values(value, (*path, index))
    else:
        yield path, data


PLAIN = msgspec.yaml.decode(MANIFEST)


@pytest.mark.parametrize("path", [p for p, _ in values(PLAIN)], ids=lambda p: ".".join(map(str, p)))
def test_a_manifest_in_which_any_field_was_changed_is_altered(key, ada, path):
    signature = trust.sign(key, msgspec.yaml.encode(PLAIN))
    changed = msgspec.yaml.decode(MANIFEST)
    part = changed
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = part[path[-1]] + 1 if isinstance(part[path[-1]], int) else "other"
    assert judge([signature], [ada], manifest=msgspec.yaml.encode(changed)).state == "altered"


def flipped(text, index):
    raw = bytearray(base64.b64decode(text))
    raw[index] ^= 1
    return base64.b64encode(bytes(raw)).decode()


@pytest.mark.parametrize("index", range(64))
def test_a_signature_with_any_byte_changed_is_none(key, ada, index):
    good = trust.sign(key, MANIFEST)
    bad = {**good, "signature": flipped(good["signature"], index)}
    assert judge([bad], [ada]).state == "altered"


def test_a_signature_with_another_key_is_not_that_keys(key, ada):
    other = trust.generate("bob")
    swapped = {**trust.sign(key, MANIFEST), "key": other.public}
    assert judge([swapped], [ada]).state == "unknown-key"
    assert judge([swapped], [trust.Trusted(other.public, "Bob", ["*"])]).state == "altered"


@pytest.mark.parametrize(
    "change",
    [
        {"key": "ed25519:AAAA"},
        {"key": "rsa:" + "A" * 43 + "="},
        {"key": 7},
        {"signature": "A" * 86},
        {"signature": "A" * 85 + "B=="},
        {"signature": "-" * 86 + "=="},
        {"signature": " " + "A" * 86 + "=="},
        {"signature": "é" * 86 + "=="},
        {"signature": None},
        {"manifest_sha256": "A" * 64},
        {"manifest_sha256": "a" * 63},
        {"manifest_sha256": "a" * 64 + "\n"},
        {"extra": "field"},
    ],
    ids=str,
)
def test_a_signature_has_one_spelling_only(key, ada, change):
    verdict = judge([trust.sign(key, MANIFEST) | change], [ada])
    assert verdict.state == "malformed"
    assert verdict.refused


@pytest.mark.parametrize("junk", [[], "text", 5, None, {}])
def test_junk_among_the_signatures_is_malformed_and_no_crash(ada, junk):
    assert judge([junk], [ada]).state == "malformed"


def test_one_good_signature_is_enough_whatever_others_there_are(key, ada):
    good = trust.sign(key, MANIFEST)
    stranger = trust.sign(trust.generate("eve"), MANIFEST)
    assert judge([{"bad": "x"}, stranger, good], [ada]).state == "trusted"


def test_a_signature_of_something_else_is_none_of_a_manifest(key, ada):
    good = trust.sign(key, MANIFEST)
    bare = key.sign(bytes.fromhex(good["manifest_sha256"]))
    forged = {**good, "signature": base64.b64encode(bare).decode()}
    assert judge([forged], [ada]).state == "altered"


def test_a_key_may_be_trusted_for_a_registry_or_for_everything(key):
    good = [trust.sign(key, MANIFEST)]
    for_registry = trust.Trusted(key.public, "", [], ["https://models.example.org"])
    place = "https://models.example.org"
    assert judge(good, [for_registry], registry=place).state == "trusted"
    assert judge(good, [for_registry], registry=f"{place}.evil").state == "wrong-namespace"
    assert judge(good, [for_registry]).state == "wrong-namespace"
    assert judge(good, [trust.Trusted(key.public, "", ["*"])], namespace="x").state == "trusted"


# --- weak keys ------------------------------------------------------------------------

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P


def plus(a, b):
    """The sum of two points of the curve."""
    (x1, y1), (x2, y2) = a, b
    k = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + k, P - 2, P) % P
    return x, (y1 * y2 + x1 * x2) * pow(1 - k, P - 2, P) % P


def point(y):
    """A point with that y, or None."""
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return None if (x * x - square) % P else (x, y)


def test_the_keys_that_fit_many_messages_are_refused_in_every_spelling():
    """The order of each refused point divides 8, and there are exactly five such y."""
    from axon_client.trust.encoding import _WEAK

    found = {int.from_bytes(raw, "little") % P for raw in _WEAK}
    assert len(found) == 5
    for y in found:
        total = point(y)
        for _ in range(3):
            total = plus(total, total)
        assert total == (0, 1)
    for raw in _WEAK:
        for spelled in (raw, raw[:-1] + bytes([raw[-1] | 0x80])):
            with pytest.raises(InvalidInput, match="weak"):
                key_bytes(key_text(spelled))


# --- files ----------------------------------------------------------------------------


def test_a_private_key_is_for_its_owner_alone(home, key):
    path = home / "keys" / "ada.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert trust.load_key("ada").public == key.public
    assert key.public in repr(key)
    path.chmod(0o644)
    with pytest.raises(PermissionDenied, match="others can read"):
        trust.load_key("ada")


def test_a_key_is_never_overwritten(key):
    with pytest.raises(AlreadyExists, match="'ada'"):
        trust.generate("ada")
    assert trust.load_key("ada").public == key.public


@pytest.mark.parametrize("name", ["../ada", "", "a/b", ".ada", "a" * 65])
def test_a_keys_name_is_no_path(home, name):
    with pytest.raises(InvalidInput):
        trust.generate(name)


def test_a_missing_key_names_those_that_there_are(key):
    with pytest.raises(NotFound) as caught:
        trust.load_key("eve")
    assert "ada" in caught.value.hint


def test_a_passphrase_protects_a_key(home, monkeypatch):
    public = trust.generate("safe", passphrase="open sesame").public
    assert b"ENCRYPTED" in (home / "keys" / "safe.pem").read_bytes()
    with pytest.raises(PermissionDenied, match="needed"):
        trust.load_key("safe")
    with pytest.raises(PermissionDenied, match="wrong"):
        trust.load_key("safe", ask=lambda: "guess")
    assert trust.load_key("safe", ask=lambda: "open sesame").public == public
    monkeypatch.setenv("AXON_KEY_PASSPHRASE", "open sesame")
    assert trust.load_key("safe").public == public


def test_a_damaged_key_or_one_of_another_kind_is_refused(home, key):
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey

    path = home / "keys" / "ada.pem"
    other = Ed448PrivateKey.generate().private_bytes(
        forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption()
    )
    for data in (b"", b"junk", path.read_bytes()[:60], other):
        path.write_bytes(data)
        with pytest.raises(InvalidInput, match=r"ada\.pem"):
            trust.load_key("ada")


def test_trust_grows_by_scope_and_ends_by_name(key):
    trust.add(trust.Trusted(key.public, "Ada", ["ada"]))
    entry = trust.add(trust.Trusted(key.public, "", ["lovelace"], ["https://r.example"]))
    assert trust.trusted() == [entry]
    assert entry == trust.Trusted(key.public, "Ada", ["ada", "lovelace"], ["https://r.example"])
    with pytest.raises(NotFound, match="'Bob'") as caught:
        trust.remove("Bob")
    assert "Ada" in caught.value.hint
    trust.remove("Ada")
    assert trust.trusted() == []


def test_trust_without_a_scope_or_with_a_name_that_is_taken_is_refused(key):
    with pytest.raises(InvalidInput, match="may sign for"):
        trust.add(trust.Trusted(key.public))
    with pytest.raises(InvalidInput, match="namespace"):
        trust.add(trust.Trusted(key.public, "", ["a/b"]))
    trust.add(trust.Trusted(key.public, "Ada", ["ada"]))
    with pytest.raises(InvalidInput, match="'Ada'"):
        trust.add(trust.Trusted(trust.generate("eve").public, "Ada", ["eve"]))


@pytest.mark.parametrize("text", ["{", "[1]", '[{"key": "ed25519:x", "namespaces": []}]', "\xff"])
def test_a_damaged_list_of_trusted_keys_trusts_nobody(home, key, text):
    (home / ring.FILE_NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"trust\.json"):
        trust.check(MANIFEST, [trust.sign(key, MANIFEST)], "ada", "require")


# --- beside an installed package ------------------------------------------------------


def test_kept_signatures_are_checked_again_against_what_is_installed(key, ada):
    kept = trust.keep(MANIFEST, [trust.sign(key, MANIFEST)])
    installed = manifests.decode(MANIFEST)
    assert trust.check_kept(kept, installed, trusted=[ada]).state == "trusted"
    renamed = msgspec.structs.replace(
        installed, metadata=msgspec.structs.replace(installed.metadata, namespace="mine")
    )
    assert trust.check_kept(kept, renamed, trusted=[ada]).state == "trusted"
    assert trust.check_kept(b"", installed, trusted=[ada]).state == "unsigned"
    assert trust.check_kept(b"{}", installed, trusted=[ada]).state == "malformed"
    assert trust.check_kept(kept, installed, "off", trusted=[ada]).state == "off"
    assert trust.check_kept(kept, installed, trusted=[]).state == "unknown-key"


def test_an_installed_manifest_that_was_changed_is_altered(key, ada):
    kept = trust.keep(MANIFEST, [trust.sign(key, MANIFEST)])
    for before, after in [(A, B), ("config.json", "other.json"), ("size: 17", "size: 18")]:
        changed = manifests.decode(MANIFEST.decode().replace(before, after).encode())
        verdict = trust.check_kept(kept, changed, trusted=[ada])
        assert verdict.state == "altered"
        assert "what was signed" in verdict.message
    tampered = trust.keep(MANIFEST.replace(A.encode(), B.encode()), [trust.sign(key, MANIFEST)])
    same = manifests.decode(MANIFEST.replace(A.encode(), B.encode()))
    assert trust.check_kept(tampered, same, trusted=[ada]).state == "altered"


def test_what_a_source_gave_is_held_against_what_it_published(key):
    kept = trust.keep(MANIFEST, [trust.sign(key, MANIFEST)])
    trust.check_same(kept, manifests.decode(MANIFEST))
    other = manifests.decode(MANIFEST.replace(A.encode(), B.encode()))
    with pytest.raises(IntegrityError, match=r"model\.onnx has another digest"):
        trust.check_same(kept, other)


def test_a_pickled_package_cannot_be_made_to_look_harmless(key, ada):
    pickled = MANIFEST.replace(b"type: onnx", b"pickled: true")
    kept = trust.keep(pickled, [trust.sign(key, pickled)])
    harmless = manifests.decode(pickled.replace(b"    pickled: true\n", b""))
    assert trust.check_kept(kept, harmless, trusted=[ada]).state == "altered"


# --- commands -------------------------------------------------------------------------


def run(capfd, *arguments):
    code = cli.run([*arguments, "--json"])
    return code, json.loads(capfd.readouterr().out)


def test_a_key_is_made_trusted_listed_and_removed_by_commands(home, capfd, tmp_path):
    code, made = run(capfd, "keygen", "--name", "work")
    assert code == 0
    assert trust.load_key("work").public == made["public"]
    (tmp_path / "work.pub").write_text(made["public"] + "\n")
    code, entry = run(
        capfd, "trust", "add", str(tmp_path / "work.pub"), "--namespace", "ada", "--name", "Ada"
    )
    assert (code, entry["namespaces"]) == (0, ["ada"])
    assert run(capfd, "trust", "list") == (0, [entry])
    assert run(capfd, "trust", "remove", "Ada")[0] == 0
    assert run(capfd, "trust", "list") == (0, [])


def test_a_key_is_trusted_for_a_registrys_place_not_for_its_name(home, capfd, key):
    home.mkdir(exist_ok=True)
    (home / "config.yaml").write_text("registries: {hub: {url: 'https://models.example.org'}}")
    code, entry = run(capfd, "trust", "add", key.public, "--registry", "hub")
    assert (code, entry["registries"]) == (0, ["https://models.example.org"])
    code, answer = run(capfd, "trust", "add", key.public, "--registry", "hup")
    assert code == NotFound.exit_code
    assert "hub" in answer["error"]["hint"]


def test_commands_refuse_what_is_no_key(home, capfd):
    for text in ("nothing", "ed25519:" + "A" * 43 + "=", "ed25519:x"):
        code, answer = run(capfd, "trust", "add", text, "--namespace", "ada")
        assert (code, answer["error"]["code"]) == (InvalidInput.exit_code, "invalid_input")


def test_keygen_takes_a_passphrase_from_the_environment(home, capfd, monkeypatch):
    monkeypatch.setenv("AXON_KEY_PASSPHRASE", "s")
    assert run(capfd, "keygen")[0] == 0
    monkeypatch.delenv("AXON_KEY_PASSPHRASE")
    with pytest.raises(PermissionDenied):
        trust.load_key()
    assert b"ENCRYPTED" in (home / "keys" / "default.pem").read_bytes()


def test_keygen_asks_for_a_passphrase_twice_and_shows_neither_it_nor_the_key(home):
    asked = CliRunner().invoke(keygen, ["--passphrase", "--json"], input="sesame\nsesame\n")
    assert asked.exit_code == 0
    assert json.loads(asked.stdout)["public"] == trust.load_key(ask=lambda: "sesame").public
    assert "sesame" not in asked.output
    assert "PRIVATE" not in asked.output
    different = ["--passphrase", "--name", "two"]
    assert CliRunner().invoke(keygen, different, input="one\ntwo\n").exit_code != 0
    assert not (home / "keys" / "two.pem").exists()
