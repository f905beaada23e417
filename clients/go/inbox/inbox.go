// Package inbox hands messages over to the patient's inbox, an HTTP service that takes a message under an id.
package inbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"careinvitation.se/adapter"
	pb "careinvitation.se/careinvitation/v1"
)

// Inbox is the address of the service.
type Inbox string

// Deliver hands a message over.
func (i Inbox) Deliver(ctx context.Context, due *pb.DueNotification) error {
	message, err := json.Marshal(map[string]any{"to": due.PersonalId, "addressee": due.Addressee.String(),
		"language": due.Language, "kind": due.Notification.Kind.String(), "purpose": due.Purpose})
	if err != nil {
		return adapter.Park("it cannot be written")
	}
	answer, err := i.call(ctx, http.MethodPut, due, message)
	switch {
	case err != nil:
		return err // It may have been handed over.
	case answer.StatusCode == http.StatusCreated:
		return nil
	case answer.StatusCode == http.StatusNotFound:
		return adapter.Unreachable("the patient has no inbox")
	case answer.StatusCode == http.StatusTooManyRequests, answer.StatusCode == http.StatusServiceUnavailable:
		return adapter.NotSent("the inbox is busy", time.Minute)
	case answer.StatusCode < 500:
		return adapter.Park(fmt.Sprintf("the inbox answers %d", answer.StatusCode))
	}
	return fmt.Errorf("the inbox answers %d", answer.StatusCode)
}

// Delivered asks whether the inbox has a message, and since when.
func (i Inbox) Delivered(ctx context.Context, due *pb.DueNotification) (time.Time, bool, error) {
	answer, err := i.call(ctx, http.MethodHead, due, nil)
	if err != nil || answer.StatusCode == http.StatusNotFound {
		return time.Time{}, false, err
	}
	at, err := http.ParseTime(answer.Header.Get("Last-Modified"))
	return at, err == nil, err
}

func (i Inbox) call(ctx context.Context, method string, due *pb.DueNotification, body []byte) (*http.Response, error) {
	place := string(i) + "/messages/" + url.PathEscape(due.Notification.Name)
	request, err := http.NewRequestWithContext(ctx, method, place, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err == nil {
		_ = answer.Body.Close()
	}
	return answer, err
}
