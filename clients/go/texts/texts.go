// Package texts has what patients are told, by kind, addressee, channel, form and language: the files of a folder such as
// clients/texts, which docs/texts.md explains.
package texts

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // A small image may have none.

	pb "careinvitation.se/careinvitation/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// fallback is the language of a patient whose own has no texts.
const fallback = "sv"

var (
	placeholder = regexp.MustCompile(`{(\w+)}`)
	addressees  = map[pb.Addressee]string{
		pb.Addressee_ADDRESSEE_UNSPECIFIED: "PATIENT", pb.Addressee_ADDRESSEE_PATIENT: "PATIENT",
		pb.Addressee_ADDRESSEE_GUARDIANS: "GUARDIANS", pb.Addressee_ADDRESSEE_PROXY: "PROXY",
	}
	channels = map[pb.DeliveryChannel]string{
		pb.DeliveryChannel_DELIVERY_CHANNEL_INBOX: "INBOX", pb.DeliveryChannel_DELIVERY_CHANNEL_LETTER: "LETTER",
	}
)

// Texts are those of all languages.
type Texts map[string]language

type language struct {
	Months   []string                                  `json:"months"`
	Openings map[string]map[string]map[string]opening  `json:"openings"`
	Closings map[string]map[string]map[string][]string `json:"closings"`
}

type opening struct {
	Heading string   `json:"heading"`
	Text    []string `json:"text"`
}

// Message is a text for one patient.
type Message struct {
	Heading    string
	Paragraphs []string
}

// Load reads a folder with a file for each language.
func Load(folder string) (Texts, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return nil, err
	}
	texts := Texts{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var of language
		if err := json.Unmarshal(content, &of); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(of.Months) != 12 {
			return nil, fmt.Errorf("%s: there are twelve months", file)
		}
		texts[strings.TrimSuffix(filepath.Base(file), ".json")] = of
	}
	if _, is := texts[fallback]; !is {
		return nil, fmt.Errorf("there is no %s.json in %s", fallback, folder)
	}
	return texts, nil
}

// Of returns what a message says. The values are those that the service does not know: care_unit, phone and, where the
// addressee is not the patient, name.
func (t Texts) Of(due *pb.DueNotification, values map[string]string) (Message, error) {
	tag, _, _ := strings.Cut(strings.ToLower(due.Language), "-")
	of, is := t[tag]
	if !is {
		of = t[fallback]
	}
	said, form := said(due.Notification), "STANDARD"
	if due.LetterFormat == pb.LetterFormat_LETTER_FORMAT_EASY_READ {
		form = "EASY_READ"
	}
	ends := "CHOOSE"
	if said == "WITHDRAWAL" {
		ends = said
	}
	opening := of.Openings[said][addressees[due.Addressee]][form]
	closing := of.Closings[ends][channels[due.Notification.Channel]][form]
	if opening.Heading == "" || len(closing) == 0 {
		return Message{}, errors.New("there is no text for such a message")
	}
	known := maps.Clone(values)
	if known == nil {
		known = map[string]string{}
	}
	if err := of.addDays(known, due); err != nil {
		return Message{}, err
	}
	lines := append([]string{opening.Heading}, opening.Text...)
	lines = append(lines, closing...)
	for i, line := range lines {
		filled, err := fill(line, known)
		if err != nil {
			return Message{}, err
		}
		lines[i] = filled
	}
	return Message{Heading: lines[0], Paragraphs: lines[1:]}, nil
}

// said names what a message says, as the files do.
func said(of *pb.Notification) string {
	isUnread := of.ChannelReason == pb.ChannelReason_CHANNEL_REASON_UNREAD
	switch of.Kind {
	case pb.NotificationKind_NOTIFICATION_KIND_WITHDRAWAL:
		return "WITHDRAWAL"
	case pb.NotificationKind_NOTIFICATION_KIND_INVITATION, pb.NotificationKind_NOTIFICATION_KIND_REMINDER:
		switch {
		case isUnread:
			return "FOLLOW_UP"
		case of.Kind == pb.NotificationKind_NOTIFICATION_KIND_INVITATION:
			return "INVITATION"
		case of.Sequence <= 1:
			return "REMINDER_1"
		default:
			return "REMINDER_2"
		}
	default:
		return ""
	}
}

func (l language) addDays(values map[string]string, due *pb.DueNotification) error {
	days := map[string]string{"start": due.GetRequestedPeriod().GetStartDate(), "end": due.GetRequestedPeriod().GetEndDate()}
	if previous := due.PreviousSendTime; previous != nil {
		day, err := inSweden(previous)
		if err != nil {
			return err
		}
		days["previous"] = day
	}
	for name, day := range days {
		if day == "" {
			continue
		}
		date, err := time.Parse(time.DateOnly, day)
		if err != nil {
			return err
		}
		values[name] = fmt.Sprintf("%d %s %d", date.Day(), l.Months[date.Month()-1], date.Year())
	}
	return nil
}

func inSweden(at *timestamppb.Timestamp) (string, error) {
	place, err := time.LoadLocation("Europe/Stockholm")
	if err != nil {
		return "", err
	}
	return at.AsTime().In(place).Format(time.DateOnly), nil
}

func fill(line string, values map[string]string) (string, error) {
	var missing string
	filled := placeholder.ReplaceAllStringFunc(line, func(found string) string {
		value, is := values[strings.Trim(found, "{}")]
		if !is {
			missing = found
		}
		return value
	})
	if missing != "" {
		return "", fmt.Errorf("the text needs %s", missing)
	}
	return filled, nil
}
