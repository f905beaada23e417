// Command inbox is the adapter for the patient's inbox. Its settings are variables: those of adapter.Dial, JOURNAL, a
// file or a postgres:// URL, INBOX, the address under which the inbox keeps messages, and TEXTS, the folder with what
// patients are told, without which it is ../texts. SIGTERM ends it when what it has begun is done.
package main

import (
	"cmp"
	"context"
	"os"

	"careinvitation.se/adapter"
	pb "careinvitation.se/careinvitation/v1"
	"careinvitation.se/inbox"
	"careinvitation.se/texts"
)

func main() { adapter.Main(run) }

func run(ctx context.Context) error {
	written, err := texts.Load(cmp.Or(os.Getenv("TEXTS"), "../texts"))
	if err != nil {
		return err
	}
	box := inbox.Inbox{Provider: adapter.Provider{Address: os.Getenv("INBOX")}, Texts: written}
	return adapter.Run(ctx, adapter.Config{Deliver: box.Deliver, Delivered: box.Delivered,
		Channels: []pb.DeliveryChannel{pb.DeliveryChannel_DELIVERY_CHANNEL_INBOX}})
}
