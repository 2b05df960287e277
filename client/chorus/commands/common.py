"""What the commands share."""

from __future__ import annotations

import argparse
import ssl
import sys
from typing import BinaryIO, Protocol

from chorus.connect import CA_VARIABLE, KEY_VARIABLE
from chorus.errors import ContractViolation, Refused

OK = 0
FAILED = 1
"""A stream failed, or something is not as it should be."""
USAGE = 2
"""argparse's own status for wrong arguments."""
CONTRACT_BROKEN = 3
"""The server did what the protocol rules out."""


def add_key(parser: argparse.ArgumentParser) -> None:
    """Declare the flag of the API key."""
    parser.add_argument(
        "--key",
        metavar="KEY",
        help=f"API key; better in {KEY_VARIABLE}, as others on this machine see a command's flags",
    )


def add_ca(parser: argparse.ArgumentParser) -> None:
    """Declare the flag of the CA certificates."""
    parser.add_argument(
        "--ca",
        metavar="FILE",
        help=f"CA certificates to trust at a wss address (default ${CA_VARIABLE}, then the system's)",
    )


class Commands(Protocol):
    """argparse's collection of subcommands."""

    def add_parser(
        self,
        name: str,
        *,
        help: str,  # noqa: A002 (argparse's own name)
        description: str,
        epilog: str = "",
    ) -> argparse.ArgumentParser:
        """A new subcommand."""


def explain(error: BaseException, url: str) -> str:
    """What went wrong, with what to do where that is known."""
    if isinstance(error, TimeoutError):
        return f"no answer from {url}; is the stack up? (make up)"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {url} is not valid here: {error.verify_message} (--ca names a CA to trust)"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with {url}: {error.reason}; without a certificate the stack speaks ws:// alone"
    if isinstance(error, OSError) and not error.filename:
        return f"cannot reach {url}: {_reason(error)}; is the stack up? (make up)"
    if isinstance(error, Refused) and error.status == 401:
        return f"{error} (give it with --key, or in {KEY_VARIABLE})"
    if isinstance(error, Refused) and error.retry_after is not None:
        return f"{error} (retry after {error.retry_after:g} s)"
    if isinstance(error, ContractViolation):
        return f"the server broke the protocol: {error}"
    return str(error) or type(error).__name__


def warn(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)


def raw_stdin() -> BinaryIO:
    """Standard input without a buffer: a read gives what is there, and one that blocks holds no lock at exit."""
    return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    # asyncio tells several addresses' failures in one error without a number.
    return error.strerror or str(error)
