package se.careinvitation.referrals;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static se.careinvitation.referrals.TestService.accepted;

import com.google.protobuf.Any;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.SQLException;
import java.time.Instant;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;
import se.careinvitation.v1.BookingRequest;
import se.careinvitation.v1.CancelReason;
import se.careinvitation.v1.Protection;

class ReferralsTest extends WithService {
  private Outcome handle(String line) throws Exception {
    return referrals.handle(Event.parse(line));
  }

  @Test
  void anAcceptedReferralBecomesAnInvitation() throws Exception {
    Outcome outcome = handle(accepted("R-1"));
    assertEquals("STATE_INVITED", outcome.state());
    Reading reading = Reading.of("R-1", referrals.read("R-1").orElseThrow());
    assertEquals(outcome.name(), reading.name());
    assertTrue(reading.allowedActions().contains("ACTION_CANCEL"), reading.toLine());
    assertEquals(
        new Reading.Message("NOTIFICATION_KIND_INVITATION", "STATE_SCHEDULED", TestService.NOW),
        reading.messages().get(0));
    assertEquals(3, reading.messages().size());
  }

  @Test
  void theSameEventMakesNothingTwice() throws Exception {
    Outcome first = handle(accepted("R-1"));
    assertEquals(first, handle(accepted("R-1")));
    // Nor with a journal that is lost: the request_id is the same.
    journal.close();
    journal = new Journal(folder.resolve("new.db"));
    referrals = new Referrals(channel, journal);
    assertEquals(first, handle(accepted("R-1")));
    assertEquals(1, TestService.invitations(channel).size());
  }

  @Test
  void aReferralIsInvitedLaterAndThenWithdrawn() throws Exception {
    assertEquals("STATE_REQUESTED", handle(accepted("R-1").replace("true", "false")).state());
    assertEquals(
        "STATE_INVITED",
        handle(
                "{'id': '2', 'kind': 'INVITE', 'referral': 'R-1', 'from': '2026-04-01', 'to':"
                    + " '2026-05-29'}")
            .state());
    BookingRequest invited = referrals.read("R-1").orElseThrow();
    assertEquals("2026-05-29", invited.getConstraints().getRequestedPeriod().getEndDate());
    assertEquals(
        "STATE_CANCELLED", handle("{'id': '3', 'kind': 'WITHDRAWN', 'referral': 'R-1'}").state());
    BookingRequest cancelled = referrals.read("R-1").orElseThrow();
    assertEquals(CancelReason.CANCEL_REASON_REFERRAL_WITHDRAWN, cancelled.getCancelReason());
  }

  @Test
  void whatIsLearnedOfAPatientReachesTheirRequestsAndNothingElseIsCleared() throws Exception {
    String name = handle(accepted("R-1")).name();
    String patient = "{'id': '%s', 'kind': 'PATIENT', 'personalId': '198003012385', %s}";
    assertEquals(
        List.of(name),
        handle(patient.formatted("2", "'protection': 'CONFIDENTIALITY_MARKED'")).names());
    assertEquals(List.of(name), handle(patient.formatted("3", "'language': 'fi'")).names());
    BookingRequest request = referrals.read("R-1").orElseThrow();
    assertEquals("fi", request.getPatient().getPreferredLanguage());
    assertEquals(
        Protection.PROTECTION_CONFIDENTIALITY_MARKED, request.getPatient().getProtection());
    assertEquals(List.of(name), handle(patient.formatted("4", "'deceased': true")).names());
    assertEquals(
        BookingRequest.State.STATE_CANCELLED, referrals.read("R-1").orElseThrow().getState());
    Event unknown = Event.parse(patient.formatted("5", "'protection': 'CONFIDENTIAL'"));
    assertThrows(IllegalArgumentException.class, () -> referrals.handle(unknown));
  }

  @Test
  void aDuplicateIsRefusedWithTheNameOfTheOther() throws Exception {
    String name = handle(accepted("R-1")).name();
    Outcome duplicate = handle(accepted("R-1").replace("accepted-R-1", "again"));
    assertEquals("DUPLICATE_REQUEST", duplicate.refused());
    assertEquals(name, duplicate.metadata().get("name"));
  }

  @Test
  void aRefusalIsWrittenDownAndTheNextEventIsHandled() throws Exception {
    Outcome refused = handle(accepted("R-1").replace("2026-03-16", "2026-02-16"));
    assertEquals("FIELD_INVALID", refused.refused());
    assertEquals(
        Set.of("booking_request.constraints.requested_period.start_date"),
        refused.fields().keySet());
    assertEquals(refused, handle(accepted("R-1").replace("2026-03-16", "2026-02-16")));
    assertEquals(
        "REFERRAL_UNKNOWN",
        handle("{'id': '2', 'kind': 'WITHDRAWN', 'referral': 'R-1'}").refused());
    assertNotNull(handle(accepted("R-2")).name());
    assertEquals(
        "STATE_CANCELLED", handle("{'id': '3', 'kind': 'WITHDRAWN', 'referral': 'R-2'}").state());
    Outcome conflict = handle("{'id': '4', 'kind': 'WITHDRAWN', 'referral': 'R-2'}");
    assertEquals("STATE_CONFLICT", conflict.refused());
    assertEquals("CANCELLED", conflict.metadata().get("state"));
  }

  @Test
  void linesThatAreNotEventsAreRefusedWithoutBeingQuoted() {
    for (String line :
        List.of(
            "198003012385",
            "{'id': '1'",
            "{'id': '1', 'kind': 'BORN'}",
            "{'kind': 'INVITE'}",
            "{'id': '1', 'kind': 'INVITE'}")) {
      Exception refused = assertThrows(IllegalArgumentException.class, () -> Event.parse(line));
      assertFalse(refused.getMessage().contains("198003012385"), refused.getMessage());
    }
  }

  @Test
  void wrongValuesAndUnknownKeysAreRefusedAndNotReadAsFalse() {
    String event = "{'id': '1', 'kind': 'ACCEPTED', 'referral': 'R-1', %s}";
    for (String key : List.of("invite", "deceased")) {
      for (String value : List.of("'yes'", "'true'", "1", "null", "[true]")) {
        String line = event.formatted("'" + key + "': " + value);
        Exception refused = assertThrows(IllegalArgumentException.class, () -> Event.parse(line));
        assertEquals("its " + key + " is neither true nor false", refused.getMessage());
      }
    }
    String misspelt = event.formatted("'invited': true");
    assertThrows(IllegalArgumentException.class, () -> Event.parse(misspelt));
    assertTrue(Event.parse(event.formatted("'invite': true")).invite());
    assertFalse(Event.parse(event.formatted("'invite': false")).invite());
  }

  /** An end of the program between two steps. */
  private static final class Ended extends RuntimeException {}

  @Test
  void anEndBetweenAnyTwoStepsMakesNothingTwice() throws Exception {
    Set<String> names = new TreeSet<>();
    List<String> steps =
        List.of(
            "before begin", "after begin", "before name", "after name", "before end", "after end");
    for (String step : steps) {
      String line = accepted("R-" + step.replace(' ', '-'));
      try (Journal ending = new EndingJournal(folder.resolve("journal.db"), step)) {
        assertThrows(Ended.class, () -> new Referrals(channel, ending).handle(Event.parse(line)));
      }
      names.add(handle(line).name());
    }
    assertEquals(steps.size(), names.size());
    assertEquals(steps.size(), TestService.invitations(channel).size());
  }

  @Test
  void whatWasSentIsForgottenAndWhatCameOfItIsNot() throws Exception {
    Outcome outcome = handle(accepted("R-1"));
    journal.forget(Instant.now().plusSeconds(1));
    assertEquals(Any.getDefaultInstance(), journal.find("accepted-R-1").orElseThrow().call());
    assertEquals(outcome, handle(accepted("R-1")));
    assertNull(outcome.refused());
    journal.close();
    assertFalse(
        Files.readString(folder.resolve("journal.db"), ISO_8859_1).contains("198003012385"));
  }

  /** A journal at one of whose steps the program ends. */
  private static final class EndingJournal extends Journal {
    private final String step;

    EndingJournal(Path file, String step) throws SQLException {
      super(file);
      this.step = step;
    }

    private void at(String now) {
      if (now.equals(step)) {
        throw new Ended();
      }
    }

    @Override
    Entry begin(String event, String referral, Any call) throws SQLException {
      at("before begin");
      Entry entry = super.begin(event, referral, call);
      at("after begin");
      return entry;
    }

    @Override
    void name(String referral, String name) throws SQLException {
      at("before name");
      super.name(referral, name);
      at("after name");
    }

    @Override
    void end(String event, String outcome) throws SQLException {
      at("before end");
      super.end(event, outcome);
      at("after end");
    }
  }
}
