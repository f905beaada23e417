// Package adapter takes due messages from the stream of a care invitation service, hands each over once, and
// acknowledges it, as docs/consumers.md asks. A program gives it a function that hands over.
//
// Each message takes these steps, whatever happens between any two of them, in this process or another:
//
//	look it up in the journal      known: acknowledge SENT with the journal's time
//	ask AuthorizeDispatch          refused: leave it
//	write "begun" in the journal   another process was first: leave it to that one
//	Deliver
//	write "sent" in the journal
//	acknowledge SENT
package adapter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "careinvitation.se/careinvitation/v1"
)

const (
	// silenceMax is the longest time without a message or a heartbeat: then the stream is opened again.
	silenceMax = 90 * time.Second
	// pauseMin and pauseMax bound the pauses between attempts, which double.
	pauseMin, pauseMax = 500 * time.Millisecond, 30 * time.Second
	// repeatMax is the longest time for which a call is repeated: the journal knows what could not be told.
	repeatMax = 2 * time.Minute
	// callMax is the longest time for one call.
	callMax = 10 * time.Second
	// lateMax is the time after DeliverMax in which a hand-over that has ended is written to the journal.
	lateMax = 5 * time.Second
	// overrunMax is the time after DeliverMax for which a function of the program is waited for.
	overrunMax = 2 * time.Second
)

// Config is what an adapter is made of. Deliver is required.
type Config struct {
	// Conn is the connection to the service; that of [Dial] when nil.
	Conn grpc.ClientConnInterface
	// Journal remembers what was handed over. Replicas of an adapter share one. The one that the variable JOURNAL names,
	// as [OpenJournal] takes it, when nil.
	Journal *Journal
	// Deliver hands a message over. nil says that it was handed over. Otherwise the error says what is known:
	// [Unreachable], [Park] or [NotSent]; any other error says that it may have been handed over, which is what a
	// time-out means, and a panic too. The context ends after DeliverMax, and Deliver must return soon then: it is not
	// waited for, but it may still hand over what the kit counts as ended.
	Deliver func(ctx context.Context, due *pb.DueNotification) error
	// Delivered asks the provider whether a message of which that is not known was handed over, and when. Optional:
	// without it such a message is parked, after which staff decide.
	Delivered func(ctx context.Context, due *pb.DueNotification) (at time.Time, sent bool, err error)
	// Channels to serve; all when empty.
	Channels []pb.DeliveryChannel
	// CareUnits to serve, `careUnits/{HSA-id}`; all when empty.
	CareUnits []string
	// DeliverMax is the longest time for Deliver; 30 seconds when it is 0, at most 50.
	DeliverMax time.Duration
	// Workers is the number of messages that are handed over at once; 8 when it is 0.
	Workers int
	// UntilIdle ends Run when nothing is due, for scheduled jobs.
	UntilIdle bool
	// AwayMax is the longest time for which a run with UntilIdle tries again when the service does not answer or refuses
	// its token; 2 minutes when it is 0. A stream that is open and silent is waited for 90 seconds.
	AwayMax time.Duration
	// JournalCompleteSince is the time before which entries may be missing from the journal, when that is later than
	// the time at which the journal was made: after it was restored from a copy.
	JournalCompleteSince time.Time
	// Log takes a line for all that staff or operators may ask about; slog's default when nil.
	Log *slog.Logger
}

// outcome is an error of Deliver that says what is known.
type outcome struct {
	is    pb.Acknowledgement_Outcome
	cause string
	wait  time.Duration
}

func (o *outcome) Error() string { return o.cause }

// Unreachable says that the channel does not reach this patient: a letter follows.
func Unreachable(cause string) error {
	return &outcome{is: pb.Acknowledgement_OUTCOME_UNREACHABLE, cause: cause}
}

// Park says that something is wrong with this message: staff decide.
func Park(cause string) error {
	return &outcome{is: pb.Acknowledgement_OUTCOME_PARK, cause: cause}
}

// NotSent says that the message was certainly not handed over, and is to be tried again after this time; 0 leaves the
// time to the service.
func NotSent(cause string, wait time.Duration) error {
	return &outcome{is: pb.Acknowledgement_OUTCOME_RETRY, cause: cause, wait: wait}
}

type adapter struct {
	Config
	client pb.NotificationServiceClient
	// delivering has the names of the messages with which Deliver is busy, also after its time.
	delivering sync.Map
}

// Run serves until ctx ends, or nothing is due with UntilIdle. Then it takes no more messages, gives back those that
// it has not begun, and returns when those that it has begun are done. It fails when a connection or a journal is missing
// and cannot be opened, or when the service refuses the stream for a reason that repeating does not mend. A missing right
// is such a reason with UntilIdle alone: without it rights and tokens are waited for, and each refusal is logged as an error.
func Run(ctx context.Context, config Config) error {
	if config.Journal == nil {
		journal, err := OpenJournal(ctx, os.Getenv("JOURNAL"))
		if err != nil {
			return err
		}
		defer journal.Close()
		config.Journal = journal
	}
	if config.Conn == nil {
		connection, err := Dial()
		if err != nil {
			return err
		}
		defer connection.Close()
		config.Conn = connection
	}
	if config.DeliverMax <= 0 {
		config.DeliverMax = 30 * time.Second
	}
	config.DeliverMax = min(config.DeliverMax, 50*time.Second)
	if config.AwayMax <= 0 {
		config.AwayMax = 2 * time.Minute
	}
	if config.Workers <= 0 {
		config.Workers = 8
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	a := &adapter{Config: config, client: pb.NewNotificationServiceClient(config.Conn)}
	return a.serve(ctx)
}

// serve hands messages over with several workers, and opens the stream again when it ends.
func (a *adapter) serve(ctx context.Context) error {
	queue := make(chan *pb.DueNotification)
	var workers sync.WaitGroup
	for range a.Workers {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for due := range queue {
				a.handle(ctx, due)
			}
		}()
	}
	defer workers.Wait()
	defer close(queue)
	pause, heard := pauseMin, time.Now()
	for {
		received, err := a.stream(ctx, queue)
		switch {
		case ctx.Err() != nil, err == io.EOF && a.UntilIdle:
			return nil
		case err != io.EOF && !canRepeat(err), a.UntilIdle && isForbidden(err):
			return err
		}
		if received {
			pause, heard = pauseMin, time.Now()
		}
		wait := jitter(pause)
		if a.UntilIdle {
			left := a.AwayMax - time.Since(heard)
			if left <= 0 {
				return fmt.Errorf("given up after %v: %w", a.AwayMax, err)
			}
			wait = min(wait, left)
		}
		if !received && needsSomebody(err) {
			a.Log.Error("the service refuses the stream: somebody has to give a right or a token", "error", err, "pause", wait)
		} else {
			a.Log.Warn("the stream has ended", "error", err, "pause", wait)
		}
		if !sleep(ctx, wait) {
			return nil
		}
		pause = min(2*pause, pauseMax)
	}
}

// stream opens the stream and queues what comes, until it ends. It says whether anything came.
func (a *adapter) stream(ctx context.Context, queue chan<- *pb.DueNotification) (received bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(silenceMax, cancel)
	defer silence.Stop()
	stream, err := a.client.StreamDueNotifications(ctx, &pb.StreamDueNotificationsRequest{
		Channels:         a.Channels,
		CareUnits:        a.CareUnits,
		MaxOutstanding:   int32(2 * a.Workers),
		UntilIdle:        a.UntilIdle,
		AlwaysAuthorizes: true,
	})
	if err != nil {
		return false, err
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return received, err
		}
		received = true
		silence.Reset(silenceMax)
		// What is revoked is not authorized: it need not be looked at here.
		if due := event.GetDue(); due != nil {
			queue <- due
			// The workers may have been busy for long.
			silence.Reset(silenceMax)
		}
	}
}

// handle takes one message through its steps. stop ends when the adapter is to stop: what has begun then is ended.
func (a *adapter) handle(stop context.Context, due *pb.DueNotification) {
	name := due.Notification.Name
	ctx := context.WithoutCancel(stop)
	log := a.Log.With("notification", name)
	if stop.Err() != nil {
		a.answer(ctx, due, NotSent("the consumer stops", time.Second))
		return
	}
	entry, err := a.Journal.look(ctx, name)
	if err != nil {
		log.Error("the journal cannot be read", "error", err)
		a.answer(ctx, due, NotSent("the consumer's journal cannot be read", 0))
		return
	}
	switch entry.state {
	case sent:
		a.sent(ctx, due, entry.at)
		return
	case begun, begunReleased:
		// The hand-over may be under way, in another process.
		if entry.age < a.DeliverMax+lateMax && !entry.state.excused(due) {
			a.answer(ctx, due, NotSent("a hand-over is under way", a.DeliverMax))
			return
		}
	}
	if entry.state != unknown && !entry.state.excused(due) {
		if !a.resolve(ctx, due, entry, log) {
			return
		}
	}
	if entry.state == unknown && due.PossibleRepeat && !due.ReleasedByStaff && a.mayMiss(due) {
		a.answer(ctx, due, Park("may have been handed over at a time of which the consumer's journal knows nothing"))
		return
	}
	a.handOver(ctx, due, entry, log)
}

// mayMiss says whether a hand-over of this message may be missing from the journal.
func (a *adapter) mayMiss(due *pb.DueNotification) bool {
	complete := a.Journal.since
	if a.JournalCompleteSince.After(complete) {
		complete = a.JournalCompleteSince
	}
	return due.Notification.DueTime.AsTime().Before(complete)
}

// resolve finds out whether a message that was begun was handed over. True says that it was not.
func (a *adapter) resolve(ctx context.Context, due *pb.DueNotification, entry entry, log *slog.Logger) bool {
	if a.Delivered == nil {
		log.Warn("parked: it may have been handed over")
		if a.answer(ctx, due, Park("the consumer began to hand it over and does not know whether it did")) {
			// When staff release it now, they know of all that was begun.
			a.write(ctx, log, func() error { return a.Journal.turn(ctx, due.Notification.Name, entry, doubtful) })
		}
		return false
	}
	var at time.Time
	var is bool
	err := a.limited(ctx, log, func(ctx context.Context) (err error) {
		at, is, err = a.Delivered(ctx, due)
		return err
	})
	switch {
	case err != nil:
		log.Warn("the provider does not say whether it has the message", "error", err)
		a.answer(ctx, due, NotSent("the provider does not say whether it has the message", 0))
		return false
	case is:
		a.recordSent(ctx, due, at, log)
	}
	return !is
}

// handOver asks for permission and hands a message over.
func (a *adapter) handOver(ctx context.Context, due *pb.DueNotification, was entry, log *slog.Logger) {
	if _, is := a.delivering.Load(due.Notification.Name); is {
		a.answer(ctx, due, NotSent("a hand-over is under way", a.DeliverMax))
		return
	}
	ends, ok := a.authorize(ctx, due, log)
	if !ok {
		return
	}
	if time.Until(ends) < a.DeliverMax {
		return // The call took too long: it is leased again, and asked for again.
	}
	name, is := due.Notification.Name, entry{state: beginning(due), token: due.LeaseToken}
	first, err := a.Journal.begin(ctx, name, was, is)
	if err != nil {
		log.Error("the journal cannot be written", "error", err)
		a.answer(ctx, due, NotSent("the consumer's journal cannot be written", 0))
		return
	}
	if !first {
		return // Another process has begun it, and answers.
	}
	a.delivering.Store(name, nil)
	err = a.limited(ctx, log, func(ctx context.Context) error {
		defer a.delivering.Delete(name)
		return a.Deliver(ctx, due)
	})
	var known *outcome
	switch {
	case err == nil:
		a.recordSent(ctx, due, time.Now(), log)
	case errors.As(err, &known):
		a.write(ctx, log, func() error { return a.Journal.forget(ctx, name, is) })
		a.answer(ctx, due, err)
	default:
		log.Warn("it may have been handed over", "error", err)
		a.write(ctx, log, func() error { return a.Journal.turn(ctx, name, is, is.state.ended()) })
		a.answer(ctx, due, err)
	}
}

// limited calls a function of the program, and fails when it panics or does not return soon after DeliverMax.
func (a *adapter) limited(ctx context.Context, log *slog.Logger, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.DeliverMax)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		defer func() {
			if it := recover(); it != nil {
				// Not its value, which may say something of a patient.
				log.Error("a panic", "type", fmt.Sprintf("%T", it), "stack", string(debug.Stack()))
				ended <- errors.New("it has panicked")
			}
		}()
		ended <- call(ctx)
	}()
	select {
	case err := <-ended:
		return err
	case <-time.After(a.DeliverMax + overrunMax):
		log.Error("not waited for: it does not return when its context has ended, and may still be busy")
		return errors.New("it has not returned in its time")
	}
}

// authorize asks for permission to hand a message over, and says when that ends by the local clock.
func (a *adapter) authorize(ctx context.Context, due *pb.DueNotification, log *slog.Logger) (time.Time, bool) {
	asked := time.Now()
	var answer *pb.AuthorizeDispatchResponse
	err := a.repeat(ctx, func(ctx context.Context) (err error) {
		asked = time.Now()
		answer, err = a.client.AuthorizeDispatch(ctx, &pb.AuthorizeDispatchRequest{Leases: []*pb.Lease{lease(due)}})
		return err
	})
	if err != nil {
		log.Warn("not authorized", "error", err)
		return time.Time{}, false
	}
	result := answer.Results[0]
	if !result.Authorized {
		log.Info("not wanted any more", "refusal", result.Refusal, "error", result.Error)
		return time.Time{}, false
	}
	return asked.Add(answer.ExpireTime.AsTime().Sub(answer.ServerTime.AsTime())), true
}

// recordSent writes to the journal that a message was handed over, and says so.
func (a *adapter) recordSent(ctx context.Context, due *pb.DueNotification, at time.Time, log *slog.Logger) {
	name := due.Notification.Name
	// Nothing is said to be sent that the journal does not know: after a repeat it would be asked for again.
	if a.write(ctx, log, func() error { return a.Journal.sent(ctx, name, at) }) {
		a.sent(ctx, due, at)
	}
}

func (a *adapter) sent(ctx context.Context, due *pb.DueNotification, at time.Time) {
	a.acknowledge(ctx, &pb.Acknowledgement{
		Lease:    lease(due),
		Outcome:  pb.Acknowledgement_OUTCOME_SENT,
		SendTime: timestamppb.New(at),
	})
}

// answer acknowledges a message that is not known to be handed over. It says whether that was recorded.
func (a *adapter) answer(ctx context.Context, due *pb.DueNotification, err error) bool {
	said := &pb.Acknowledgement{
		Lease:           lease(due),
		Outcome:         pb.Acknowledgement_OUTCOME_RETRY,
		Cause:           "the provider did not answer",
		MayHaveBeenSent: true,
	}
	var known *outcome
	if errors.As(err, &known) {
		said.Outcome, said.Cause, said.MayHaveBeenSent = known.is, known.cause, false
		if known.wait > 0 {
			said.RetryDelay = durationpb.New(known.wait)
		}
	}
	return a.acknowledge(ctx, said)
}

// acknowledge makes the call, and says whether it was recorded.
func (a *adapter) acknowledge(ctx context.Context, said *pb.Acknowledgement) bool {
	log := a.Log.With("notification", said.Lease.Name, "outcome", said.Outcome)
	var answer *pb.AcknowledgeNotificationsResponse
	err := a.repeat(ctx, func(ctx context.Context) (err error) {
		request := &pb.AcknowledgeNotificationsRequest{Acknowledgements: []*pb.Acknowledgement{said}}
		answer, err = a.client.AcknowledgeNotifications(ctx, request)
		return err
	})
	switch {
	case err != nil:
		log.Warn("not acknowledged: it comes again", "error", err)
	case !answer.Results[0].Recorded:
		log.Info("not recorded", "refusal", answer.Results[0].Refusal, "error", answer.Results[0].Error)
	default:
		log.Info("acknowledged", "cause", said.Cause)
		return true
	}
	return false
}

// write writes to the journal, again and again for as long as calls are repeated.
func (a *adapter) write(ctx context.Context, log *slog.Logger, attempt func() error) bool {
	until, pause := time.Now().Add(repeatMax), pauseMin
	for {
		err := attempt()
		if err == nil {
			return true
		}
		log.Error("the journal cannot be written", "error", err)
		if time.Now().After(until) || !sleep(ctx, jitter(pause)) {
			return false
		}
		pause = min(2*pause, pauseMax)
	}
}

// repeat makes a call until it succeeds, repeating does not help, or the time for that is over.
func (a *adapter) repeat(ctx context.Context, call func(context.Context) error) error {
	until, pause := time.Now().Add(repeatMax), pauseMin
	for {
		limited, cancel := context.WithTimeout(ctx, callMax)
		err := call(limited)
		cancel()
		if err == nil || !canRepeat(err) || time.Now().After(until) || !sleep(ctx, jitter(pause)) {
			return err
		}
		pause = min(2*pause, pauseMax)
	}
}

func lease(due *pb.DueNotification) *pb.Lease {
	return &pb.Lease{Name: due.Notification.Name, LeaseToken: due.LeaseToken}
}

// sleep waits, and says whether it was for the whole time.
func sleep(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// jitter returns between half and all of a pause.
func jitter(pause time.Duration) time.Duration {
	return pause/2 + rand.N(pause/2+1)
}
