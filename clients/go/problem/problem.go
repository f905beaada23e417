// Package problem reads why a call failed.
package problem

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// Of returns the reason of a failure, a name of ErrorReason without its prefix, and what is wrong with each field by
// its path. The reason is empty when the failure does not come from the service.
func Of(err error) (reason string, fields map[string]string) {
	fields = map[string]string{}
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.Reason
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				fields[violation.Field] = violation.Description
			}
		}
	}
	return reason, fields
}
