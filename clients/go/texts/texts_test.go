package texts

import (
	"strings"
	"testing"
	"time"

	pb "careinvitation.se/careinvitation/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const folder = "../../texts"

var values = map[string]string{"care_unit": "Öronmottagningen", "phone": "08-465 004 00", "name": "Åsa Ödmark"}

func due(kind pb.NotificationKind, channel pb.DeliveryChannel) *pb.DueNotification {
	return &pb.DueNotification{
		Notification:     &pb.Notification{Kind: kind, Channel: channel},
		RequestedPeriod:  &pb.DateInterval{StartDate: "2026-05-18", EndDate: "2026-06-12"},
		PreviousSendTime: timestamppb.New(time.Date(2026, 5, 3, 22, 30, 0, 0, time.UTC)),
	}
}

func TestThereIsATextForEveryCombination(t *testing.T) {
	texts, err := Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, channel := range []pb.DeliveryChannel{pb.DeliveryChannel_DELIVERY_CHANNEL_INBOX, pb.DeliveryChannel_DELIVERY_CHANNEL_LETTER} {
		for number := range 5 {
			kinds := []pb.NotificationKind{1, 2, 2, 3, 1}
			message := due(kinds[number], channel)
			message.Notification.Sequence = int32(number)
			if number == 4 {
				message.Notification.ChannelReason = pb.ChannelReason_CHANNEL_REASON_UNREAD
			}
			for addressee := pb.Addressee(1); addressee <= 3; addressee++ {
				for _, form := range []pb.LetterFormat{pb.LetterFormat_LETTER_FORMAT_STANDARD, pb.LetterFormat_LETTER_FORMAT_EASY_READ} {
					for _, language := range []string{"sv", "en-GB"} {
						message.Addressee, message.LetterFormat, message.Language = addressee, form, language
						text, err := texts.Of(message, values)
						if err != nil {
							t.Fatalf("%v: %v", message, err)
						}
						whole := text.Heading + "\n" + strings.Join(text.Paragraphs, "\n")
						if strings.ContainsAny(whole, "{}") {
							t.Errorf("not filled in: %s", whole)
						}
						seen[channel.String()+whole] = true
					}
				}
			}
		}
	}
	if len(seen) != 2*5*3*2*2 {
		t.Errorf("%d texts", len(seen))
	}
}

func TestADayIsWrittenAsPeopleWriteIt(t *testing.T) {
	texts, err := Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	reminder := due(pb.NotificationKind_NOTIFICATION_KIND_REMINDER, pb.DeliveryChannel_DELIVERY_CHANNEL_LETTER)
	text, err := texts.Of(reminder, values)
	if err != nil || !strings.Contains(text.Paragraphs[0], "den 4 maj 2026") {
		t.Errorf("%v %v", text, err)
	}
	reminder.PreviousSendTime = nil
	if _, err := texts.Of(reminder, values); err == nil {
		t.Error("the text needs a day that is not there")
	}
	reminder.Notification.Kind = 99
	if _, err := texts.Of(reminder, values); err == nil {
		t.Error("nothing is known of such a kind")
	}
}
