"""What the browser gets besides HTML: scripts and styles, as `make console` has built them.

Their names have a hash of what they hold, so a browser may keep them for ever. Each lies in the
package as it is and gzipped. A checkout in which nothing was built has none: then pages are
plain HTML, which says how to build.
"""

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
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class Bundle(Struct, frozen=True):
    """The files that were built, by the names in the manifest."""

    names: Mapping[str, str] = {}
    """`map.js` → `map-3F2A….js`."""
    files: frozenset[str] = frozenset()

    @property
    def is_built(self) -> bool:
        """Is there anything?"""
        return bool(self.names)

    def address(self, name: str) -> str | None:
        """Where the browser finds it."""
        found = self.names.get(name)
        return f"{ADDRESS}/{found}" if found else None


def read_bundle(folder: Path = FOLDER) -> Bundle:
    """What lies in `folder`; empty if nothing was built there."""
    try:
        names = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return Bundle()
    files = {path.name for path in folder.iterdir() if path.suffix in TYPES}
    return Bundle(names, frozenset(files))


def bundle_page(bundle: Bundle, folder: Path = FOLDER) -> HTTPRouteHandler:
    """The files of `bundle`, and nothing else that lies there."""

    @get("/static/{name:str}", sync_to_thread=True)
    def file(request: Request[object, object, State], name: FromPath[str]) -> Response[bytes]:
        """One file."""
        if name not in bundle.files:
            raise NotFoundException(f"there is no file {name}; load the page again")
        headers = {
            "Cache-Control": f"public, max-age={YEAR_SECONDS}, immutable",
            "Vary": "Accept-Encoding",
        }
        path = folder / name
        if "gzip" in request.headers.get("accept-encoding", ""):
            path = path.with_name(f"{name}.gz")
            headers["Content-Encoding"] = "gzip"
        media_type = TYPES[Path(name).suffix]
        return Response(path.read_bytes(), headers=headers, media_type=media_type)

    return file
