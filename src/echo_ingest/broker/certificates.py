"""The certificates of the port for TLS: checked at the start, and used by the proxy."""

import ssl

from echo_ingest.broker.program import BrokerError
from echo_ingest.settings import Settings


def check_certificates(settings: Settings) -> None:
    """Raise `BrokerError` if the certificates that are set cannot be used."""
    if settings.tls_cert_file is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file, password="")
        if settings.tls_client_ca_file is not None:
            context.load_verify_locations(settings.tls_client_ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise BrokerError(
            "the certificates of IOT_TLS_CERT_FILE, IOT_TLS_KEY_FILE and IOT_TLS_CLIENT_CA_FILE "
            f"cannot be used ({why}): each must be a PEM file, and the key must belong to the "
            "certificate and have no passphrase"
        ) from error
