// Package inbox hands messages over to the patient's inbox, an HTTP service that takes a message under an id.
package inbox

import (
	"context"
	"net/http"
	"strings"

	"careinvitation.se/adapter"
	pb "careinvitation.se/careinvitation/v1"
	"careinvitation.se/texts"
)

// Inbox is the service, and what it is given to show.
type Inbox struct {
	// Provider is the service.
	adapter.Provider
	// Texts for patients.
	Texts texts.Texts
}

// Deliver hands a message over.
func (i Inbox) Deliver(ctx context.Context, due *pb.DueNotification) error {
	text, err := i.Texts.Of(due, lookUp(due))
	if err != nil {
		return adapter.Park(err.Error())
	}
	answer, err := i.Put(ctx, due, map[string]any{
		"to": due.PersonalId, "addressee": due.Addressee.String(), "language": due.Language,
		"heading": text.Heading, "paragraphs": text.Paragraphs})
	if err == nil && answer.StatusCode == http.StatusNotFound {
		return adapter.Unreachable("the patient has no inbox")
	}
	return adapter.HTTPOutcome(answer, err)
}

// lookUp returns what the text needs and the service does not know. This differs from region to region: the name and
// telephone number of the care unit, and the name of the patient, by due.PersonalId. The number is one that is kept for fiction.
func lookUp(due *pb.DueNotification) map[string]string {
	unit := strings.TrimPrefix(due.CareUnit, "careUnits/")
	return map[string]string{"care_unit": unit, "phone": "08-465 004 00", "name": "patienten"}
}
