package adapter

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
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

// attempts answers the stream with these statuses, one after the other and the last one again and again, and counts.
type attempts struct {
	sync.Mutex
	codes []codes.Code
	count int
}

func (a *attempts) answer(context.Context, string) error {
	a.Lock()
	defer a.Unlock()
	a.count++
	code := a.codes[min(a.count, len(a.codes))-1]
	return status.Error(code, "as the test says")
}

func (a *attempts) made() int {
	a.Lock()
	defer a.Unlock()
	return a.count
}

// at returns what an adapter needs that is not to hand anything over, and its log.
func at(t *testing.T, address string) (Config, *bytes.Buffer) {
	t.Helper()
	journal, err := OpenJournal(t.Context(), filepath.Join(t.TempDir(), "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = journal.Close() })
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	said := &bytes.Buffer{}
	return Config{Conn: connection, Journal: journal, Log: slog.New(slog.NewTextHandler(said, nil)),
		Deliver: func(context.Context, *pb.DueNotification) error { panic("nothing is due") }}, said
}

func TestARunUntilIdleEndsAtOnceWhenItIsRefused(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{
		codes.PermissionDenied, codes.InvalidArgument, codes.Unimplemented, codes.NotFound, codes.FailedPrecondition,
	} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			refusing := &attempts{codes: []codes.Code{code}}
			config, _ := at(t, try.Answer(t, refusing.answer))
			config.UntilIdle = true
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := Run(ctx, config); status.Code(err) != code || refusing.made() != 1 {
				t.Errorf("%v after %d attempts", err, refusing.made())
			}
		})
	}
}

func TestARunUntilIdleEndsWhenNothingAnswersInItsTime(t *testing.T) {
	t.Parallel()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = nobody.Close()
	for name, address := range map[string]string{
		"nobody":          nobody.Addr().String(),
		"Unavailable":     try.Answer(t, (&attempts{codes: []codes.Code{codes.Unavailable}}).answer),
		"Unauthenticated": try.Answer(t, (&attempts{codes: []codes.Code{codes.Unauthenticated}}).answer),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, _ := at(t, address)
			config.UntilIdle, config.AwayMax = true, 2*time.Second
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			begun := time.Now()
			err := Run(ctx, config)
			if took := time.Since(begun); err == nil || took < config.AwayMax || took > 10*time.Second {
				t.Errorf("%v after %v", err, took)
			}
		})
	}
}

func TestARunUntilIdleOutlastsATokenThatIsRenewed(t *testing.T) {
	t.Parallel()
	soon := &attempts{codes: []codes.Code{codes.Unauthenticated, codes.Unavailable, codes.OK}}
	config, _ := at(t, try.Answer(t, soon.answer))
	config.UntilIdle = true
	if err := Run(t.Context(), config); err != nil || soon.made() != 3 {
		t.Errorf("%v after %d attempts", err, soon.made())
	}
}

func TestARunWithoutEndWaitsForRightsAndSaysSo(t *testing.T) {
	t.Parallel()
	forbidden := &attempts{codes: []codes.Code{codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented}}
	config, said := at(t, try.Answer(t, forbidden.answer))
	err := Run(t.Context(), config)
	if status.Code(err) != codes.Unimplemented || forbidden.made() != 3 {
		t.Errorf("%v after %d attempts", err, forbidden.made())
	}
	if count := strings.Count(said.String(), "level=ERROR"); count != 2 {
		t.Errorf("%d errors are logged: %s", count, said)
	}
}
