"""Hashes the passwords that an image build was given, and prints the file that the image keeps.

A BuildKit secret counts more than the build argument of the same name. An account that was given
neither has no line: a container then wants its password when it starts.
"""

import os
import secrets
import sys
from pathlib import Path

from echo_ingest.broker import PUBLISHER, SUBSCRIBER, Credentials
from echo_ingest.broker.configuration import password_line
from echo_ingest.broker.nodes import SALT_BYTES
from echo_ingest.settings import SettingsError, load

SECRETS = Path("/run/secrets")
BY_ARGUMENT = """\
WARNING: passwords were given as build arguments ({names}).
  The image has only their hashes, but the arguments stay in the history of this shell and this
  builder, and whoever gets the image can try words against a hash. Better, in this order:
    when it runs   IOT_PUB_PASSWORD_FILE and IOT_SUB_PASSWORD_FILE, as Docker or Kubernetes secrets
    at the build   --secret id=pubuserpass,src=FILE --secret id=subuserpass,src=FILE"""


def given(name: str, setting: str) -> dict[str, str]:
    """The setting that reads what the build was given under `name`: a secret, or an argument."""
    if (secret := SECRETS / name).exists():
        return {f"{setting}_FILE": str(secret)}
    return {setting: os.environ.get(name, "")}


def main() -> None:
    """Print a line for each account that has a password."""
    environ = {
        **given("pubuserpass", "IOT_PUB_PASSWORD"),
        **given("subuserpass", "IOT_SUB_PASSWORD"),
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
