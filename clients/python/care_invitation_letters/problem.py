"""Reads why a call failed."""

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def of(failure: grpc.RpcError) -> tuple[str, dict[str, str]]:
    """Returns the reason, a name of ErrorReason without its prefix, and what is wrong with each field by its path. The
    reason is empty when the failure does not come from the service."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status = rpc_status.from_call(failure)
    for detail in status.details if status else ():
        detail.Unpack(info) or detail.Unpack(bad)
    return info.reason, {it.field: it.description for it in bad.field_violations}
