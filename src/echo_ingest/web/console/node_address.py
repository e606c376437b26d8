"""The address of a node's page. Pure."""

from urllib.parse import quote, urlencode

PATH = "/console/nodes"
QUERY = "/console/node"


def node_address(name: str, **parameters: str) -> str:
    """Return the address of a node's page, with those of the `parameters` that are not empty.

    A browser takes `.` and `..` out of a path however they are written, and a slash divides it:
    such a name is a parameter.
    """
    given = {key: value for key, value in parameters.items() if value}
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        return f"{QUERY}?{urlencode({'name': name, **given})}"
    address = f"{PATH}/{quote(name, safe='')}"
    return f"{address}?{urlencode(given)}" if given else address
