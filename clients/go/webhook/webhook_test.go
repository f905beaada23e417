package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"careinvitation.se/internal/try"
)

const (
	lives    = 3
	perLife  = 40
	patience = 60 * time.Second
)

var key = []byte("a secret of both")

// receiver takes what is posted, when it is signed; one post of three fails, and all while it is down.
type receiver struct {
	sync.Mutex
	down     bool
	attempts int
	created  map[string]int
}

func (r *receiver) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	id, at := request.Header.Get("Webhook-Id"), request.Header.Get("Webhook-Timestamp")
	if request.Header.Get("Webhook-Signature") != Sign(key, id, at, body) {
		answer.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.attempted() || rand.IntN(3) == 0 {
		answer.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var message struct {
		Data struct {
			Changes []struct{ BookingRequest, Event string }
		}
	}
	if err := json.Unmarshal(body, &message); err != nil {
		answer.WriteHeader(http.StatusBadRequest)
		return
	}
	r.Lock()
	defer r.Unlock()
	for _, change := range message.Data.Changes {
		if change.Event == "HISTORY_EVENT_CREATE_BOOKING_REQUEST" {
			r.created[change.BookingRequest]++
		}
	}
}

// attempted counts an attempt, and says whether the receiver is down.
func (r *receiver) attempted() bool {
	r.Lock()
	defer r.Unlock()
	r.attempts++
	return r.down
}

func (r *receiver) set(down bool) {
	r.Lock()
	defer r.Unlock()
	r.down, r.attempts = down, 0
}

func (r *receiver) count() (attempts, created int) {
	r.Lock()
	defer r.Unlock()
	return r.attempts, len(r.created)
}

func config(service *try.Service, url, folder string) Config {
	return Config{Conn: service.Conn, CareUnits: []string{"careUnits/-"}, URL: url, Key: key,
		CursorFile: filepath.Join(folder, "cursor"), PauseMin: time.Millisecond, PauseMax: 100 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

func TestEveryChangeIsPostedAcrossRestarts(t *testing.T) {
	t.Parallel()
	service, taken, folder := try.Serve(t), &receiver{created: map[string]int{}}, t.TempDir()
	server := httptest.NewServer(taken)
	defer server.Close()
	for life := range lives {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- Run(ctx, config(service, server.URL, folder)) }()
		// From when it has a cursor on.
		await(t, func() bool { return exists(filepath.Join(folder, "cursor")) })
		taken.set(true)
		service.InviteMore(t, life*perLife, perLife)
		await(t, func() bool { attempts, _ := taken.count(); return attempts > 0 })
		// The first lives end with what they cannot post.
		if life == lives-1 {
			taken.set(false)
			await(t, func() bool { _, created := taken.count(); return created == lives*perLife })
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if err := service.Advance(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	for name := range taken.created {
		if !strings.HasPrefix(name, try.Unit) {
			t.Errorf("%s is no request", name)
		}
	}
}

func TestAReceiverThatRefusesEndsIt(t *testing.T) {
	t.Parallel()
	service, folder := try.Serve(t), t.TempDir()
	server := httptest.NewServer(&receiver{created: map[string]int{}})
	defer server.Close()
	wrong := config(service, server.URL, folder)
	wrong.Key = []byte("another secret")
	ended := make(chan error)
	go func() { ended <- Run(t.Context(), wrong) }()
	await(t, func() bool { return exists(wrong.CursorFile) })
	service.InviteMore(t, 0, 1)
	if err := <-ended; !errors.Is(err, errRefused) {
		t.Errorf("%v", err)
	}
}

func TestARedirectIsNoReceipt(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/login" {
			http.Redirect(answer, request, "/login", http.StatusFound)
		}
	}))
	defer server.Close()
	if err := (Config{URL: server.URL, Key: key}).post(t.Context(), "msg_1", []byte("{}")); err == nil {
		t.Error("a page for signing in is taken for the receiver")
	}
}

func TestNothingIsPostedWithoutAPlaceForTheCursorAndAnAddress(t *testing.T) {
	t.Parallel()
	service, folder := try.Serve(t), t.TempDir()
	for name, change := range map[string]func(*Config){
		"no file":    func(it *Config) { it.CursorFile = "" },
		"no folder":  func(it *Config) { it.CursorFile = filepath.Join(folder, "none", "cursor") },
		"a folder":   func(it *Config) { it.CursorFile = folder },
		"no address": func(it *Config) { it.URL = "" },
		"no host":    func(it *Config) { it.URL = "receiver.example/hook" },
		"no key":     func(it *Config) { it.Key = nil },
	} {
		wrong := config(service, "http://127.0.0.1:9", folder)
		change(&wrong)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := Run(ctx, wrong); err == nil {
			t.Errorf("%s: it goes on", name)
		}
		cancel()
	}
}

func TestTheSignatureIsThatOfStandardWebhooks(t *testing.T) {
	t.Parallel()
	const secret, signature = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	for _, end := range []string{"", "\n", "\r\n"} {
		key, err := ParseKey([]byte(secret + end))
		signed := Sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
		if err != nil || signed != signature {
			t.Errorf("%q signs %s, %v", end, signed, err)
		}
	}
	for _, secret := range []string{"", "\n", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8", " " + secret, secret + " "} {
		if key, err := ParseKey([]byte(secret)); err == nil {
			t.Errorf("%q is taken for %q", secret, key)
		}
	}
}

func await(t *testing.T, fact func() bool) {
	t.Helper()
	for begun := time.Now(); !fact(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatal("it has not come about")
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
