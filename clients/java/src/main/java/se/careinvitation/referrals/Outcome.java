package se.careinvitation.referrals;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.util.List;
import java.util.Map;
import se.careinvitation.v1.BookingRequest;

/**
 * What came of an event: a line of JSON for the referral system, without identity numbers. What is
 * absent is left out.
 *
 * @param event the event's id; when a request is read, the referral's
 * @param name the name of the booking request
 * @param state its state
 * @param names the requests that were changed, of an event about a patient
 * @param refused why nothing was done: the reason, as ErrorReason names it without its prefix, or a
 *     reason of this program's
 * @param metadata what comes with the reason, such as the name of the request of which this is a
 *     duplicate
 * @param fields what is wrong with each field, by its path
 */
record Outcome(
    String event,
    String name,
    String state,
    List<String> names,
    String refused,
    Map<String, String> metadata,
    Map<String, String> fields) {
  static final Gson GSON = new GsonBuilder().disableHtmlEscaping().create();

  static Outcome of(String event, BookingRequest request) {
    return new Outcome(event, request.getName(), request.getState().name(), null, null, null, null);
  }

  static Outcome of(String event, List<String> names) {
    return new Outcome(event, null, null, names, null, null, null);
  }

  static Outcome of(String event, Problem problem) {
    String reason = problem.reason().isEmpty() ? problem.code().name() : problem.reason();
    Map<String, String> metadata = problem.metadata().isEmpty() ? null : problem.metadata();
    Map<String, String> fields = problem.fields().isEmpty() ? null : problem.fields();
    return new Outcome(event, null, null, null, reason, metadata, fields);
  }

  static Outcome refused(String event, String why) {
    return new Outcome(event, null, null, null, why, null, null);
  }

  static Outcome parse(String line) {
    return GSON.fromJson(line, Outcome.class);
  }

  String toLine() {
    return GSON.toJson(this);
  }
}
