"""Connects to the service, and reads its streams."""

import os
import pathlib
import sys
import threading
from collections.abc import Iterator

import grpc

# Ends a connection whose other end is gone.
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Without it a ping has a minute, whatever the line above says.
    ("grpc.http2.ping_timeout_ms", 20_000),
    # A stream sends nothing after its request: the pings are not limited by it.
    ("grpc.http2.max_pings_without_data", 0),
]
# Seconds after which a stream on which nothing comes is cancelled; the service sends a heartbeat every 15.
SILENCE_MAX = 90


class Silent(Exception):
    """Nothing has come on a stream for too long."""


class _TokenFile(grpc.AuthMetadataPlugin):
    """Brings the token of a file, read at each call, so that another program can replace it."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        # A file that is missing is said by its name: the failure of a call does not say it.
        self._read()

    def _read(self) -> str:
        return self._path.read_text().strip()

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback):
        try:
            token = self._read()
        except OSError as why:
            callback((), why)
        else:
            callback((("authorization", f"Bearer {token}"),), None)


def channel() -> grpc.Channel:
    """Connects to the service as the environment says: at CARE_INVITATION_ADDRESS, host:port; CARE_INVITATION_CA is the PEM
    file with its CAs, without which the connection is in plain text, and CARE_INVITATION_TOKEN_FILE a file with the bearer
    token, read at each call."""
    address, ca = os.environ.get("CARE_INVITATION_ADDRESS"), os.environ.get("CARE_INVITATION_CA")
    token = os.environ.get("CARE_INVITATION_TOKEN_FILE")
    if not address:
        sys.exit("CARE_INVITATION_ADDRESS is not set: host:port of the service")
    if token and not ca:
        sys.exit("CARE_INVITATION_TOKEN_FILE needs CARE_INVITATION_CA: tokens are sent within TLS alone")
    if not ca:
        return grpc.insecure_channel(address, KEEPALIVE)
    credentials = grpc.ssl_channel_credentials(pathlib.Path(ca).read_bytes())
    if token:
        bearer = grpc.metadata_call_credentials(_TokenFile(pathlib.Path(token)))
        credentials = grpc.composite_channel_credentials(credentials, bearer)
    return grpc.secure_channel(address, credentials, KEEPALIVE)


def messages(stream: grpc.Call, silence_max: float | None = None) -> Iterator:
    """Yields what comes on a stream, and cancels it after a silence: of SILENCE_MAX, unless another one is given."""
    seconds = SILENCE_MAX if silence_max is None else silence_max
    silent = threading.Event()

    def cancel():
        silent.set()
        stream.cancel()

    while True:
        timer = threading.Timer(seconds, cancel)
        timer.daemon = True
        timer.start()
        try:
            message = next(stream)
        except StopIteration:
            return
        except grpc.RpcError:
            if silent.is_set():
                raise Silent(f"nothing has come on the stream for {seconds} seconds") from None
            raise
        finally:
            timer.cancel()
        yield message
