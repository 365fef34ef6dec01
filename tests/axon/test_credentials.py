# SPDX-License-Identifier: BUSL-1.1
import base64
import stat

import pytest

from axon_client import config_file, credentials
from axon_client.credentials import Credential
from mlos_core.errors import ConfigError, InvalidInput

HUB = "https://hub.example.org/registry"


def test_a_token_goes_to_its_own_scheme_host_and_port_alone(home):
    credentials.keep(HUB, Credential("secret"), home)
    bearer = {"Authorization": "Bearer secret"}
    assert credentials.headers_for("https://hub.example.org/other", home, {}) == bearer
    assert credentials.headers_for("https://HUB.example.org:443/", home, {}) == bearer
    for other in (
        "http://hub.example.org/",
        "https://hub.example.org:8443/",
        "https://example.org/",
        "https://hub.example.org.evil.example/",
        "https://evil.example/hub.example.org",
        "https://hub.example.org@evil.example/",
    ):
        assert credentials.headers_for(other, home, {}) == {}


def test_the_file_is_its_owners_alone(home):
    credentials.keep(HUB, Credential("secret"), home)
    path = home / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    credentials.find(HUB, home, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_forgotten_token_is_gone(home):
    credentials.keep(HUB, Credential("secret"), home)
    assert credentials.forget(HUB, home)
    assert not credentials.forget(HUB, home)
    assert credentials.find(HUB, home, {}) is None
    assert "secret" not in (home / "credentials.json").read_text()


def test_the_variable_is_for_the_default_registry_only(home):
    def two(values):
        values["registries"] = {"a": {"url": "https://a.org"}, "b": {"url": "https://b.org"}}
        values["default_registry"] = "a"

    config_file.edit(home, two)
    environ = {"AXON_TOKEN": "fromoutside"}
    assert credentials.find("https://a.org/x", home, environ) == Credential("fromoutside")
    assert credentials.find("https://b.org/x", home, environ) is None
    credentials.keep("https://a.org", Credential("kept"), home)
    assert credentials.find("https://a.org", home, environ).token == "fromoutside"


def test_a_user_name_makes_it_a_password(home):
    credentials.keep("oci://ghcr.example.org/org", Credential("secret", "me"), home)
    header = credentials.headers_for("https://ghcr.example.org/v2/", home, {})["Authorization"]
    assert base64.b64decode(header.removeprefix("Basic ")) == b"me:secret"


def test_a_token_is_never_printed():
    assert "secret" not in repr(Credential("secret", "me"))
    assert "secret" not in f"{Credential('secret')}"


@pytest.mark.parametrize("token", ["", "two words", "line\nend", "tab\t", "nö"])
def test_what_cannot_be_a_header_is_no_token(home, token):
    with pytest.raises(InvalidInput):
        credentials.keep(HUB, Credential(token), home)


@pytest.mark.parametrize("url", ["hub", "ftp://a", "https://", "https://a:port/", "https://[x/"])
def test_what_has_no_host_has_no_credentials(home, url):
    with pytest.raises(InvalidInput):
        credentials.origin(url)


@pytest.mark.parametrize("text", ["{", '{"https://a:443": {}}', '{"a": {"token": "x", "y": 1}}'])
def test_a_damaged_file_says_what_to_do(home, text):
    home.mkdir()
    (home / "credentials.json").write_text(text)
    with pytest.raises(ConfigError, match="log in again"):
        credentials.find(HUB, home, {})


@pytest.mark.parametrize(
    ("url", "private"),
    [("https://a", True), ("http://127.0.0.1:1", True), ("http://localhost", True),
     ("http://a.example.org", False)],
)  # fmt: skip
def test_what_is_sent_in_the_clear_is_known(url, private):
    assert credentials.is_private(url) == private
