"""Contexts from files, their exchange, and which user a client certificate names: without a socket."""

from __future__ import annotations

import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from aldis.broker.amqtt_session import ConnectorSession
from aldis.broker.config_command import check
from aldis.broker.tls import Certificates, ServerTls, TlsError, certificate_user, make_context
from aldis.broker.tls_dev import main, make_authority
from aldis.config.entrance import Tls
from aldis.plugins.authentication import TokenAuthentication
from aldis.plugins.certificate import CertificateAuthentication, vouched
from tests.secure import Papers
from tests.unit.broker import lab
from tests.unit.broker.chat import chatting


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


def settings(papers: Papers, **more: object) -> Tls:
    return Tls.model_validate({"certfile": papers.certfile, "keyfile": papers.keyfile, **more})


def asking(papers: Papers, form: str = "common_name") -> Tls:
    return settings(papers, client_ca_file=papers.ca, client_certificates="optional", client_certificate_user=form)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """The server's side of a finished handshake."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(up, down, server_side=True)
    theirs = client.wrap_bio(down, up, server_hostname="localhost")
    for _ in range(4):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return ours


# Contexts


def test_what_a_context_allows(papers: Papers) -> None:
    context = make_context("listeners.default.tls", settings(papers))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION and context.options & ssl.OP_NO_COMPRESSION
    assert context.verify_mode is ssl.CERT_NONE
    old = [cipher for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert old and all(cipher["aead"] and cipher["name"].startswith("ECDHE-") for cipher in old)
    strict = make_context("x", settings(papers, minimum_version="1.3"))
    assert strict.minimum_version is ssl.TLSVersion.TLSv1_3


def test_only_the_authorities_of_the_file_are_trusted(papers: Papers) -> None:
    context = make_context("x", asking(papers))
    (authority,) = context.get_ca_certs()
    assert "Aldis development CA" in str(authority["subject"])


def test_what_cannot_be_used_is_named(papers: Papers, tmp_path: Path) -> None:
    other, nothing, locked = tmp_path / "other.key", tmp_path / "nothing", tmp_path / "locked.key"
    pair = make_authority()
    other.write_bytes(pair.key_pem())
    nothing.write_bytes(b"nothing of the kind")
    locked.write_bytes(
        pair.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"phrase"),
        )
    )
    for path in (other, nothing, locked):
        path.chmod(0o600)
    for wrong, complaint in (
        ({"keyfile": other}, r"^k\.keyfile: .*other\.key is not the key of the certificate in "),
        ({"keyfile": nothing}, r"^k\.keyfile: no PEM key in "),
        ({"keyfile": locked}, r"^k\.keyfile: must not be protected by a pass phrase"),
        ({"keyfile": tmp_path / "gone"}, r"^k\.keyfile: there is no file "),
        ({"certfile": nothing}, r"^k\.certfile: no PEM certificate in "),
        ({"client_ca_file": nothing, "client_certificates": "required"}, r"^k\.client_ca_file: no certificates in "),
    ):
        with pytest.raises(TlsError, match=complaint):
            make_context("k", settings(papers, **wrong))


def test_config_check_tries_the_pair(papers: Papers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.key"
    other.write_bytes(make_authority().key_pem())
    other.chmod(0o600)
    for key, code in ((papers.keyfile, 0), (other, 2)):
        tls = {"tls": {"certfile": papers.certfile, "keyfile": key}}
        assert check("lab", {"listeners": {"default": tls}}) == code
    assert "listeners.default.tls.keyfile: " in capsys.readouterr().err


# Exchange


def test_files_are_looked_at_once_per_interval_and_read_once_per_change(tmp_path: Path) -> None:
    papers, certificates = Papers(tmp_path), Certificates()
    tls = certificates.add("k", settings(papers, reload_interval=10.0))
    first = tls.context
    certificates.look(100.0)
    assert tls.context is first
    papers.renew()
    certificates.look(109.9)
    assert tls.context is first
    certificates.look(110.0)
    second = tls.context
    assert second is not first
    certificates.look(120.0)
    assert tls.context is second


def test_a_bad_pair_is_complained_of_once_and_the_old_one_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    papers = Papers(tmp_path)
    tls = ServerTls("k", settings(papers, reload_interval=1.0))
    good = tls.context
    papers.put(papers.certfile.read_bytes(), make_authority().key_pem())
    for now in range(5):
        tls.look(float(now))
    assert tls.context is good
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    papers.keyfile.unlink()
    tls.look(10.0)
    assert tls.context is good and "there is no file" in caplog.records[-1].getMessage()
    papers.renew()
    tls.look(20.0)
    assert tls.context is not good


def test_each_is_reloaded_for_itself(tmp_path: Path) -> None:
    good, bad = Papers(tmp_path / "good"), Papers(tmp_path / "bad")
    certificates = Certificates()
    bad_tls, good_tls = certificates.add("bad", settings(bad)), certificates.add("good", settings(good))
    before = bad_tls.context, good_tls.context
    bad.certfile.unlink()
    assert certificates.reload() is False
    assert bad_tls.context is before[0] and good_tls.context is not before[1]


# Whose certificate it is


@pytest.mark.parametrize(
    ("form", "common_name", "names", "user"),
    [
        ("common_name", "ann", [], "ann"),
        ("common_name", "a" * 64, [], "a" * 64),
        ("common_name", "ann/#", [], ""),
        ("common_name", "ann\n", [], ""),
        ("common_name", "änn", [], ""),
        ("common_name", "ann", [x509.RFC822Name("ben@example.org")], "ann"),
        ("email:*@example.org", "ann", [], ""),
        ("email:*@example.org", "x", [x509.RFC822Name("ann@example.org")], "ann"),
        ("email:*@example.org", "x", [x509.RFC822Name("ann@example.org.evil.com")], ""),
        ("email:*@example.org", "x", [x509.RFC822Name("ann+ben@example.org")], ""),
        ("email:*@example.org", "x", [x509.UniformResourceIdentifier("ann@example.org")], ""),
        ("email:*@example.org", "x", [x509.RFC822Name("@example.org")], ""),
        ("uri:urn:u:*", "x", [x509.UniformResourceIdentifier("urn:u:ann")], "ann"),
        ("uri:urn:u:*", "x", [x509.DNSName("urn:u:ann")], ""),
        (
            "uri:urn:u:*",
            "x",
            [x509.UniformResourceIdentifier("urn:v:eve"), x509.UniformResourceIdentifier("urn:u:ann")],
            "ann",
        ),
        (
            "uri:urn:u:*",
            "x",
            [x509.UniformResourceIdentifier("urn:u:ann/#"), x509.UniformResourceIdentifier("urn:u:ben")],
            "",  # the first of the form decides, and this is no user id
        ),
    ],
)
def test_whom_a_certificate_names(
    papers: Papers, form: str, common_name: str, names: list[x509.GeneralName], user: str
) -> None:
    client = papers.context(papers.client(common_name, *names))
    assert certificate_user(handshake(make_context("k", asking(papers, form)), client)) == user


def test_nobody_is_named_without_a_certificate_that_was_verified(papers: Papers) -> None:
    with_one, without = papers.context(papers.client("ann")), papers.context()
    assert certificate_user(handshake(make_context("k", asking(papers)), without)) is None
    assert certificate_user(handshake(make_context("k", settings(papers)), with_one)) is None
    foreign = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # somebody else's TLS: nobody said how it names users
    foreign.load_cert_chain(papers.certfile, papers.keyfile)
    foreign.load_verify_locations(papers.ca)
    foreign.verify_mode = ssl.CERT_REQUIRED
    assert certificate_user(handshake(foreign, with_one)) is None
    assert certificate_user(None) is None


def session_of(papers: Papers, name: str | None, username: str | None, password: str | None) -> ConnectorSession:
    session = ConnectorSession()
    session.username, session.password, session.client_id = username, password, "phone"
    context = papers.context(None if name is None else papers.client(name))
    session.ssl_object = handshake(make_context("k", asking(papers)), context)
    return session


@pytest.mark.parametrize(
    ("name", "username", "verdict", "then"),
    [
        ("ann", "ann", True, "ann"),
        ("ann", None, True, "ann"),
        ("ann", "ben", False, "ben"),
        ("ann", "", False, ""),
        ("ann", "ANN", False, "ANN"),
        ("a/#", "a/#", False, "a/#"),
        ("a/#", None, False, None),
        (None, "ann", None, "ann"),
        (None, None, None, None),
    ],
)
async def test_what_a_certificate_says_of_a_connect(
    papers: Papers, name: str | None, username: str | None, verdict: bool | None, then: str | None
) -> None:
    session = session_of(papers, name, username, None)
    assert vouched(session) is verdict
    assert session.username == then
    async with lab.running() as other:  # the lab profile: there are no accounts to ask
        plugin = CertificateAuthentication(other.connector.plugins_manager.context)
        assert await plugin.authenticate(session=session) is verdict


@pytest.mark.parametrize(
    ("name", "username", "password", "token", "certificate"),
    [
        ("ann", "ann", None, None, True),
        ("ann", None, None, None, True),
        ("ann", "ben", None, False, False),
        ("ann", "ann", "wrong", False, True),
        ("ann", "ann", "", False, True),
        ("nobody", "nobody", None, None, False),  # no such account
        (None, "ann", None, False, None),
        (None, "ann", "wrong", False, None),
        (None, None, None, False, None),
    ],
)
async def test_both_plugins_together(
    papers: Papers,
    name: str | None,
    username: str | None,
    password: str | None,
    token: bool | None,
    certificate: bool | None,
) -> None:
    """All that have an opinion must agree, and one must have one: each row but the first two is refused."""
    async with chatting(("ann", "ben")) as chat:
        context = chat.connector.plugins_manager.context
        asked = (TokenAuthentication(context), token), (CertificateAuthentication(context), certificate)
        for plugin, opinion in asked:
            assert await plugin.authenticate(session=session_of(papers, name, username, password)) is opinion


# aldis tls dev


def test_the_development_certificates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new"
    assert main(["dev", "--out", str(folder), "--host", "server.lan", "10.1.2.3", "--client", "ann"]) == 0
    said = capsys.readouterr().out
    assert f"--cafile {folder}/ca.pem" in said and f"certfile: {folder}/server.pem" in said
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {
        "ca.pem": 0o644,
        "server.pem": 0o644,
        "server.key": 0o600,
        "client-ann.pem": 0o644,
        "client-ann.key": 0o600,
    }
    certificate = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["server.lan", "localhost"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.1.2.3", "127.0.0.1", "::1"]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=366)

    tls = Tls(
        certfile=folder / "server.pem",
        keyfile=folder / "server.key",
        client_ca_file=folder / "ca.pem",
        client_certificates="required",
    )
    client = ssl.create_default_context(cafile=folder / "ca.pem")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(folder / "client-ann.pem", folder / "client-ann.key")
    assert certificate_user(handshake(make_context("k", tls), client)) == "ann"


def test_a_key_in_use_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dev", "--out", str(tmp_path)]) == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["dev", "--out", str(tmp_path)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
