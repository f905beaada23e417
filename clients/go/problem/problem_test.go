package problem_test

import (
	"errors"
	"os"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

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

func TestThePublishedServiceConfigIsTaken(t *testing.T) {
	config, err := os.ReadFile("../../../proto/service-config.json")
	if err != nil {
		t.Fatal(err)
	}
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	// It fails when the config is not one.
	connection, err := grpc.NewClient("127.0.0.1:1", plain, grpc.WithDefaultServiceConfig(string(config)))
	if err != nil {
		t.Fatal(err)
	}
	_ = connection.Close()
}
