package inbox

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"careinvitation.se/adapter"
	pb "careinvitation.se/careinvitation/v1"
	"careinvitation.se/internal/try"
	"careinvitation.se/texts"
)

const (
	messageCount = 400
	killCount    = 6
	deliverMax   = time.Second
	patience     = 100 * time.Second
)

// TestMain is the adapter in the processes that the tests start and kill.
func TestMain(m *testing.M) {
	if os.Getenv("INBOX") == "" {
		os.Exit(m.Run())
	}
	adapter.Main(adapt)
}

func adapt(ctx context.Context) error {
	written, err := texts.Load("../../texts")
	if err != nil {
		return err
	}
	box := Inbox{Provider: adapter.Provider{Address: os.Getenv("INBOX")}, Texts: written}
	config := adapter.Config{
		Deliver: box.Deliver, DeliverMax: deliverMax,
		Channels: []pb.DeliveryChannel{pb.DeliveryChannel_DELIVERY_CHANNEL_INBOX},
		Log:      slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	if os.Getenv("ASKS") != "" {
		config.Delivered = box.Delivered
	}
	return adapter.Run(ctx, config)
}

func start(t *testing.T, environment []string) *exec.Cmd {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env, command.Stderr = append(os.Environ(), environment...), os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command
}

func TestSixKillsAndTwoReplicasOnASQLiteJournal(t *testing.T) {
	t.Parallel()
	parked := killed(t, filepath.Join(t.TempDir(), "journal.db"), true)
	if parked > 0 {
		t.Errorf("%d are parked, although the inbox says what it has", parked)
	}
}

func TestSixKillsAndTwoReplicasOnAPostgreSQLJournal(t *testing.T) {
	t.Parallel()
	place := os.Getenv("TEST_JOURNAL_URL")
	if place == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("TEST_JOURNAL_URL is not set")
		}
		t.Skip("TEST_JOURNAL_URL is not set")
	}
	if parked := killed(t, place, true); parked > 0 {
		t.Errorf("%d are parked, although the inbox says what it has", parked)
	}
}

func TestSixKillsWithoutAskingTheInbox(t *testing.T) {
	t.Parallel()
	// What timed out, and what was being handed over by the eight workers at each kill.
	parkedMax := messageCount/2 + killCount*8
	if parked := killed(t, filepath.Join(t.TempDir(), "journal.db"), false); parked > parkedMax {
		t.Errorf("%d are parked", parked)
	}
}

// killed runs two replicas of the adapter on one journal under load and kills one of them six times. It checks that
// nobody was written to twice and that nothing is said to be SENT that was not, and says how many are parked.
func killed(t *testing.T, journal string, asks bool) int {
	service, inbox := try.Serve(t), newFake(t)
	// Before anything is due: of what was handed over earlier a journal knows nothing.
	made, err := adapter.OpenJournal(t.Context(), journal)
	if err != nil {
		t.Fatal(err)
	}
	_ = made.Close()
	if err := service.Advance(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	names := service.Invite(t, messageCount)
	environment := []string{
		"CARE_INVITATION_ADDRESS=" + service.Address, "JOURNAL=" + journal, "INBOX=" + inbox.address + "/messages",
	}
	if asks {
		environment = append(environment, "ASKS=yes")
	}
	replicas := []*exec.Cmd{start(t, environment), start(t, environment)}
	defer func() {
		for _, replica := range replicas {
			_ = replica.Process.Kill()
			_ = replica.Wait()
		}
	}()
	var ticks atomic.Bool
	ticks.Store(true)
	defer ticks.Store(false)
	go func() {
		for ticks.Load() {
			_ = service.Advance(context.Background(), 20*time.Second)
			time.Sleep(500 * time.Millisecond)
		}
	}()
	for range killCount {
		time.Sleep(300*time.Millisecond + rand.N(300*time.Millisecond))
		which := rand.N(len(replicas))
		_ = replicas[which].Process.Kill()
		_ = replicas[which].Wait()
		replicas[which] = start(t, environment)
	}
	wait(t, service)
	// Stopped, not killed: what has begun is ended, and the program succeeds.
	for _, replica := range replicas {
		_ = replica.Process.Signal(syscall.SIGTERM)
		if err := replica.Wait(); err != nil {
			t.Errorf("a replica that was told to stop: %v", err)
		}
	}
	return check(t, service, inbox, names)
}

// wait waits until nothing is left to do.
func wait(t *testing.T, service *try.Service) {
	t.Helper()
	until := time.Now().Add(patience)
	for {
		open := service.Messages(t, pb.Notification_STATE_SCHEDULED, pb.Notification_STATE_LEASED,
			pb.Notification_STATE_DISPATCHING)
		if len(open) == 0 {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%d are left, such as %v", len(open), open[0])
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func check(t *testing.T, service *try.Service, inbox *fake, names []string) (parked int) {
	t.Helper()
	inbox.Lock()
	defer inbox.Unlock()
	for name, count := range inbox.taken {
		if count > 1 {
			t.Errorf("%s was handed over %d times", name, count)
		}
	}
	sent := service.Messages(t, pb.Notification_STATE_SENT)
	for _, it := range sent {
		if inbox.taken[it.Name] == 0 {
			t.Errorf("%s is SENT and was not handed over", it.Name)
		}
	}
	unreachable := 0
	for _, name := range names {
		if fateOf(name) == noAccount {
			unreachable++
		}
	}
	for _, it := range service.Messages(t, pb.Notification_STATE_PARKED) {
		parked++
		t.Logf("parked: %s", it.CauseDetail)
	}
	cancelled := len(service.Messages(t, pb.Notification_STATE_CANCELLED))
	if cancelled+parked < unreachable || len(sent)+cancelled+parked != messageCount {
		t.Errorf("%d sent, %d cancelled of %d unreachable, %d parked", len(sent), cancelled, unreachable, parked)
	}
	if len(inbox.taken) < messageCount/2 {
		t.Errorf("the inbox has %d only", len(inbox.taken))
	}
	t.Logf("%d sent, %d cancelled, %d parked", len(sent), cancelled, parked)
	return parked
}
