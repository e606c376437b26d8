"""The commands that send a first message to this broker. Pure."""

from msgspec import Struct

from echo_ingest.settings import Settings, parse_endpoint

NODE = "ridge-07"
PAYLOAD = '{"sensor_id": "ridge-07", "species": "Litoria ewingii", "confidence": 63.64}'


class FirstMessage(Struct, frozen=True):
    """Two ways to send a first message."""

    node: str
    here: str
    """The command for this machine."""
    elsewhere: str
    """The command for a device, which has no echo-ingest."""
    user: str
    """The user whose password the command needs."""


def first_message(settings: Settings, hostname: str) -> FirstMessage:
    """Write the commands; `hostname` is this machine's name, as the browser has reached it."""
    host, port, user = hostname, settings.mqtt_port, "echopub"
    if settings.endpoint is not None:
        endpoint = parse_endpoint(settings.endpoint)
        host, port, user = endpoint.host, endpoint.port, settings.user or user
    has_secret_file = settings.endpoint is None and not (
        settings.pub_password or settings.accounts_file
    )
    secret_file = settings.data_dir.absolute() / "secrets" / user
    secret = f"$(cat {secret_file})" if has_secret_file else "$PASSWORD"
    prefix = settings.topic_prefixes[0]
    return FirstMessage(
        node=NODE,
        here=f"echo '{PAYLOAD}' >frog.json\necho-ingest publish --wait --node {NODE} frog.json",
        elsewhere=f'mosquitto_pub -V 5 -q 1 -h {host} -p {port} -u {user} -P "{secret}" \\\n'
        f"  -t {prefix}/{NODE} -m '{PAYLOAD}'",
        user=user,
    )
