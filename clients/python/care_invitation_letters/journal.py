"""The journal: which letters were begun, and which were handed over. It holds names of messages and times, and nothing of
patients. Keep it: it is what prevents that patients get a letter twice."""

import sqlite3
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """What the journal has of a letter."""

    is_sent: bool
    at: float


class Journal:
    """A file of SQLite, which one process at a time uses; another one waits."""

    def __init__(self, path: str):
        self._db = sqlite3.connect(path, timeout=600, isolation_level=None)
        self._db.execute("PRAGMA synchronous = FULL")
        # Held until the process ends: two runs of cron must not overlap.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("BEGIN EXCLUSIVE")
        self._db.execute("CREATE TABLE IF NOT EXISTS letter (name TEXT PRIMARY KEY, is_sent INTEGER NOT NULL, at REAL NOT NULL)")
        self._db.execute("CREATE TABLE IF NOT EXISTS journal (id INTEGER PRIMARY KEY, since REAL NOT NULL)")
        self._db.execute("INSERT OR IGNORE INTO journal VALUES (1, ?)", (time.time(),))
        (self.since,) = self._db.execute("SELECT since FROM journal").fetchone()
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Closes the journal, and lets another process in."""
        self._db.close()

    def look(self, name: str) -> Entry | None:
        """Returns what the journal has of a letter."""
        found = self._db.execute("SELECT is_sent, at FROM letter WHERE name = ?", (name,)).fetchone()
        return found and Entry(bool(found[0]), found[1])

    def begin(self, name: str) -> None:
        """Writes that a letter is about to be handed over. Durable when it returns."""
        self._write(name, False, time.time())

    def sent(self, name: str, at: float) -> None:
        """Writes that a letter was handed over. Durable when it returns."""
        self._write(name, True, at)

    def forget(self, name: str) -> None:
        """Removes a letter that was begun and not handed over. Durable when it returns."""
        self._db.execute("DELETE FROM letter WHERE name = ?", (name,))

    def _write(self, name: str, is_sent: bool, at: float) -> None:
        self._db.execute("INSERT OR REPLACE INTO letter VALUES (?, ?, ?)", (name, is_sent, at))
