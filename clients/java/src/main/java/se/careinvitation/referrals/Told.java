package se.careinvitation.referrals;

import com.google.protobuf.Timestamp;
import java.time.Instant;
import java.util.Optional;
import se.careinvitation.v1.Change;

/**
 * A change of a booking request: a line of JSON, without personal data. The same one may be told
 * again: the etag of a request counts its revisions.
 *
 * @param referral the referral's id; left out when this journal did not create the request
 * @param name the name of the booking request
 * @param etag its etag after the change
 * @param event what happened, as the contract names it
 * @param state its state after the change
 * @param time when it happened
 */
record Told(String referral, String name, String etag, String event, String state, String time) {
  static Told of(Optional<String> referral, Change change) {
    Timestamp time = change.getEventTime();
    return new Told(
        referral.orElse(null),
        change.getBookingRequest(),
        change.getEtag(),
        change.getEvent().name(),
        change.getState().name(),
        Instant.ofEpochSecond(time.getSeconds(), time.getNanos()).toString());
  }

  String toLine() {
    return Outcome.GSON.toJson(this);
  }
}
