package problem_test

import (
	"errors"
	"testing"

	pb "careinvitation.se/careinvitation/v1"
	"careinvitation.se/internal/try"
	"careinvitation.se/problem"
)

func TestReasonsAndFieldsAreRead(t *testing.T) {
	service := try.Serve(t)
	requests := pb.NewBookingRequestServiceClient(service.Conn)
	_, err := requests.CreateBookingRequest(t.Context(), &pb.CreateBookingRequestRequest{Parent: "careUnits/x"})
	reason, fields := problem.Of(err)
	if reason != "FIELD_INVALID" || fields["parent"] == "" || fields["request_id"] == "" {
		t.Errorf("%q, %v of %v", reason, fields, err)
	}
	reason, fields = problem.Of(errors.New("from elsewhere"))
	if reason != "" || len(fields) > 0 {
		t.Errorf("%q, %v of an error from elsewhere", reason, fields)
	}
}
