"""Connects to the service."""

import os
import pathlib

import grpc


def channel() -> grpc.Channel:
    """Connects to the service as the environment says: at CARE_INVITATION_ADDRESS, host:port; CARE_INVITATION_CA is the PEM
    file with its CAs, without which the connection is in plain text, and CARE_INVITATION_TOKEN_FILE a file with the bearer
    token."""
    address, ca = os.environ["CARE_INVITATION_ADDRESS"], os.environ.get("CARE_INVITATION_CA")
    if not ca:
        return grpc.insecure_channel(address)
    credentials = grpc.ssl_channel_credentials(pathlib.Path(ca).read_bytes())
    if token := os.environ.get("CARE_INVITATION_TOKEN_FILE"):
        bearer = grpc.access_token_call_credentials(pathlib.Path(token).read_text().strip())
        credentials = grpc.composite_channel_credentials(credentials, bearer)
    return grpc.secure_channel(address, credentials)
