"""Hash the passwords that were set for an image build, and print the file that the image keeps.

A BuildKit secret takes precedence over the build argument of the same name. An account without
either gets no line: a container then needs its password when it starts.
"""

import os
import secrets
import sys
from pathlib import Path

from echo_ingest.broker import PUBLISHER, SUBSCRIBER, Credentials
from echo_ingest.broker.configuration import password_line
from echo_ingest.broker.node_accounts import SALT_BYTES
from echo_ingest.settings import SettingsError, load

SECRETS = Path("/run/secrets")
BY_ARGUMENT = """\
WARNING: passwords were set as build arguments ({names}).
  The image has only their hashes, but the arguments stay in the history of this shell and this
  builder, and anybody who gets the image can test guesses against a hash. These are better:
    at run time    IOT_PUB_PASSWORD_FILE and IOT_SUB_PASSWORD_FILE, as Docker or Kubernetes secrets
    at the build   --secret id=pubuserpass,src=FILE --secret id=subuserpass,src=FILE"""


def password_setting(name: str, setting: str) -> dict[str, str]:
    """Return the setting for the build's `name`: the file of its secret, or else its argument."""
    if (secret := SECRETS / name).exists():
        return {f"{setting}_FILE": str(secret)}
    return {setting: os.environ.get(name, "")}


def main() -> None:
    """Print one line for each account that has a password."""
    environ = {
        **password_setting("pubuserpass", "IOT_PUB_PASSWORD"),
        **password_setting("subuserpass", "IOT_SUB_PASSWORD"),
    }
    try:
        settings = load(environ)
    except SettingsError as error:
        sys.exit(str(error))
    if names := [name for name in ("pubuserpass", "subuserpass") if os.environ.get(name)]:
        print(BY_ARGUMENT.format(names=", ".join(names)), file=sys.stderr)
    passwords = {PUBLISHER: settings.pub_password, SUBSCRIBER: settings.sub_password}
    for user, password in passwords.items():
        if password is not None:
            account = Credentials(user, password.get_secret_value())
            print(password_line(account, secrets.token_bytes(SALT_BYTES)), end="")


main()
