// Command webhook posts what changes in booking requests to an address. Its settings are variables: those of adapter.Dial,
// WEBHOOK_URL, WEBHOOK_KEY_FILE, a file with the secret that the receiver has too, as webhook.ParseKey takes it, CURSOR_FILE,
// which keeps the place in the stream, and CARE_UNITS, names with commas between them, without which it is all that the caller may see.
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"

	"careinvitation.se/adapter"
	"careinvitation.se/webhook"
)

func main() { adapter.Main(run) }

func run(ctx context.Context) error {
	secret, err := os.ReadFile(os.Getenv("WEBHOOK_KEY_FILE"))
	if err != nil {
		return fmt.Errorf("WEBHOOK_KEY_FILE: %w", err)
	}
	key, err := webhook.ParseKey(secret)
	if err != nil {
		return err
	}
	connection, err := adapter.Dial()
	if err != nil {
		return err
	}
	defer connection.Close()
	units := cmp.Or(os.Getenv("CARE_UNITS"), "careUnits/-")
	return webhook.Run(ctx, webhook.Config{Conn: connection, CareUnits: strings.Split(units, ","),
		URL: os.Getenv("WEBHOOK_URL"), Key: key, CursorFile: os.Getenv("CURSOR_FILE")})
}
