"""The doorway to libnftables: one context, text in, text out, answers as JSON.

Called by ``namespace``. A context's socket belongs to the network namespace that the calling thread was in when it was
made, and stays there. The library is loaded at the first call, since only nodes that isolate need it.
"""

import ctypes
import functools
from typing import Any, Final

from workers.domain.errors import PermanentFailure

NAME: Final = "libnftables.so.1"
_JSON: Final = 1 << 4
"""NFT_CTX_OUTPUT_JSON of nftables/libnftables.h."""


class Context:
    """One context. Not to be used by two threads at once."""

    def __init__(self, library: str = NAME) -> None:
        """In the caller's present network namespace.

        Raises:
            PermanentFailure: no library, or no socket (``nftables``).
        """
        self._library = _loaded(library)
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise PermanentFailure("libnftables could not be opened", code="nftables")
        self._library.nft_ctx_output_set_flags(self._context, _JSON)
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, commands: str) -> tuple[str, str]:
        """Run commands in one transaction: what they print (JSON), and what was wrong with them, empty for nothing."""
        failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context) or b""
        error = self._library.nft_ctx_get_error_buffer(self._context) or b""
        reason = " ".join(error.decode("utf-8", "replace").split())
        return output.decode("utf-8", "replace"), reason or "no reason given" if failed else ""

    def close(self) -> None:
        """Idempotent."""
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None


@functools.cache
def _loaded(name: str) -> Any:
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise PermanentFailure(
            f"{name} is not on this machine: install libnftables1 (Debian), nftables-libs or nftables", code="nftables"
        ) from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library
