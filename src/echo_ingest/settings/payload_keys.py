"""Keys of encrypted payloads, by name: secrets that the site shares with its devices."""

from base64 import b64decode
from collections.abc import Mapping

NAME_CHARACTERS_MAX = 64
KEY_BYTES_MAX = 64
KEYS_MAX = 100
PAYLOAD_KEYS_REMEDY = (
    "type names with their keys in base64, one line for each or commas between them, such as"
    f" LongFast=AQ==; at most {KEYS_MAX} keys, of at most {KEY_BYTES_MAX} bytes"
)


def parse_payload_keys(text: str) -> Mapping[str, bytes]:
    """Read keys by name; raise `ValueError` with the remedy in its text, and nothing of a key."""
    keys: dict[str, bytes] = {}
    for part in text.replace("\n", ",").split(","):
        if not part.strip():
            continue  # a comma at the end, or an empty line
        name, sign, encoded = part.strip().partition("=")
        name = name.rstrip()
        try:
            key = b64decode(encoded.strip().encode(), validate=True)
        except ValueError:
            raise ValueError(PAYLOAD_KEYS_REMEDY) from None
        is_name = bool(name) and name.isprintable() and len(name) <= NAME_CHARACTERS_MAX
        if not sign or not is_name or name in keys or len(key) > KEY_BYTES_MAX:
            raise ValueError(PAYLOAD_KEYS_REMEDY)
        keys[name] = key
    if len(keys) > KEYS_MAX:
        raise ValueError(PAYLOAD_KEYS_REMEDY)
    return keys
