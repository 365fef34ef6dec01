# SPDX-License-Identifier: BUSL-1.1
"""Who is told what: credentials, redirects, proxies, certificates."""

import base64
import hashlib
import os

import msgspec
import pytest
from web import Reply, Web

from axon_client import credentials, net
from axon_client.adapters.base import RemoteFile
from axon_client.net import access
from axon_client.net.faults import Unusable
from axon_client.progress import silent
from mlos_core.errors import InvalidInput, PermissionDenied, ProtocolError, Unavailable, Unsupported

DATA = bytes(range(256)) * 1000


class Hasty(net.Clock):
    def sleep(self, seconds, stop=None):
        pass


@pytest.fixture(autouse=True)
def _plain(home, tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def web():
    with Web({"/f": DATA}) as web:
        yield web


@pytest.fixture
def other():
    with Web({"/f": DATA, "/signed": DATA}) as web:
        yield web


@pytest.fixture
def options():
    return net.Options(part_bytes=16 << 10, clock=Hasty(), stall_s=5)


def fetch(tmp_path, options, *urls, **fields):
    file = RemoteFile("f", urls, len(DATA), hashlib.sha256(DATA).hexdigest(), **fields)
    return net.download(tmp_path / "target", file, silent, options)


def shown(web):
    """What the server was shown of a user, request by request."""
    return [request.headers.get("authorization") for request in web.log]


def login(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def to(location, status=302):
    return lambda request, reply: Reply(status, {"Location": location})


def test_a_token_goes_to_its_host_and_not_where_a_redirect_leads(web, other, tmp_path, options):
    credentials.keep(web.url("/"), credentials.Credential("secret"))
    web.behave = to(other.url("/signed?key=1"))
    other.files["/signed?key=1"] = DATA
    fetch(tmp_path, options, web.url("/f"))
    assert set(shown(web)) == {"Bearer secret"}
    assert set(shown(other)) == {None}


def test_a_callers_headers_stay_at_the_first_host_too(web, other, tmp_path, options):
    web.behave = to(other.url("/f"))
    headers = (("Authorization", "Bearer own"), ("X-Secret", "s"), ("Accept", "a/b"))
    fetch(tmp_path, options, web.url("/f"), headers=headers)
    assert web.log[0].headers["x-secret"] == "s"
    assert set(shown(web)) == {"Bearer own"}
    assert all("x-secret" not in request.headers for request in other.log)
    assert all(request.headers["accept"] == "a/b" for request in other.log)
    assert set(shown(other)) == {None}


def test_a_mirror_is_not_shown_what_was_meant_for_the_source(web, other, tmp_path, options):
    web.behave = lambda request, reply: Reply(404, {})
    headers = (("Authorization", "Bearer own"),)
    fetch(tmp_path, options, web.url("/f"), other.url("/f"), headers=headers)
    assert set(shown(other)) == {None}


def test_where_a_redirect_leads_is_asked_directly_for_further_ranges(web, other, tmp_path, options):
    web.behave = to(other.url("/signed"))
    fetch(tmp_path, msgspec.structs.replace(options, parallel=1), web.url("/f"))
    assert len(web.log) == 1
    assert len(other.log) > 3


def test_an_address_that_expires_is_asked_for_again(web, other, tmp_path, options):
    web.behave = to(other.url("/signed"))
    other.behave = lambda request, reply: Reply(403, {}) if len(other.log) == 3 else None
    fetch(tmp_path, msgspec.structs.replace(options, parallel=1), web.url("/f"))
    assert len(web.log) == 2


def test_redirects_are_bounded(web, tmp_path, options):
    web.behave = to(web.url("/f"))
    with pytest.raises(ProtocolError, match="more than 10 times"):
        fetch(tmp_path, options, web.url("/f"))
    assert len(web.log) == 11


@pytest.mark.parametrize(
    "location", ["ftp://h/f", "file:///etc/passwd", "http://h:99999/", "http://[x"]
)
def test_redirects_lead_to_the_web_or_nowhere(web, tmp_path, options, location):
    web.behave = to(location)
    with pytest.raises(ProtocolError, match="no URL"):
        fetch(tmp_path, options, web.url("/f"))


def test_no_redirect_leads_out_of_https():
    with pytest.raises(Unusable, match="https to http"):
        access.redirected("https://a.example/f", "http://a.example/f")
    assert access.redirected("https://a.example/x/f", "../g") == "https://a.example/g"
    assert access.redirected("http://a.example/f", "https://b.example/") == "https://b.example/"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/f",
        "file:///f",
        "http:///f",
        "http://h:x/",
        "h/f",
        "http://h/a b",
        "http://h/\n",
        "http://127.0.0.1\\.h/",
    ],
)
def test_what_is_no_url_is_refused(tmp_path, options, url):
    with pytest.raises(InvalidInput):
        fetch(tmp_path, options, url)


def test_netrc_is_honoured_for_its_hosts_alone(web, tmp_path, options):
    path = tmp_path / "netrc"
    path.write_text(
        "machine 127.0.0.1 login ada password lovelace\ndefault login all password all\n"
    )
    path.chmod(0o600)
    net.get_bytes(web.url("/f"), len(DATA), options=options)
    net.get_bytes(web.url("/f", host="localhost"), len(DATA), options=options)
    assert shown(web) == [login("ada", "lovelace"), None]
    path.write_text("machine\n")
    net.get_bytes(web.url("/f"), len(DATA), options=options)
    assert shown(web)[-1] is None


def test_a_login_in_the_url_is_sent_as_a_header_and_shown_nowhere(web, options):
    url = web.url("/f").replace("http://", "http://ada:love%40lace@")
    net.get_bytes(url, len(DATA), options=options)
    assert shown(web) == [login("ada", "love@lace")]
    assert "love" not in web.log[0].path + web.log[0].headers["host"]
    web.behave = lambda request, reply: Reply(401, {})
    with pytest.raises(PermissionDenied) as caught:
        net.get_bytes(url, len(DATA), options=options)
    assert "love" not in str(caught.value)
    assert "axon registry login" in caught.value.hint


def test_proxies_of_the_environment_are_asked_in_the_place_of_the_host(
    web, tmp_path, options, monkeypatch
):
    url = "http://models.example.invalid/f"
    web.files[url] = DATA
    monkeypatch.setenv("http_proxy", web.url("").replace("http://", "http://p:w@"))
    fetch(tmp_path, options, url)
    assert all(request.path == url for request in web.log)
    assert all(r.headers["proxy-authorization"] == login("p", "w") for r in web.log)
    assert all("authorization" not in request.headers for request in web.log)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert access.proxy_for(web.url("/f")) == ""


def test_a_proxy_of_an_unknown_kind_is_refused(monkeypatch):
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(Unsupported, match="socks5"):
        access.proxy_for("https://models.example.org/")


def test_nobody_there_is_said_after_few_attempts(options):
    with Web() as web:
        url = web.url("/f")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        net.get_bytes(url, 10, options=options)


def test_a_proxy_that_is_not_there_is_said_in_plain_words(options, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="the proxy for") as caught:
        net.get_bytes("https://models.example.invalid/f", 10, options=options)
    assert "host=" not in caught.value.message
    assert "NO_PROXY" in caught.value.hint


@pytest.fixture
def certificate(tmp_path):
    """A key and a certificate for 127.0.0.1 that nobody trusts yet."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "cert.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_certificates_are_verified(certificate, tmp_path, options, monkeypatch):
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with Web({"/f": DATA}, certificate=certificate) as web:
        with pytest.raises(Unavailable, match="certificate"):
            fetch(tmp_path, options, web.url("/f"))
        assert web.log == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        fetch(tmp_path, options, web.url("/f"))
    assert (tmp_path / "target").read_bytes() == DATA
