// Command inbox is the adapter for the patient's inbox. Its settings are variables: those of adapter.Dial, JOURNAL, a
// file or a postgres:// URL, INBOX, the address of the inbox, and TEXTS, the folder with what patients are told, without
// which it is ../texts. SIGTERM ends it when what it has begun is done.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"careinvitation.se/adapter"
	pb "careinvitation.se/careinvitation/v1"
	"careinvitation.se/inbox"
	"careinvitation.se/texts"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("the adapter has failed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	journal, err := adapter.OpenJournal(ctx, os.Getenv("JOURNAL"))
	if err != nil {
		return err
	}
	defer journal.Close()
	connection, err := adapter.Dial()
	if err != nil {
		return err
	}
	defer connection.Close()
	folder := os.Getenv("TEXTS")
	if folder == "" {
		folder = "../texts"
	}
	written, err := texts.Load(folder)
	if err != nil {
		return err
	}
	box := inbox.Inbox{Address: os.Getenv("INBOX"), Texts: written}
	return adapter.Run(ctx, adapter.Config{Conn: connection, Journal: journal, Deliver: box.Deliver,
		Delivered: box.Delivered, Channels: []pb.DeliveryChannel{pb.DeliveryChannel_DELIVERY_CHANNEL_INBOX}})
}
