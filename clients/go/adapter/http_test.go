package adapter

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
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

func TestWithoutAConnectionNothingIsHandedOver(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		// Only then does the server notice that a client has gone.
		_, _ = io.Copy(io.Discard, request.Body)
		<-request.Context().Done()
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var known *outcome
	if err := HTTPOutcome(CallHTTP(ctx, http.MethodPut, server.URL, "late")); err == nil || errors.As(err, &known) {
		t.Errorf("a time-out says %v", err)
	}
	server.CloseClientConnections()
	server.Close()
	err := HTTPOutcome(CallHTTP(t.Context(), http.MethodPut, server.URL, "away"))
	if !errors.As(err, &known) || known.is != pb.Acknowledgement_OUTCOME_RETRY {
		t.Errorf("no connection says %v", err)
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
