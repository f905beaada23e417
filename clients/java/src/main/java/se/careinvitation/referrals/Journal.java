package se.careinvitation.referrals;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;

/**
 * The writes that were begun and what came of them, in a file of SQLite. Each is durable before it
 * is sent, so that a crash repeats it as it was. Two programs on one journal do no harm: they send
 * the same writes. Beside them it has the place in the stream of changes.
 *
 * <p>Until {@link #forget} a write is kept as it was sent, identity numbers included: keep the file
 * as the referral system's own data is kept.
 */
class Journal implements AutoCloseable {
  private final Connection connection;

  /**
   * A write.
   *
   * @param event the id of its event
   * @param referral the referral's id, if it is about one
   * @param call the message that is sent
   * @param outcome what came of it, as it was printed; empty until that is known
   */
  record Entry(String event, String referral, Any call, Optional<String> outcome) {}

  /** Opens a journal, and makes it when there is none. */
  Journal(Path file) throws SQLException {
    connection = DriverManager.getConnection("jdbc:sqlite:" + file);
    try (Statement statement = connection.createStatement()) {
      statement.execute("PRAGMA busy_timeout = 10000");
      statement.execute("PRAGMA journal_mode = WAL");
      statement.execute("PRAGMA synchronous = FULL");
      statement.execute("PRAGMA secure_delete = ON"); // What is forgotten is overwritten.
      statement.execute(
          """
          CREATE TABLE IF NOT EXISTS event (
            id TEXT PRIMARY KEY, referral TEXT, call BLOB NOT NULL, outcome TEXT, at_millis INTEGER NOT NULL)\
          """);
      statement.execute(
          "CREATE TABLE IF NOT EXISTS booking_request (referral TEXT PRIMARY KEY, name TEXT NOT"
              + " NULL)");
      statement.execute(
          "CREATE INDEX IF NOT EXISTS booking_request_name ON booking_request (name)");
      statement.execute(
          "CREATE TABLE IF NOT EXISTS place (id INTEGER PRIMARY KEY, cursor TEXT NOT NULL)");
    }
  }

  /** Returns the write of an event, if it was begun. */
  Optional<Entry> find(String event) throws SQLException {
    try (PreparedStatement select =
        connection.prepareStatement("SELECT referral, call, outcome FROM event WHERE id = ?")) {
      select.setString(1, event);
      ResultSet row = select.executeQuery();
      if (!row.next()) {
        return Optional.empty();
      }
      return Optional.of(
          new Entry(
              event,
              row.getString(1),
              Any.parseFrom(row.getBytes(2)),
              Optional.ofNullable(row.getString(3))));
    } catch (InvalidProtocolBufferException damaged) {
      throw new SQLException("a write in the journal is damaged", damaged);
    }
  }

  /**
   * Begins a write, and returns it; the one that is there when another program was first. Durable
   * when it returns.
   */
  Entry begin(String event, String referral, Any call) throws SQLException {
    update(
        "INSERT INTO event (id, referral, call, at_millis) VALUES (?, ?, ?, ?) ON CONFLICT DO"
            + " NOTHING",
        event,
        referral,
        call.toByteArray(),
        Instant.now().toEpochMilli());
    return find(event).orElseThrow();
  }

  /** Writes what came of a write. Durable when it returns. */
  void end(String event, String outcome) throws SQLException {
    update("UPDATE event SET outcome = ? WHERE id = ?", outcome, event);
  }

  /** Returns the name of a referral's booking request, if it has one. */
  Optional<String> nameOf(String referral) throws SQLException {
    return text("SELECT name FROM booking_request WHERE referral = ?", referral);
  }

  /** Returns the referral of a booking request, if it was created for one of this journal. */
  Optional<String> referralOf(String name) throws SQLException {
    return text("SELECT referral FROM booking_request WHERE name = ?", name);
  }

  /** Returns the names of all booking requests, by their referrals. */
  Map<String, String> names() throws SQLException {
    Map<String, String> names = new LinkedHashMap<>();
    try (Statement select = connection.createStatement()) {
      ResultSet row =
          select.executeQuery("SELECT referral, name FROM booking_request ORDER BY referral");
      while (row.next()) {
        names.put(row.getString(1), row.getString(2));
      }
    }
    return names;
  }

  /** Returns the place in the stream of changes; empty when there is none. */
  String cursor() throws SQLException {
    return text("SELECT cursor FROM place WHERE id = ?", 1).orElse("");
  }

  /** Keeps the place in the stream of changes. Durable when it returns. */
  void keep(String cursor) throws SQLException {
    update("INSERT OR REPLACE INTO place VALUES (1, ?)", cursor);
  }

  private Optional<String> text(String query, Object value) throws SQLException {
    try (PreparedStatement select = connection.prepareStatement(query)) {
      select.setObject(1, value);
      ResultSet row = select.executeQuery();
      return row.next() ? Optional.of(row.getString(1)) : Optional.empty();
    }
  }

  /** Writes which booking request a referral has. Durable when it returns. */
  void name(String referral, String name) throws SQLException {
    update("INSERT OR REPLACE INTO booking_request VALUES (?, ?)", referral, name);
  }

  /**
   * Forgets what was sent before this time, and that alone: the events are still known, with what
   * came of them.
   */
  void forget(Instant before) throws SQLException {
    update(
        "UPDATE event SET call = x'' WHERE outcome IS NOT NULL AND at_millis < ?",
        before.toEpochMilli());
  }

  private void update(String statement, Object... values) throws SQLException {
    try (PreparedStatement update = connection.prepareStatement(statement)) {
      for (int number = 0; number < values.length; number++) {
        update.setObject(number + 1, values[number]);
      }
      update.executeUpdate();
    }
  }

  @Override
  public void close() throws SQLException {
    connection.close();
  }
}
