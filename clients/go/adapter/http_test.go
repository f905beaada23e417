package adapter

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	pb "careinvitation.se/careinvitation/v1"
)

func TestWhatAnAnswerInHTTPSays(t *testing.T) {
	t.Parallel()
	const unknown = pb.Acknowledgement_OUTCOME_UNSPECIFIED
	for _, it := range []struct {
		status int
		after  string
		is     pb.Acknowledgement_Outcome
		wait   time.Duration
	}{
		{http.StatusTooManyRequests, "5", pb.Acknowledgement_OUTCOME_RETRY, 5 * time.Second},
		{http.StatusServiceUnavailable, "", pb.Acknowledgement_OUTCOME_RETRY, busyPause},
		{http.StatusServiceUnavailable, "soon", pb.Acknowledgement_OUTCOME_RETRY, busyPause},
		{http.StatusUnprocessableEntity, "", pb.Acknowledgement_OUTCOME_PARK, 0},
		{http.StatusMovedPermanently, "", pb.Acknowledgement_OUTCOME_RETRY, busyPause},
		{http.StatusTemporaryRedirect, "", pb.Acknowledgement_OUTCOME_RETRY, busyPause},
		{http.StatusPermanentRedirect, "", pb.Acknowledgement_OUTCOME_RETRY, busyPause},
		{http.StatusFound, "", unknown, 0},
		{http.StatusSeeOther, "", unknown, 0},
		{http.StatusInternalServerError, "", unknown, 0},
		{http.StatusGatewayTimeout, "", unknown, 0},
	} {
		answer := &http.Response{StatusCode: it.status, Header: http.Header{"Retry-After": {it.after}}}
		err := HTTPOutcome(answer, nil)
		var known *outcome
		if errors.As(err, &known) != (it.is != unknown) || known != nil && (known.is != it.is || known.wait != it.wait) {
			t.Errorf("%d says %v", it.status, err)
		}
	}
	for _, status := range []int{http.StatusOK, http.StatusCreated, http.StatusNoContent} {
		if err := HTTPOutcome(&http.Response{StatusCode: status}, nil); err != nil {
			t.Errorf("%d says %v", status, err)
		}
	}
}

func TestARedirectIsNotFollowedToAnAnswerThatSaysNothing(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther} {
		server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
			if request.URL.Path != "/login" {
				http.Redirect(answer, request, "/login", status)
			}
		}))
		answer, err := CallHTTP(t.Context(), http.MethodPut, server.URL, "moved")
		server.Close()
		if err != nil || answer.StatusCode != status || HTTPOutcome(answer, err) == nil {
			t.Errorf("%d says %v, %v", status, answer, err)
		}
	}
}

func TestWithoutAConnectionNothingIsHandedOver(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	// Its certificate is of nobody's.
	strange := httptest.NewTLSServer(nil)
	defer strange.Close()
	strange.Config.ErrorLog = log.New(io.Discard, "", 0)
	plain := httptest.NewServer(nil)
	defer plain.Close()
	for _, address := range []string{gone.URL, strange.URL, strings.Replace(plain.URL, "http:", "https:", 1)} {
		err := HTTPOutcome(CallHTTP(t.Context(), http.MethodPut, address, "away"))
		var known *outcome
		if !errors.As(err, &known) || known.is != pb.Acknowledgement_OUTCOME_RETRY || known.wait != busyPause {
			t.Errorf("%s says %v", address, err)
		}
	}
}

// TestWhatHasLeftMayBeHandedOver runs by itself: it replaces the transport.
func TestWhatHasLeftMayBeHandedOver(t *testing.T) {
	defer func() { client.Transport = nil }()
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		asked := make(chan string, 1)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
			// Only then does the server notice that a client has gone.
			_, _ = io.Copy(io.Discard, request.Body)
			asked <- request.Proto
			<-request.Context().Done()
		}))
		server.EnableHTTP2 = version == "HTTP/2.0"
		server.StartTLS()
		client.Transport = server.Client().Transport
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- HTTPOutcome(CallHTTP(ctx, http.MethodPut, server.URL, "late")) }()
		if proto := <-asked; proto != version {
			t.Errorf("asked with %s", proto)
		}
		cancel()
		var known *outcome
		if err := <-ended; err == nil || errors.As(err, &known) {
			t.Errorf("%s: a call that ends without an answer says %v", version, err)
		}
		server.CloseClientConnections()
		server.Close()
	}
}

func TestAProviderThatDoesNotSayWhatItHasIsNotTakenAtItsWord(t *testing.T) {
	t.Parallel()
	due := &pb.DueNotification{Notification: &pb.Notification{Name: "careUnits/x/notifications/1"}}
	since := time.Now().Truncate(time.Second)
	for _, it := range []struct {
		status int
		has    bool
		fails  bool
	}{
		{http.StatusOK, true, false},
		{http.StatusNotFound, false, false},
		{http.StatusServiceUnavailable, false, true},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
			if request.URL.EscapedPath() != "/kept/careUnits%2Fx%2Fnotifications%2F1" {
				t.Errorf("asked at %s", request.URL.EscapedPath())
			}
			answer.Header().Set("Last-Modified", since.UTC().Format(http.TimeFormat))
			answer.WriteHeader(it.status)
		}))
		at, has, err := Provider{Address: server.URL + "/kept"}.Delivered(t.Context(), due)
		server.Close()
		if has != it.has || (err != nil) != it.fails || has && !at.Equal(since) {
			t.Errorf("%d says %v, %v, %v", it.status, at, has, err)
		}
	}
}
