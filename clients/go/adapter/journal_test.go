package adapter

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"
)

func TestAgesAreByTheClockOfTheDatabaseThatReplicasShare(t *testing.T) {
	t.Parallel()
	place := os.Getenv("TEST_JOURNAL_URL")
	if place == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("TEST_JOURNAL_URL is not set")
		}
		t.Skip("TEST_JOURNAL_URL is not set")
	}
	database, err := sql.Open("pgx", place)
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	// Makes the clock of the database so many hours fast, for those whose search path says so.
	ahead := func(hours int) {
		t.Helper()
		_, err := database.ExecContext(t.Context(), fmt.Sprintf(`CREATE SCHEMA IF NOT EXISTS fast;
			CREATE OR REPLACE FUNCTION fast.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
			AS 'SELECT pg_catalog.clock_timestamp() + interval ''%d hours'''`, hours))
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := database.ExecContext(t.Context(), "DROP SCHEMA IF EXISTS fast CASCADE"); err != nil {
		t.Fatal(err)
	}
	ahead(1)
	fast, err := url.Parse(place)
	if err != nil {
		t.Fatal(err)
	}
	with := fast.Query()
	with.Set("search_path", "fast,pg_catalog")
	fast.RawQuery = with.Encode()
	journal, err := OpenJournal(t.Context(), fast.String())
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	name := "a message of " + time.Now().String()
	if first, err := journal.begin(t.Context(), name, entry{}, entry{state: begun, token: "1"}); !first || err != nil {
		t.Fatalf("%t, %v", first, err)
	}
	for hours := range 3 {
		ahead(1 + hours)
		found, err := journal.look(t.Context(), name)
		if err != nil || found.age.Round(time.Hour) != time.Duration(hours)*time.Hour {
			t.Errorf("begun %d hours ago by the database's clock: %v, %v", hours, found.age, err)
		}
	}
	if until := time.Until(journal.since).Round(time.Hour); until != time.Hour {
		t.Errorf("made %v from now, by a clock that is an hour fast", until)
	}
}
