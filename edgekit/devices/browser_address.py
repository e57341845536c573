"""The address of a browser: one started here, or whichever opens a page that this machine serves."""

from __future__ import annotations

import re
import secrets
import socket
from typing import NamedTuple

from edgekit.errors import RecipeError

ACCELERATORS = ("wasm", "webgpu")
PORT = 8765
LOOPBACK = "127.0.0.1"
_WHERE = r"(?P<host>[^/:]+)(?::(?P<port>\d+))?"
_DEVICE = re.compile(rf"browser(?::(?P<accelerator>\w+))?(?:@{_WHERE}(?:/(?P<token>[\w-]+))?)?")
_LISTEN = re.compile(_WHERE)
_ANY = "0.0.0.0"
_DOCUMENTATION = "192.0.2.1"  # RFC 5737: never anybody's; connecting a UDP socket sends nothing


class Address(NamedTuple):
    """Without ``host``: a browser started here. With it: where to serve the page that somebody opens by hand."""

    accelerator: str
    host: str = ""
    port: int = 0
    token: str = ""

    @property
    def name(self) -> str:
        """The device without the token, which is nobody's business."""
        return f"browser:{self.accelerator}{f'@{self.host}:{self.port}' if self.host else ''}"

    @property
    def device(self) -> str:
        """What ``parse`` reads again."""
        return f"{self.name}/{self.token}" if self.host else self.name

    @property
    def url(self) -> str:
        """What to open. A page served to the network is named by this machine's address in it."""
        return f"http://{_own_address() if self.host == _ANY else self.host}:{self.port}/{self.token}/"


def parse(device: str) -> Address:
    """Read ``browser[:wasm|webgpu]``, or what ``Address.device`` wrote. Raises RecipeError."""
    found = _DEVICE.fullmatch(device)
    accelerator = (found["accelerator"] or ACCELERATORS[0]) if found else ""
    if not found or accelerator not in ACCELERATORS:
        raise RecipeError(f"{device!r} is no browser.", "Write browser, browser:wasm or browser:webgpu.")
    if not found["host"]:
        return Address(accelerator)
    if not found["token"]:
        raise RecipeError(
            f"{device!r}: a page that you open yourself has a new address in each run.",
            "Profile there with --serve, which shows it.",
        )
    return Address(accelerator, found["host"], int(found["port"] or PORT), found["token"])


def by_hand(device: str, listen: str) -> Address:
    """Return the address for a page that somebody opens; ``listen`` is ``HOST[:PORT]``. Raises RecipeError."""
    found = _LISTEN.fullmatch(listen)
    if not found:
        raise RecipeError(f"{listen!r} is no address to listen on.", f"Write HOST or HOST:PORT, e.g. {_ANY}:{PORT}.")
    # the token is known to who sees the page's address, and to nobody in the next run
    return Address(parse(device).accelerator, found["host"], int(found["port"] or PORT), secrets.token_hex(8))


def _own_address() -> str:
    """Return this machine's address in its network; its name where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_DOCUMENTATION, 9))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
