// Package webhook posts what changes in booking requests to an address, signed, and goes on where it stopped. It is an
// example of how docs/changes.md is used.
//
// The headers are those of Standard Webhooks: webhook-id, webhook-timestamp and webhook-signature, which is "v1," and the
// HMAC-SHA256 of "id.timestamp.body" in base64; secrets are written as theirs, see ParseKey. The id is the same when a message is posted again. After a restart some changes come
// again in messages with other ids: the receiver goes by the etag of each.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	pb "careinvitation.se/careinvitation/v1"
	"careinvitation.se/problem"
)

const (
	// silenceMax is the time without anything after which the stream is opened again.
	silenceMax = 90 * time.Second
	// postMax is the time that a receiver has to answer.
	postMax = 10 * time.Second
)

// Config says what is posted where.
type Config struct {
	Conn *grpc.ClientConn
	// CareUnits are names of care units, or careUnits/- alone.
	CareUnits []string
	// URL is posted to. Key is the secret that the receiver has too, as [ParseKey] returns it.
	URL string
	Key []byte
	// CursorFile keeps the place in the stream. The stream begins now when there is no such file yet.
	CursorFile string
	// PauseMin and PauseMax are the pauses between two attempts, which double: a second and five minutes if they are not set.
	PauseMin, PauseMax time.Duration
	Log                *slog.Logger
}

var (
	// errRefused is the answer of a receiver that another attempt does not change.
	errRefused = errors.New("the receiver refuses what is posted")
	// errCursor is a cursor that cannot be kept: what changed while nothing runs would be lost.
	errCursor = errors.New("the cursor cannot be kept")
)

// client follows no redirect: most of them turn a post into a GET, whose 200 says nothing of what was posted.
var client = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Run posts changes until the context ends. It fails when somebody has to decide: a setting is missing, the receiver
// refuses what is posted, the cursor has expired or cannot be kept, or the call is wrong.
func Run(ctx context.Context, config Config) error {
	if address, err := url.Parse(config.URL); err != nil || address.Host == "" {
		return errors.New("WEBHOOK_URL is no address to post to: it begins with https://")
	}
	if config.CursorFile == "" {
		return errors.New("CURSOR_FILE is not set: the file that keeps the place in the stream")
	}
	if len(config.Key) == 0 {
		return errors.New("there is no key to sign with")
	}
	if config.PauseMin == 0 {
		config.PauseMin, config.PauseMax = time.Second, 5*time.Minute
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	err := config.repeat(ctx, func() error { return config.follow(ctx) })
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// follow opens the stream after the cursor and posts what it tells, until it ends.
func (c Config) follow(ctx context.Context) error {
	cursor, err := os.ReadFile(c.CursorFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", errCursor, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(silenceMax, cancel)
	defer silence.Stop()
	stream, err := pb.NewBookingRequestServiceClient(c.Conn).StreamChanges(ctx,
		&pb.StreamChangesRequest{CareUnits: c.CareUnits, AfterCursor: string(cursor)})
	if err != nil {
		return err
	}
	for {
		told, err := stream.Recv()
		if err != nil {
			return err
		}
		silence.Stop()
		if len(told.Changes) > 0 {
			if err := c.deliver(ctx, told); err != nil {
				return err
			}
		}
		// Only now: what is posted twice after a crash does less harm than what is not posted.
		if err := replace(c.CursorFile, []byte(told.Cursor)); err != nil {
			return fmt.Errorf("%w: %w", errCursor, err)
		}
		silence.Reset(silenceMax)
	}
}

// deliver posts a message, again and again until the receiver has taken it.
func (c Config) deliver(ctx context.Context, told *pb.StreamChangesResponse) error {
	var changes []json.RawMessage
	for _, change := range told.Changes {
		encoded, err := protojson.Marshal(change)
		if err != nil {
			return err
		}
		changes = append(changes, encoded)
	}
	body, err := json.Marshal(map[string]any{"type": "booking_request.changed", "data": map[string]any{"changes": changes}})
	if err != nil {
		return err
	}
	digest := sha256.Sum256(body)
	id := "msg_" + hex.EncodeToString(digest[:16])
	return c.repeat(ctx, func() error { return c.post(ctx, id, body) })
}

func (c Config) post(ctx context.Context, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, postMax)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Webhook-Id", id)
	request.Header.Set("Webhook-Timestamp", now)
	request.Header.Set("Webhook-Signature", Sign(c.Key, id, now, body))
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	_ = answer.Body.Close()
	switch code := answer.StatusCode; {
	case code/100 == 2:
		return nil
	case code/100 == 4 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests:
		return fmt.Errorf("%w: %s", errRefused, answer.Status)
	default:
		return errors.New(answer.Status)
	}
}

// ParseKey returns the key of a secret of Standard Webhooks, `whsec_` and the key in base64, which may end with a newline.
func ParseKey(secret []byte) ([]byte, error) {
	encoded, is := strings.CutPrefix(strings.TrimRight(string(secret), "\r\n"), "whsec_")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !is || err != nil || len(key) == 0 {
		return nil, errors.New("the key is not whsec_ and base64: printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\" makes one")
	}
	return key, nil
}

// Sign returns the signature of a message.
func Sign(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(strings.Join([]string{id, timestamp, ""}, ".")))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// repeat makes an attempt until it succeeds; it fails when the context ends or somebody has to decide.
func (c Config) repeat(ctx context.Context, attempt func() error) error {
	for pause := c.PauseMin; ; pause = min(2*pause, c.PauseMax) {
		begun := time.Now()
		err := attempt()
		reason, _ := problem.Of(err)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errRefused) || errors.Is(err, errCursor),
			reason == "CURSOR_EXPIRED" || reason == "PAGE_TOKEN_INVALID" || reason == "FIELD_INVALID":
			return err
		case time.Since(begun) > c.PauseMax:
			// It has gone well for long.
			pause = c.PauseMin
		}
		c.Log.Warn("tried again soon", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// replace writes a file whole or not at all. Durable when it returns.
func replace(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	if _, err := file.Write(content); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
