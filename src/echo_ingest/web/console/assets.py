"""What the browser gets besides HTML: scripts and styles, as `make console` builds them.

Their names contain a hash of their content, so a browser may keep them for ever. They are stored
gzipped in the package. A checkout in which nothing was built has none: then pages are plain HTML
that says how to build them.
"""

import gzip
from collections.abc import Mapping
from pathlib import Path

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Struct

FOLDER = Path(__file__).parent / "static"
ADDRESS = "/console/static"
YEAR_SECONDS = 31_536_000
TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


class AssetBundle(Struct, frozen=True):
    """The files that were built, and their names in the manifest."""

    names: Mapping[str, str] = {}
    """`map.js` → `map-3F2A….js`."""
    files: Mapping[str, bytes] = {}
    """Gzipped content by these names: some 300 kB in memory, so no request reads a file."""

    @property
    def is_built(self) -> bool:
        """Return whether anything was built."""
        return bool(self.names)

    def address(self, name: str) -> str | None:
        """Return where the browser finds the file `name`; None if it was not built."""
        hashed = self.names.get(name)
        return f"{ADDRESS}/{hashed}" if hashed else None


def read_bundle(folder: Path = FOLDER) -> AssetBundle:
    """Read the files in `folder`; return an empty bundle if nothing was built there."""
    try:
        names = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return AssetBundle()
    return AssetBundle(names, {path.stem: path.read_bytes() for path in folder.glob("*.gz")})


def bundle_page(bundle: AssetBundle) -> HTTPRouteHandler:
    """Return the route of the files of `bundle`, and of nothing else."""

    @get("/static/{name:str}", sync_to_thread=False)
    def file(request: Request[object, object, State], name: FromPath[str]) -> Response[bytes]:
        """Send one file."""
        body = bundle.files.get(name)
        if body is None:
            raise NotFoundException(f"there is no file {name}; load the page again")
        headers = {
            "Cache-Control": f"public, max-age={YEAR_SECONDS}, immutable",
            "Vary": "Accept-Encoding",
        }
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
        else:
            body = gzip.decompress(body)
        return Response(body, headers=headers, media_type=TYPES[Path(name).suffix])

    return file
