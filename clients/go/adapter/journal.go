package adapter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // PostgreSQL
	_ "modernc.org/sqlite"             // SQLite, without C

	pb "careinvitation.se/careinvitation/v1"
)

// state is what the journal knows of a message.
type state int

// The states are stored: a number is never used for another one.
const (
	unknown  state = 0 // there is no entry
	begun    state = 1 // a hand-over was begun, and may be under way
	doubtful state = 2 // a hand-over has ended, and it is not known how
	sent     state = 3 // handed over
	// After staff had released the message, which excuses only what was known before.
	begunReleased    state = 4
	doubtfulReleased state = 5
)

// beginning returns the state of a message whose hand-over begins.
func beginning(due *pb.DueNotification) state {
	if due.ReleasedByStaff {
		return begunReleased
	}
	return begun
}

// ended returns the state after this one when the hand-over has ended, and it is not known how.
func (s state) ended() state {
	switch s {
	case begun:
		return doubtful
	case begunReleased:
		return doubtfulReleased
	case unknown, doubtful, sent, doubtfulReleased:
	}
	return s
}

// excused says whether staff have decided that a message with this state is to be handed over.
func (s state) excused(due *pb.DueNotification) bool {
	return due.ReleasedByStaff && s != begunReleased && s != doubtfulReleased
}

// entry is what the journal has of a message.
type entry struct {
	state state
	token string
	// at is when it was begun, by the clock of the journal's database, or when it was handed over.
	at time.Time
	// age is the time since then, by the same clock: replicas need not have the same time.
	age time.Duration
}

// Journal remembers what was begun and what was handed over. It holds names of messages and times, and nothing of
// patients. Keep it apart from the service's database, and keep it: it is what prevents that patients are written to
// twice.
type Journal struct {
	db         *sql.DB
	since      time.Time
	isPostgres bool
}

// isURL matches the URL of a PostgreSQL; any other place is a file.
var isURL = regexp.MustCompile("^postgres(ql)?://")

// OpenJournal opens a journal, and makes it when there is none: a file of SQLite, or a PostgreSQL at a URL that begins
// with postgres:// or postgresql://, which replicas on several machines share. Several processes may use one file on one machine.
func OpenJournal(ctx context.Context, place string) (*Journal, error) {
	if place == "" {
		return nil, errors.New("the journal has no place: JOURNAL is a file, or the URL of a PostgreSQL")
	}
	journal := &Journal{isPostgres: isURL.MatchString(place)}
	driver := "pgx"
	if !journal.isPostgres {
		driver = "sqlite"
		place = "file:" + place +
			"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate"
	}
	var err error
	if journal.db, err = sql.Open(driver, place); err != nil {
		return nil, fmt.Errorf("the journal cannot be opened: %w", err)
	}
	if !journal.isPostgres {
		journal.db.SetMaxOpenConns(1)
	}
	if err = journal.prepare(ctx); err != nil {
		_ = journal.db.Close()
		return nil, fmt.Errorf("the journal cannot be opened: %w", err)
	}
	return journal, nil
}

func (j *Journal) prepare(ctx context.Context) error {
	connection, err := j.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer connection.Close()
	if j.isPostgres {
		// Two that make the same table at once disturb each other.
		if _, err := connection.ExecContext(ctx, "SELECT pg_advisory_lock(4711092)"); err != nil {
			return err
		}
		defer connection.ExecContext(ctx, "SELECT pg_advisory_unlock(4711092)")
	}
	for _, statement := range []string{
		`CREATE TABLE IF NOT EXISTS handed_over (
			name TEXT PRIMARY KEY, state BIGINT NOT NULL, token TEXT NOT NULL, at_micros BIGINT NOT NULL)`,
		`CREATE TABLE IF NOT EXISTS journal (id BIGINT PRIMARY KEY, since_micros BIGINT NOT NULL)`,
	} {
		if _, err := connection.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	made := "INSERT INTO journal (id, since_micros) VALUES (1, " + j.now() + ") ON CONFLICT DO NOTHING"
	if _, err := connection.ExecContext(ctx, made); err != nil {
		return err
	}
	var since int64
	if err := connection.QueryRowContext(ctx, "SELECT since_micros FROM journal").Scan(&since); err != nil {
		return err
	}
	j.since = time.UnixMicro(since)
	return nil
}

// Close closes the journal.
func (j *Journal) Close() error { return j.db.Close() }

// Forget deletes what was handed over before this time, for keeping the journal small: never less than a year ago,
// since the service asks about requests for as long as it has them.
func (j *Journal) Forget(ctx context.Context, before time.Time) error {
	_, err := j.exec(ctx, "DELETE FROM handed_over WHERE state = ? AND at_micros < ?", sent, before.UnixMicro())
	return err
}

func (j *Journal) look(ctx context.Context, name string) (entry, error) {
	var found entry
	var at, now int64
	query := j.sql("SELECT state, token, at_micros, " + j.now() + " FROM handed_over WHERE name = ?")
	err := j.db.QueryRowContext(ctx, query, name).Scan(&found.state, &found.token, &at, &now)
	if errors.Is(err, sql.ErrNoRows) {
		return entry{}, nil
	}
	found.at, found.age = time.UnixMicro(at), time.Duration(now-at)*time.Microsecond
	return found, err
}

// begin writes that a hand-over begins now, if the entry is still as it was. It says whether that was so.
func (j *Journal) begin(ctx context.Context, name string, was, is entry) (bool, error) {
	if was.state == unknown {
		return j.exec(ctx, "INSERT INTO handed_over (name, state, token, at_micros) VALUES (?, ?, ?, "+j.now()+
			") ON CONFLICT DO NOTHING", name, is.state, is.token)
	}
	return j.exec(ctx, "UPDATE handed_over SET state = ?, token = ?, at_micros = "+j.now()+
		" WHERE name = ? AND state = ? AND token = ? AND at_micros = ?",
		is.state, is.token, name, was.state, was.token, was.at.UnixMicro())
}

// forget writes that the hand-over of this entry did not take place.
func (j *Journal) forget(ctx context.Context, name string, of entry) error {
	_, err := j.exec(ctx, "DELETE FROM handed_over WHERE name = ? AND token = ? AND state = ?", name, of.token, of.state)
	return err
}

// turn writes another state of an entry, if it is still as it was.
func (j *Journal) turn(ctx context.Context, name string, of entry, to state) error {
	_, err := j.exec(ctx, "UPDATE handed_over SET state = ? WHERE name = ? AND token = ? AND state = ?",
		to, name, of.token, of.state)
	return err
}

// sent writes that a message was handed over.
func (j *Journal) sent(ctx context.Context, name string, at time.Time) error {
	_, err := j.exec(ctx, "UPDATE handed_over SET state = ?, at_micros = ? WHERE name = ? AND state <> ?",
		sent, at.UnixMicro(), name, sent)
	return err
}

// exec executes a statement and says whether it changed a row. It is durable then.
func (j *Journal) exec(ctx context.Context, statement string, values ...any) (bool, error) {
	result, err := j.db.ExecContext(ctx, j.sql(statement), values...)
	if err != nil {
		return false, err
	}
	count, err := result.RowsAffected()
	return count > 0, err
}

// now returns the expression for the time of the database in microseconds. A file is on one machine, whose clock this is.
func (j *Journal) now() string {
	if j.isPostgres {
		return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
	}
	return "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
}

// sql returns a statement as the database writes its parameters.
func (j *Journal) sql(statement string) string {
	if !j.isPostgres {
		return statement
	}
	var written strings.Builder
	for number, part := range strings.Split(statement, "?") {
		if number > 0 {
			fmt.Fprintf(&written, "$%d", number)
		}
		written.WriteString(part)
	}
	return written.String()
}
