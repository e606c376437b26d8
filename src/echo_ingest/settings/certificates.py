"""Why the certificate of a server was not accepted, in words that name the remedy.

The libraries that connect for us pass on what OpenSSL or rustls said, some of them only as a text.
"""

import re

SYSTEM = (
    "the certificates that this system trusts count: add that of the authority that signed it to "
    "them, or set the variable SSL_CERT_FILE to a PEM file with all that are to be trusted"
)
"""The remedy where no setting of ours names an authority."""

REJECTED = re.compile(
    r"certificate verify failed(?:: (?P<openssl>[^(]*[^( ]))?"
    r"|InvalidCertificate\(\s*(?P<rustls>\w+)"
)
EXPIRED = re.compile(r"expired", re.IGNORECASE)
TOO_EARLY = re.compile(r"not yet valid|NotValidYet", re.IGNORECASE)
OTHER_NAME = re.compile(r"mismatch|not valid for|NotValidForName", re.IGNORECASE)


def why_untrusted(error: object, trust: str) -> str | None:
    """Return why a certificate was not accepted; None if the error is about something else.

    `trust` is the remedy where the certificate is of an authority that is not known here.
    """
    text = str(error)
    if (rejected := REJECTED.search(text)) is None:
        return None
    reason = rejected["openssl"] or rejected["rustls"] or "no reason is given"
    if EXPIRED.search(reason):
        remedy = "renew it at the server, or correct the clock of this machine"
    elif TOO_EARLY.search(reason):
        remedy = "correct the clock of this machine, or of the one that made it"
    elif OTHER_NAME.search(text):
        remedy = "in the address, type the name for which the certificate was made"
    else:
        remedy = trust
    return f"certificate verify failed: {reason}: {remedy}"
