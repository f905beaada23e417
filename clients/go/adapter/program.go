package adapter

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Main is the main function of a program that runs until SIGTERM or an interrupt, which end ctx. A failure is logged, and
// the exit code is 1.
func Main(run func(ctx context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("the program has failed", "error", err)
		os.Exit(1)
	}
}
