"""The program, for cron: `care-invitation-fhir CURSOR BASE`, a file that keeps the place in the stream and the address of a FHIR
server. The service is found as by care-invitation-letters."""

import logging
import pathlib
import sys

import grpc

from care_invitation_fhir import feed
from care_invitation_letters import connect, problem


def main() -> None:
    """Puts all requests that have changed since the last run."""
    logging.basicConfig(level=logging.INFO)
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        with connect.channel() as connection:
            count = feed.run(connection, pathlib.Path(sys.argv[1]), sys.argv[2].rstrip("/"))
    except grpc.RpcError as failure:
        reason, fields = problem.of(failure)
        sys.exit(f"the service answers {failure.code().name} {reason} {fields or ''}")
    except (OSError, connect.Silent) as failure:
        sys.exit(f"ended early: {failure}")
    print(f"{count} appointments")


if __name__ == "__main__":
    main()
