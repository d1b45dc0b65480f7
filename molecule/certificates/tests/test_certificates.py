"""A host certificate as role certificates leaves it, and what a run does about changes made by hand."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from own_ca import OwnCa

testinfra_hosts = ["ansible://scratch"]

NAME = "mol-certificates"
# Every signature differs; check mode creates no key.
SIGNED = r"(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----|to be signed"


def test_the_system_trusts_the_certificate(host):
    assert host.run("openssl verify /etc/ssl/distcloud/web.pem").rc == 0


def test_certificate_has_the_requested_names(host):
    text = host.check_output("openssl x509 -in /etc/ssl/distcloud/web.pem -noout -ext subjectAltName")
    assert "DNS:mol-certificates.distcloud.lab" in text
    assert "IP Address:" in text


@pytest.mark.security
@pytest.mark.parametrize(("name", "usage"), [("web", "TLS Web Server Authentication"), ("spare", "TLS Web Client Authentication")])
def test_certificate_has_one_usage(host, name, usage):
    text = host.check_output(f"openssl x509 -in /etc/ssl/distcloud/{name}.pem -noout -ext extendedKeyUsage")
    assert text.splitlines()[1:] == [f"    {usage}"]


@pytest.mark.security
def test_key_matches_certificate_and_is_private(host):
    for path in ("/etc/ssl/distcloud/web", "/etc/ssl/distcloud/spare"):
        key = host.file(f"{path}.key")
        assert (key.user, key.group, key.mode) == ("root", "ssl-readers", 0o640)
        of_key = host.check_output(f"openssl pkey -in {path}.key -pubout")
        assert host.check_output(f"openssl x509 -in {path}.pem -noout -pubkey") == of_key


def test_drift_is_predicted_and_repaired(host, converge):
    host.check_output("cd /etc/ssl/distcloud; chmod 0644 web.key; echo broken > web.pem; chown nobody web.pem")
    host.check_output("rm /usr/local/share/ca-certificates/distcloud-*.crt /etc/ssl/distcloud/spare.key; update-ca-certificates --fresh")
    certificate = [f"{NAME}: Create the private key", f"{NAME}: Write the certificate"]
    assert converge.repairs_drift(again=SIGNED) == [
        f"{NAME}: Write the trust anchor",
        f"{NAME}: Update the system's CA bundle",
        *certificate,  # of web: mode, owner and text
        *certificate,  # of spare, both recreated
    ]
    test_key_matches_certificate_and_is_private(host)


def test_expiring_certificate_is_renewed_with_its_key(host, converge):
    key = host.check_output("sha256sum /etc/ssl/distcloud/web.key")
    serial = host.check_output("openssl x509 -in /etc/ssl/distcloud/web.pem -noout -serial")
    renewed = converge.run(certificates_renew_days=396, certificates_days=397)
    assert not renewed.failures
    assert renewed.changed == []
    renewed = converge.run(certificates_renew_days=398, certificates_days=400)
    assert renewed.changed == [f"{NAME}: Write the certificate"] * 2
    assert host.check_output("openssl x509 -in /etc/ssl/distcloud/web.pem -noout -serial") != serial
    assert host.check_output("sha256sum /etc/ssl/distcloud/web.key") == key
    assert host.run("openssl verify /etc/ssl/distcloud/web.pem").rc == 0


PROVIDED = {"name": "provided", "sans": ["DNS:provided.example"], "group": "ssl-readers", "mode": "0640"}


@pytest.mark.long
def test_admins_files_are_installed_and_trusted(host, converge, tmp_path):
    ca = OwnCa(tmp_path / "own")
    anchor = "/usr/local/share/ca-certificates/mol-own.crt"
    variables = {
        "certificates_ca_certificate": str(ca.certificate),
        "certificates_anchor_name": "mol-own",
        "certificates_list": [PROVIDED],
        "certificates_files": {"provided": ca.files("provided", "provided.example")},
    }
    try:
        assert converge.repairs_drift(**variables) == [
            f"{NAME}: Write the trust anchor",
            f"{NAME}: Update the system's CA bundle",
            f"{NAME}: Copy the admin's private key",
            f"{NAME}: Write the certificate",
        ]
        key, certificate = (host.file(f"/etc/ssl/distcloud/provided.{kind}") for kind in ("key", "pem"))
        assert (key.user, key.group, key.mode) == ("root", "ssl-readers", 0o640)
        assert (certificate.user, certificate.group, certificate.mode) == ("root", "root", 0o644)
        assert host.run(f"openssl verify -untrusted {certificate.path} {certificate.path}").rc == 0
        assert host.file(anchor).content_string == ca.certificate.read_text()
        assert converge.run(**variables).changed == []
    finally:
        host.check_output(f"rm -f {anchor} /etc/ssl/distcloud/provided.*; update-ca-certificates --fresh")


@pytest.mark.security
def test_mismatching_admin_files_are_refused(host, converge, tmp_path):
    ca, before = OwnCa(tmp_path / "own"), host.check_output("ls -l --time-style=full-iso /etc/ssl/distcloud")
    files, foreign = ca.files("provided", "provided.example"), ca.files("foreign", "provided.example")
    variables = {"certificates_ca_certificate": str(ca.certificate), "certificates_list": [PROVIDED]}
    message = converge.refuses(**variables, certificates_files={"provided": {**files, "key_file": foreign["key_file"]}})
    assert 'Certificate "provided": key_file' in message
    assert "does not match certificate_file" in message
    assert "certificates_files.provided" in converge.refuses(**variables)
    assert host.check_output("ls -l --time-style=full-iso /etc/ssl/distcloud") == before


@pytest.mark.security
@pytest.mark.long
def test_passphrase_encrypts_the_ca_key(host, converge, tmp_path):
    variables = {
        "certificates_ca_dir": str(tmp_path / "ca"),
        "certificates_ca_passphrase": "only of this test",
        "certificates_install_anchor": False,
        "certificates_list": [{"name": "phrase", "sans": ["DNS:phrase.example"]}],
    }
    try:
        assert not converge.run(**variables).failures
        key = tmp_path / "ca" / "ca.key"
        assert key.stat().st_mode & 0o777 == 0o600
        with pytest.raises(TypeError):
            load_pem_private_key(key.read_bytes(), None)
        made = key.read_bytes()
        assert load_pem_private_key(made, b"only of this test")
        assert host.file("/etc/ssl/distcloud/phrase.pem").exists
        assert converge.run(**variables).changed == []
        for mistaken in ("another", ""):
            assert "certificates_ca_passphrase must be the one" in converge.refuses(**{**variables, "certificates_ca_passphrase": mistaken})
            assert key.read_bytes() == made
    finally:
        host.check_output("rm -f /etc/ssl/distcloud/phrase.*")


@pytest.mark.fault
@pytest.mark.long
def test_interrupted_reload_is_completed(host, converge):
    """The files are as configured and newer than a unit's start, as an interrupted run leaves them before its handlers."""
    units = [f"mol-{name}.service" for name in ("behind", "fresh", "absent")]
    variables = {"certificates_list": [{"name": "cut", "sans": ["DNS:cut.example"], "units": units}]}
    start = "systemd-run --unit=mol-{0} --property='ExecReload=/bin/touch /run/mol-{0}-reloaded' sleep infinity"
    try:
        host.check_output(start.format("behind"))
        assert not converge.run(**variables).failures
        host.check_output("rm /run/mol-behind-reloaded; touch --date=@$(($(date +%s) + 1)) /etc/ssl/distcloud/cut.pem")
        host.check_output("until [ $(date +%s) -ge $(stat --format=%Y /etc/ssl/distcloud/cut.pem) ]; do sleep 0.1; done")
        host.check_output(start.format("fresh"))
        assert converge.repairs_drift(**variables) == [f"{NAME}: Reload units that read a certificate"]
        assert host.file("/run/mol-behind-reloaded").exists
        assert not host.file("/run/mol-fresh-reloaded").exists
    finally:
        host.check_output("systemctl stop mol-behind mol-fresh; rm -f /etc/ssl/distcloud/cut.* /run/mol-*-reloaded")


@pytest.mark.security
def test_bad_input_is_refused(converge):
    one = {"name": "web", "sans": ["DNS:a.example"]}
    message = converge.refuses(certificates_list=[one, {**one, "directory": "/etc/ssl/other", "sans": ["a.example"]}, {**one, "sans": []}])
    assert "written with its type" in message
    assert "unique in its directory" in message
    assert "certificates_renew_days" in converge.refuses(certificates_days=10)
