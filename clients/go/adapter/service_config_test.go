package adapter

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "careinvitation.se/careinvitation/v1"
	"careinvitation.se/internal/try"
)

// calls answers each call of a method with these statuses, one after the other, then with success; it notes the time that each had.
type calls struct {
	sync.Mutex
	codes []codes.Code
	// had has the time that each call of a method came with; 0 for none.
	had map[string][]time.Duration
}

func (c *calls) answer(ctx context.Context, method string) error {
	c.Lock()
	defer c.Unlock()
	var left time.Duration
	if deadline, is := ctx.Deadline(); is {
		left = time.Until(deadline)
	}
	c.had[method] = append(c.had[method], left)
	if number := len(c.had[method]); number <= len(c.codes) {
		return status.Error(c.codes[number-1], "as the test says")
	}
	return nil
}

// configured connects to a server that answers so, with the service config that the service publishes.
func configured(t *testing.T, answers ...codes.Code) (*grpc.ClientConn, *calls) {
	t.Helper()
	text, err := os.ReadFile("../../../proto/service-config.json")
	if err != nil {
		t.Fatal(err)
	}
	made := &calls{codes: answers, had: map[string][]time.Duration{}}
	connection, err := grpc.NewClient(try.Answer(t, made.answer),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection, made
}

func TestWithTheServiceConfigACallOutlastsAServiceThatIsAway(t *testing.T) {
	t.Parallel()
	connection, made := configured(t, codes.Unavailable, codes.Unavailable)
	begun := time.Now()
	_, err := pb.NewBookingRequestServiceClient(connection).GetBookingRequest(t.Context(), &pb.GetBookingRequestRequest{})
	// Half a second and one, each a fifth more or less.
	if took := time.Since(begun); err != nil || took < 1100*time.Millisecond || took > 5*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	// The time is for all attempts.
	had := made.had["GetBookingRequest"]
	if len(had) != 3 || had[0] > 10*time.Second || had[0] < 8*time.Second || had[2] > had[0]-time.Second {
		t.Errorf("attempts had %v", had)
	}
}

func TestWithTheServiceConfigNothingElseIsRepeated(t *testing.T) {
	t.Parallel()
	connection, made := configured(t, codes.ResourceExhausted)
	service := pb.NewBookingRequestServiceClient(connection)
	_, err := service.BatchCreateBookingRequests(t.Context(), &pb.BatchCreateBookingRequestsRequest{})
	if had := made.had["BatchCreateBookingRequests"]; status.Code(err) != codes.ResourceExhausted || len(had) != 1 ||
		had[0] < 28*time.Second || had[0] > 30*time.Second {
		t.Errorf("%v, attempts had %v", err, had)
	}
}

func TestWithTheServiceConfigAStreamHasNoDeadlineAndIsNotRepeated(t *testing.T) {
	t.Parallel()
	connection, made := configured(t, codes.Unavailable)
	for method, open := range map[string]func() error{
		"StreamChanges": func() error {
			stream, err := pb.NewBookingRequestServiceClient(connection).StreamChanges(t.Context(), &pb.StreamChangesRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"StreamDueNotifications": func() error {
			stream, err := pb.NewNotificationServiceClient(connection).
				StreamDueNotifications(t.Context(), &pb.StreamDueNotificationsRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	} {
		err := open()
		if had := made.had[method]; status.Code(err) != codes.Unavailable || len(had) != 1 || had[0] != 0 {
			t.Errorf("%s: %v, attempts had %v", method, err, had)
		}
	}
}
