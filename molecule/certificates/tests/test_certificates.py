"""A host certificate as role certificates leaves it, and what a run does about changes made by hand."""

from __future__ import annotations

testinfra_hosts = ["ansible://scratch"]

NAME = "mol-certificates"
# A signature is another one each time; a dry run makes no key.
SIGNED = r"(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----|to be signed"


def test_the_system_trusts_the_certificate(host):
    assert host.run("openssl verify /etc/ssl/distcloud/web.pem").rc == 0


def test_the_names_are_those_asked_for(host):
    text = host.check_output("openssl x509 -in /etc/ssl/distcloud/web.pem -noout -ext subjectAltName")
    assert "DNS:mol-certificates.distcloud.lab" in text
    assert "IP Address:" in text


def test_the_key_belongs_to_the_certificate_and_is_closed(host):
    key = host.file("/etc/ssl/distcloud/web.key")
    assert (key.user, key.group, key.mode) == ("root", "ssl-readers", 0o640)
    of_key = host.check_output("openssl pkey -in /etc/ssl/distcloud/web.key -pubout")
    assert host.check_output("openssl x509 -in /etc/ssl/distcloud/web.pem -noout -pubkey") == of_key


def test_drift_is_predicted_and_mended(host, converge):
    host.check_output("chmod 0644 /etc/ssl/distcloud/web.key; chown nobody /etc/ssl/distcloud/web.pem")
    host.check_output("rm /usr/local/share/ca-certificates/distcloud-*.crt; update-ca-certificates --fresh")
    assert converge.mends(again=SIGNED) == [
        f"{NAME}: Anchor file",
        f"{NAME}: Take the anchor into the system's bundle",
        f"{NAME}: Private key",
        f"{NAME}: Certificate file",
    ]
    host.check_output("rm /etc/ssl/distcloud/web.key")
    assert converge.mends(again=SIGNED) == [f"{NAME}: Private key", f"{NAME}: Certificate file"]
    test_the_key_belongs_to_the_certificate_and_is_closed(host)


def test_a_certificate_near_its_end_is_renewed_with_its_key(host, converge):
    key = host.check_output("sha256sum /etc/ssl/distcloud/web.key")
    serial = host.check_output("openssl x509 -in /etc/ssl/distcloud/web.pem -noout -serial")
    renewed = converge.run(certificates_renew_days=396, certificates_days=397)
    assert not renewed.failures
    assert renewed.changed == []
    renewed = converge.run(certificates_renew_days=398, certificates_days=400)
    assert renewed.changed == [f"{NAME}: Certificate file"]
    assert host.check_output("openssl x509 -in /etc/ssl/distcloud/web.pem -noout -serial") != serial
    assert host.check_output("sha256sum /etc/ssl/distcloud/web.key") == key
    assert host.run("openssl verify /etc/ssl/distcloud/web.pem").rc == 0


def test_bad_input_is_refused(converge):
    one = {"name": "web", "sans": ["DNS:a.example"]}
    told = converge.refuses(certificates_list=[one, {**one, "directory": "/etc/ssl/other", "sans": ["a.example"]}, {**one, "sans": []}])
    assert "written with its kind" in told
    assert "once in its folder" in told
    assert "certificates_renew_days" in converge.refuses(certificates_days=10)
