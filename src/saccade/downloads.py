"""Downloads: whether a server answers at all, and a limit on how long it may be silent."""

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

CONNECT_SECONDS, STALL_SECONDS = 6.0, 30.0


def unreachable(url: str) -> str | None:
    """Return why a server does not answer, or None; in a thread, for looking up a name has no time limit."""
    reason = ["no answer"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=CONNECT_SECONDS):
                reason.clear()
        except urllib.error.HTTPError as error:
            error.close()
            reason.clear()  # it answered: whether it has the files, the download will tell
        except (OSError, ValueError) as error:
            reason[0] = str(getattr(error, "reason", error))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(CONNECT_SECONDS)
    return f"no connection to {url}: {reason[0]}" if reason else None


@contextmanager
def impatient() -> Iterator[None]:
    """Within the block, a connection that is silent for STALL_SECONDS is given up."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
