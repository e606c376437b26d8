"""What to type so that a first message comes, to this very broker. Pure."""

from msgspec import Struct

from echo_ingest.settings import Settings, parse_endpoint

NODE = "ridge-07"
PAYLOAD = '{"sensor_id": "ridge-07", "species": "Litoria ewingii", "confidence": 63.64}'


class FirstMessage(Struct, frozen=True):
    """Two ways to send one."""

    node: str
    here: str
    """On this machine."""
    elsewhere: str
    """On a device, which has no echo-ingest."""
    user: str
    """Whose password it takes."""


def first_message(settings: Settings, hostname: str) -> FirstMessage:
    """`hostname` is this machine's name, as whoever reads this has reached it."""
    host, port, user = hostname, settings.mqtt_port, "echopub"
    if settings.endpoint is not None:
        endpoint = parse_endpoint(settings.endpoint)
        host, port, user = endpoint.host, endpoint.port, settings.user or user
    is_kept = settings.endpoint is None and not (settings.pub_password or settings.accounts_file)
    kept = settings.data_dir.absolute() / "secrets" / user
    secret = f"$(cat {kept})" if is_kept else "$PASSWORD"
    prefix = settings.topic_prefixes[0]
    return FirstMessage(
        NODE,
        f"echo '{PAYLOAD}' >frog.json\necho-ingest publish --wait --node {NODE} frog.json",
        f'mosquitto_pub -V 5 -q 1 -h {host} -p {port} -u {user} -P "{secret}" \\\n'
        f"  -t {prefix}/{NODE} -m '{PAYLOAD}'",
        user,
    )
