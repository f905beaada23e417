// Package try starts the real service for tests.
package try

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	sandbox "careinvitation.se/careinvitation/sandbox/v1"
	pb "careinvitation.se/careinvitation/v1"
)

// Unit is the care unit of the tests.
const Unit = "careUnits/SE2321000131-P000000123457"

// Service is the real service, on a database of its own and a sandbox clock, which starts now: journals are dated by the
// clock of the machine.
type Service struct {
	Address string
	Conn    *grpc.ClientConn
}

// Serve starts the service, and ends it with the test.
func Serve(t *testing.T) *Service {
	t.Helper()
	program := os.Getenv("CARE_INVITATION_PROGRAM")
	if program == "" {
		program = "../../../target/debug/care-invitation"
	}
	place := "sqlite://" + filepath.Join(t.TempDir(), "service.db")
	command := exec.Command(program, "--listen", "127.0.0.1:0", "--sandbox-clock", time.Now().UTC().Format(time.RFC3339), "--database-url", place)
	command.Stderr = os.Stderr
	command.Env = append(os.Environ(), "CARE_INVITATION_LOG_LEVEL=error")
	output, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	line, err := bufio.NewReader(output).ReadString('\n')
	must(t, err)
	address := strings.TrimPrefix(strings.TrimSpace(line), "listening on http://")
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { _ = connection.Close() })
	return &Service{Address: address, Conn: connection}
}

// Invite creates invitations that are due at once, and returns the names of their first messages.
func (s *Service) Invite(t *testing.T, count int) []string {
	t.Helper()
	return s.InviteMore(t, 0, count)
}

// InviteMore does the same for referrals from a number on.
func (s *Service) InviteMore(t *testing.T, first, count int) []string {
	t.Helper()
	var names []string
	for begin := first; begin < first+count; begin += 500 {
		batch := &pb.BatchCreateBookingRequestsRequest{}
		for n := begin; n < min(begin+500, first+count); n++ {
			batch.Requests = append(batch.Requests, request(n))
		}
		answer, err := pb.NewBookingRequestServiceClient(s.Conn).BatchCreateBookingRequests(t.Context(), batch)
		must(t, err)
		for _, result := range answer.Results {
			if result.GetBookingRequest() == nil {
				t.Fatalf("not created: %v", result)
			}
			names = append(names, result.GetBookingRequest().CareInvitation.Notifications[0].Name)
		}
	}
	return names
}

func request(n int) *pb.CreateBookingRequestRequest {
	return &pb.CreateBookingRequestRequest{
		Parent:    Unit,
		RequestId: fmt.Sprintf("3f0c8a52-6d1e-4b7a-9c35-%012d", n),
		BookingRequest: &pb.BookingRequest{
			Patient: &pb.Patient{
				PersonalId: "198003012385", PersonalIdType: pb.PersonalIdType_PERSONAL_ID_TYPE_PERSONNUMMER,
			},
			Origin:    &pb.BookingRequest_Referral{Referral: &pb.Referral{ReferralId: fmt.Sprintf("R-%d", n)}},
			VisitKind: pb.VisitKind_VISIT_KIND_NEW_VISIT, VisitType: &pb.VisitType{Code: "ONH-NY"},
			Purpose: "Öron", Summons: true, Invitation: true,
			Constraints: &pb.BookingConstraints{
				RequestedPeriod: &pb.DateInterval{StartDate: day(14), EndDate: day(90)},
			},
		},
	}
}

// day returns a date so many days from today.
func day(days int) string { return time.Now().AddDate(0, 0, days).Format(time.DateOnly) }

// Advance moves the sandbox clock.
func (s *Service) Advance(ctx context.Context, by time.Duration) error {
	clock := sandbox.NewClockServiceClient(s.Conn)
	now, err := clock.GetTime(ctx, &sandbox.GetTimeRequest{})
	if err != nil {
		return err
	}
	then := timestamppb.New(now.ServerTime.AsTime().Add(by))
	_, err = clock.AdvanceTime(ctx, &sandbox.AdvanceTimeRequest{ServerTime: then})
	return err
}

// Messages lists messages to the inbox in a state.
func (s *Service) Messages(t *testing.T, states ...pb.Notification_State) []*pb.Notification {
	t.Helper()
	var found []*pb.Notification
	request := &pb.ListNotificationsRequest{
		CareUnits: []string{Unit}, States: states, PageSize: 500,
		Channels: []pb.DeliveryChannel{pb.DeliveryChannel_DELIVERY_CHANNEL_INBOX},
	}
	for {
		page, err := pb.NewNotificationServiceClient(s.Conn).ListNotifications(t.Context(), request)
		must(t, err)
		for _, it := range page.Notifications {
			if it.Kind == pb.NotificationKind_NOTIFICATION_KIND_INVITATION {
				found = append(found, it)
			}
		}
		if request.PageToken = page.NextPageToken; request.PageToken == "" {
			return found
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
