package se.careinvitation.referrals;

import com.google.protobuf.Timestamp;
import java.time.Instant;
import java.util.List;
import se.careinvitation.v1.BookingRequest;
import se.careinvitation.v1.Notification;

/**
 * The booking request of a referral as it is now: a line of JSON, without identity numbers.
 *
 * @param referral the referral's id
 * @param name the name of the booking request
 * @param state its state
 * @param allowedActions what staff may do with it
 * @param messages its messages, in their order
 */
record Reading(
    String referral,
    String name,
    String state,
    List<String> allowedActions,
    List<Message> messages) {

  /**
   * A message.
   *
   * @param kind INVITATION, REMINDER or WITHDRAWAL, as the contract names them
   * @param state whether it was handed over, waits, or is only foreseen
   * @param time when it was handed over, or else when it is due
   */
  record Message(String kind, String state, String time) {
    static Message of(Notification it) {
      Timestamp time = it.hasSendTime() ? it.getSendTime() : it.getDueTime();
      String text = Instant.ofEpochSecond(time.getSeconds(), time.getNanos()).toString();
      return new Message(it.getKind().name(), it.getState().name(), text);
    }
  }

  static Reading of(String referral, BookingRequest request) {
    List<String> actions = request.getAllowedActionsList().stream().map(Enum::name).toList();
    List<Message> messages =
        request.getCareInvitation().getNotificationsList().stream().map(Message::of).toList();
    return new Reading(referral, request.getName(), request.getState().name(), actions, messages);
  }

  String toLine() {
    return Outcome.GSON.toJson(this);
  }
}
