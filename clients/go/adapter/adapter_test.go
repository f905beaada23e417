package adapter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "careinvitation.se/careinvitation/v1"
	"careinvitation.se/internal/try"
)

// attemptMax is more than the service and staff make of a message here.
const attemptMax = 20

// invited starts a service with one message that is due, which a journal made before may know all of.
func invited(t *testing.T, place string) (*try.Service, *Journal, string) {
	t.Helper()
	service := try.Serve(t)
	journal, err := OpenJournal(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = journal.Close() })
	if err := service.Advance(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	return service, journal, service.Invite(t, 1)[0]
}

// untilState runs an adapter, again and again as time passes, until the message has a state.
func untilState(t *testing.T, service *try.Service, config Config, state pb.Notification_State) {
	t.Helper()
	config.Conn, config.UntilIdle = service.Conn, true
	config.Channels = []pb.DeliveryChannel{pb.DeliveryChannel_DELIVERY_CHANNEL_INBOX}
	config.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	for range attemptMax {
		if err := Run(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if len(service.Messages(t, state)) > 0 {
			return
		}
		if err := service.Advance(t.Context(), 30*time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("it is not %v", state)
}

// release does for the number-th time what staff do with a message that is parked.
func release(t *testing.T, service *try.Service, name string, number int) {
	t.Helper()
	request, _, _ := strings.Cut(name, "/notifications/")
	client := pb.NewBookingRequestServiceClient(service.Conn)
	if _, err := client.ReleaseHold(t.Context(), &pb.ReleaseHoldRequest{
		Name: request, RequestId: fmt.Sprintf("8b1d6f04-52c7-4e39-a1f8-%012d", number), Comment: "Send it.",
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAReleaseIsForOneHandOver(t *testing.T) {
	t.Parallel()
	places := map[string]string{"SQLite": filepath.Join(t.TempDir(), "journal.db"), "PostgreSQL": os.Getenv("TEST_JOURNAL_URL")}
	for database, place := range places {
		t.Run(database, func(t *testing.T) {
			if place == "" {
				if os.Getenv("CI") != "" {
					t.Fatal("TEST_JOURNAL_URL is not set")
				}
				t.Skip("TEST_JOURNAL_URL is not set")
			}
			service, journal, name := invited(t, place)
			handed := 0
			config := Config{Journal: journal, Deliver: func(context.Context, *pb.DueNotification) error {
				handed++
				return errors.New("a time-out")
			}}
			for released := range 3 {
				untilState(t, service, config, pb.Notification_STATE_PARKED)
				if handed != released+1 {
					t.Fatalf("released %d times, handed over %d times", released, handed)
				}
				release(t, service, name, released)
			}
			// A provider that can be asked is asked.
			config.Delivered = func(context.Context, *pb.DueNotification) (time.Time, bool, error) {
				return time.Now(), true, nil
			}
			untilState(t, service, config, pb.Notification_STATE_SENT)
			if handed != 4 {
				t.Errorf("handed over %d times", handed)
			}
		})
	}
}

func TestAPanicIsNotKnownToBeHandedOver(t *testing.T) {
	t.Parallel()
	service, journal, _ := invited(t, filepath.Join(t.TempDir(), "journal.db"))
	handed, asked := 0, 0
	config := Config{Journal: journal, Deliver: func(context.Context, *pb.DueNotification) error {
		handed++
		panic("Deliver")
	}}
	config.Delivered = func(context.Context, *pb.DueNotification) (time.Time, bool, error) {
		if asked++; asked == 1 {
			panic("Delivered")
		}
		return time.Now(), true, nil
	}
	untilState(t, service, config, pb.Notification_STATE_SENT)
	if handed != 1 || asked != 2 {
		t.Errorf("handed over %d times, asked %d times", handed, asked)
	}
}

func TestWhatIgnoresItsContextBlocksNothing(t *testing.T) {
	t.Parallel()
	service, journal, _ := invited(t, filepath.Join(t.TempDir(), "journal.db"))
	var handed atomic.Int32
	blocked := make(chan struct{})
	defer close(blocked)
	config := Config{Journal: journal, DeliverMax: 50 * time.Millisecond,
		Deliver: func(context.Context, *pb.DueNotification) error {
			handed.Add(1)
			<-blocked
			return nil
		}}
	begun := time.Now()
	untilState(t, service, config, pb.Notification_STATE_PARKED)
	if took := time.Since(begun); handed.Load() != 1 || took > 20*time.Second {
		t.Errorf("handed over %d times, for %v", handed.Load(), took)
	}
}

func TestAFileMayBeginWithTheNameOfPostgreSQL(t *testing.T) {
	t.Chdir(t.TempDir())
	journal, err := OpenJournal(t.Context(), "postgres-journal.db")
	if err != nil {
		t.Fatal(err)
	}
	_ = journal.Close()
	if _, err := os.Stat("postgres-journal.db"); err != nil {
		t.Error(err)
	}
}
