package adapter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"

	pb "careinvitation.se/careinvitation/v1"
)

// busyPause is the time after which a provider that is busy or away is called again, unless it says.
const busyPause = time.Minute

// client follows no redirect: most of them turn a hand-over into a GET, whose 200 says nothing of the message.
var client = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// CallHTTP makes a call of a provider that speaks HTTP, with a body in JSON unless it is nil, and closes the answer. It
// fails with [NotSent] when nothing of the request had left: there was no connection, or its TLS failed.
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
	connected := false
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }}
	answer, err := client.Do(request.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err == nil {
		_ = answer.Body.Close()
		return answer, nil
	}
	if !connected {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // Without the address.
		}
		return nil, NotSent(fmt.Sprintf("the provider cannot be reached: %v", err), busyPause)
	}
	return nil, err
}

// HTTPOutcome returns what an answer to a hand-over says, as HTTP means it: nil for 2xx; [NotSent] for 429 and 503, for as
// long as Retry-After says, and for 301, 307 and 308, by which the provider is at another address; [Park] for any other
// 4xx. An error stays what it is. What is left, such as 303, 500 and a time-out, may have been handed over.
func HTTPOutcome(answer *http.Response, err error) error {
	switch {
	case err != nil:
		return err
	case answer.StatusCode/100 == 2:
		return nil
	}
	says := fmt.Sprintf("the provider answers %d", answer.StatusCode)
	switch code := answer.StatusCode; code {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		pause := busyPause
		if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds > 0 {
			pause = time.Duration(seconds) * time.Second
		}
		return NotSent("the provider is busy", pause)
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return NotSent(says, busyPause)
	default:
		if code/100 == 4 {
			return Park(says)
		}
		return errors.New(says)
	}
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
