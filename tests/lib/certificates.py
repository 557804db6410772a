# SPDX-License-Identifier: Apache-2.0
"""What a tunnel's handshake needs beside a key: a certificate for a gateway, by openssl(1), and a ClientHello as bytes."""

import ssl
import subprocess


def gateway_certificate(directory):
    """{certificate, key, ca}: keys for [tunnel], of a CA made for it."""
    directory.mkdir(exist_ok=True)

    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *curve, "-days", 2, "-subj", "/CN=ca", "-keyout", directory / "ca.key", "-out", directory / "ca.pem")
    openssl("req", *curve, "-subj", "/CN=gw", "-keyout", directory / "gw.key", "-out", directory / "gw.csr")
    (directory / "ext").write_text("extendedKeyUsage=serverAuth\n")
    openssl("x509", "-req", "-in", directory / "gw.csr", "-CA", directory / "ca.pem", "-CAkey", directory / "ca.key", "-CAcreateserial", "-days", 2,
            "-extfile", directory / "ext", "-out", directory / "gw.pem")
    (directory / "gw.key").chmod(0o600)
    return {"certificate": directory / "gw.pem", "key": directory / "gw.key", "ca": directory / "ca.pem"}


def client_hello():
    """A whole one of TLS 1.3, without a key."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.wrap_bio(into, out).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()
