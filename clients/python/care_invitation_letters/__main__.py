"""The program, for cron: `care-invitation-letters JOURNAL FOLDER`. The service is at CARE_INVITATION_ADDRESS, host:port;
CARE_INVITATION_CA is the PEM file with its CAs, without which the connection is in plain text, and
CARE_INVITATION_TOKEN_FILE a file with the bearer token."""

import logging
import pathlib
import sqlite3
import sys

import grpc

from care_invitation_letters import adapter, connect, problem
from care_invitation_letters.journal import Journal


def main() -> None:
    """Hands over all letters that are due."""
    logging.basicConfig(level=logging.INFO)
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        with connect.channel() as connection:
            count = adapter.run(connection, Journal(sys.argv[1]), pathlib.Path(sys.argv[2]))
    except grpc.RpcError as failure:
        reason, fields = problem.of(failure)
        sys.exit(f"the service answers {failure.code().name} {reason} {fields or ''}")
    except (OSError, sqlite3.Error, connect.Silent) as failure:
        sys.exit(f"ended early: {failure}")
    print(f"{count} letters")


if __name__ == "__main__":
    main()
