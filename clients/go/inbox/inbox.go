// Package inbox hands messages over to the patient's inbox, an HTTP service that takes a message under an id.
package inbox

import (
	"context"
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
	answer, err := adapter.CallHTTP(ctx, http.MethodPut, i.place(due), map[string]any{
		"to": due.PersonalId, "addressee": due.Addressee.String(), "language": due.Language,
		"kind": due.Notification.Kind.String(), "purpose": due.Purpose})
	if err == nil && answer.StatusCode == http.StatusNotFound {
		return adapter.Unreachable("the patient has no inbox")
	}
	return adapter.HTTPOutcome(answer, err)
}

// Delivered asks whether the inbox has a message, and since when.
func (i Inbox) Delivered(ctx context.Context, due *pb.DueNotification) (time.Time, bool, error) {
	answer, err := adapter.CallHTTP(ctx, http.MethodHead, i.place(due), nil)
	if err != nil || answer.StatusCode == http.StatusNotFound {
		return time.Time{}, false, err
	}
	at, err := http.ParseTime(answer.Header.Get("Last-Modified"))
	return at, err == nil, err
}

func (i Inbox) place(due *pb.DueNotification) string {
	return string(i) + "/messages/" + url.PathEscape(due.Notification.Name)
}
