package adapter

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// canRepeat says whether a call may succeed when it is repeated. Rights and tokens are mended without the adapter.
func canRepeat(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.ResourceExhausted, codes.Canceled,
		codes.Internal, codes.Unknown, codes.Unauthenticated, codes.PermissionDenied:
		return true
	default:
		return false
	}
}

// isForbidden says whether a right is missing.
func isForbidden(err error) bool { return status.Code(err) == codes.PermissionDenied }

// needsSomebody says whether a right or a token is missing, which time alone does not bring.
func needsSomebody(err error) bool {
	return isForbidden(err) || status.Code(err) == codes.Unauthenticated
}
