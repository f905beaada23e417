package adapter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	pb "careinvitation.se/careinvitation/v1"
)

// busyPause is the time after which a provider that is busy or away is called again, unless it says.
const busyPause = time.Minute

// CallHTTP makes a call of a provider that speaks HTTP, with a body in JSON unless it is nil, and closes the answer.
func CallHTTP(ctx context.Context, method, address string, body any) (*http.Response, error) {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return nil, Park("it cannot be written in JSON")
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(content))
	if err != nil {
		return nil, Park("the provider's address is none")
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err == nil {
		_ = answer.Body.Close()
	}
	return answer, err
}

// HTTPOutcome returns what an answer to a hand-over says, as HTTP means it: nil for 2xx; [NotSent] for 429 and 503, for as
// long as Retry-After says, and when there was no connection; [Park] for any other 4xx. What is left, such as 500 and a
// time-out, may have been handed over.
func HTTPOutcome(answer *http.Response, err error) error {
	var failed *net.OpError
	switch {
	case errors.As(err, &failed) && failed.Op == "dial":
		return NotSent("the provider cannot be reached", busyPause)
	case err != nil:
		return err
	case answer.StatusCode/100 == 2:
		return nil
	case answer.StatusCode == http.StatusTooManyRequests, answer.StatusCode == http.StatusServiceUnavailable:
		pause := busyPause
		if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds > 0 {
			pause = time.Duration(seconds) * time.Second
		}
		return NotSent("the provider is busy", pause)
	case answer.StatusCode/100 == 4:
		return Park(fmt.Sprintf("the provider answers %d", answer.StatusCode))
	}
	return fmt.Errorf("the provider answers %d", answer.StatusCode)
}

// Provider is a provider that speaks HTTP and keeps each message under its name, which is the same at every attempt.
type Provider struct {
	// Address under which it keeps them.
	Address string
}

// Put hands a message over with this body, in JSON.
func (p Provider) Put(ctx context.Context, due *pb.DueNotification, body any) (*http.Response, error) {
	return CallHTTP(ctx, http.MethodPut, p.place(due), body)
}

// Delivered asks whether the provider has a message, and since when.
func (p Provider) Delivered(ctx context.Context, due *pb.DueNotification) (time.Time, bool, error) {
	answer, err := CallHTTP(ctx, http.MethodHead, p.place(due), nil)
	switch {
	case err != nil, answer.StatusCode == http.StatusNotFound:
		return time.Time{}, false, err
	case answer.StatusCode/100 != 2:
		return time.Time{}, false, fmt.Errorf("the provider answers %d", answer.StatusCode)
	}
	at, err := http.ParseTime(answer.Header.Get("Last-Modified"))
	return at, err == nil, err
}

func (p Provider) place(due *pb.DueNotification) string {
	return p.Address + "/" + url.PathEscape(due.Notification.Name)
}
