"""A host certificate as role certificates leaves it: trusted by the system, key readable by whom it was made for."""

from __future__ import annotations

testinfra_hosts = ["ansible://scratch"]


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
