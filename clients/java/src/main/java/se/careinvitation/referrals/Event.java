package se.careinvitation.referrals;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.protobuf.FieldMask;
import com.google.protobuf.Message;
import java.lang.reflect.RecordComponent;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Set;
import java.util.UUID;
import java.util.stream.Collectors;
import se.careinvitation.v1.BookingConstraints;
import se.careinvitation.v1.BookingRequest;
import se.careinvitation.v1.CancelBookingRequestRequest;
import se.careinvitation.v1.CancelReason;
import se.careinvitation.v1.ChangeToInvitationRequest;
import se.careinvitation.v1.CreateBookingRequestRequest;
import se.careinvitation.v1.DateInterval;
import se.careinvitation.v1.Patient;
import se.careinvitation.v1.PersonalIdType;
import se.careinvitation.v1.Protection;
import se.careinvitation.v1.Referral;
import se.careinvitation.v1.UpdatePatientRequest;
import se.careinvitation.v1.VisitKind;
import se.careinvitation.v1.VisitType;

/**
 * What has happened to a referral or a patient in the referral system: one line of JSON, as that
 * system writes it. Which call it becomes is said here, which is where a team begins.
 *
 * @param id the event's own id in the referral system; the write's {@code request_id} is derived
 *     from it
 * @param kind what has happened
 * @param referral the referral's id; none for PATIENT
 * @param careUnit the care unit's HSA-id, of an ACCEPTED referral
 * @param personalId the patient's personnummer, of an ACCEPTED referral and of PATIENT
 * @param visitType the code of the visit type
 * @param purpose why the unit wants to see the patient
 * @param decisionDate the day of the decision on the referral, such as 2026-03-02
 * @param from the first day on which the visit may take place
 * @param to the last day
 * @param invite true if the patient is to be invited to choose a time
 * @param language the language in which the patient is written to
 * @param protection the patient's protected identity, such as CONFIDENTIALITY_MARKED; UNSPECIFIED
 *     when it has ended
 * @param deceased true if the patient has died
 */
record Event(
    String id,
    Kind kind,
    String referral,
    String careUnit,
    String personalId,
    String visitType,
    String purpose,
    String decisionDate,
    String from,
    String to,
    boolean invite,
    String language,
    String protection,
    boolean deceased) {

  private static final Gson GSON = new Gson();
  private static final Set<String> KEYS =
      Arrays.stream(Event.class.getRecordComponents())
          .map(RecordComponent::getName)
          .collect(Collectors.toSet());

  enum Kind {
    /** The referral is accepted: a booking request is created. */
    ACCEPTED,
    /** The patient is to be invited after all, within other dates when they are given. */
    INVITE,
    /** Something has been learned about the patient. */
    PATIENT,
    /** The referral is withdrawn: the request is closed. */
    WITHDRAWN
  }

  /**
   * Reads a line.
   *
   * @throws IllegalArgumentException it is not an event; the message quotes nothing of it
   */
  static Event parse(String line) {
    Event event;
    try {
      JsonObject object = GSON.fromJson(line, JsonObject.class);
      if (object != null) {
        check(object);
      }
      event = GSON.fromJson(object, Event.class);
    } catch (JsonParseException malformed) {
      throw new IllegalArgumentException("it is not JSON as events have it");
    }
    if (event == null || event.id == null || event.id.isEmpty() || event.kind == null) {
      throw new IllegalArgumentException("it has no id, or no kind that is known");
    }
    if (event.kind != Kind.PATIENT && (event.referral == null || event.referral.isEmpty())) {
      throw new IllegalArgumentException("it has no referral");
    }
    return event;
  }

  /** Refuses what Gson would pass over: unknown keys, and texts and numbers as false. */
  private static void check(JsonObject object) {
    if (!KEYS.containsAll(object.keySet())) {
      throw new IllegalArgumentException("it has a key that is not known");
    }
    for (String key : Set.of("invite", "deceased")) {
      if (object.has(key)
          && !(object.get(key).isJsonPrimitive()
              && object.get(key).getAsJsonPrimitive().isBoolean())) {
        throw new IllegalArgumentException("its " + key + " is neither true nor false");
      }
    }
  }

  /**
   * Returns the call that this event becomes. The name of the request is not in it: the journal
   * knows that.
   *
   * @throws IllegalArgumentException the protection has another name
   */
  Message call() {
    return switch (kind) {
      case ACCEPTED -> create();
      case INVITE -> invitation();
      case PATIENT -> patientUpdate();
      case WITHDRAWN ->
          CancelBookingRequestRequest.newBuilder()
              .setRequestId(requestId())
              .setReason(CancelReason.CANCEL_REASON_REFERRAL_WITHDRAWN)
              .build();
    };
  }

  /** Returns the same UUID for the same event, whenever and wherever it is asked. */
  private String requestId() {
    return UUID.nameUUIDFromBytes(("referrals/" + id).getBytes(StandardCharsets.UTF_8)).toString();
  }

  private CreateBookingRequestRequest create() {
    Referral.Builder origin = Referral.newBuilder().setReferralId(referral);
    if (decisionDate != null) {
      origin.setDecisionDate(decisionDate);
    }
    return CreateBookingRequestRequest.newBuilder()
        .setParent("careUnits/" + careUnit)
        .setRequestId(requestId())
        .setBookingRequest(
            BookingRequest.newBuilder()
                .setPatient(patient())
                .setReferral(origin)
                .setVisitKind(VisitKind.VISIT_KIND_NEW_VISIT)
                .setVisitType(VisitType.newBuilder().setCode(text(visitType)))
                .setPurpose(text(purpose))
                .setSummons(invite)
                .setInvitation(invite)
                .setConstraints(constraints()))
        .build();
  }

  private ChangeToInvitationRequest invitation() {
    ChangeToInvitationRequest.Builder call =
        ChangeToInvitationRequest.newBuilder().setRequestId(requestId());
    if (from != null) {
      call.setConstraints(constraints());
    }
    return call.build();
  }

  private UpdatePatientRequest patientUpdate() {
    FieldMask.Builder mask = FieldMask.newBuilder();
    if (language != null) {
      mask.addPaths("preferred_language");
    }
    if (protection != null) {
      mask.addPaths("protection");
    }
    return UpdatePatientRequest.newBuilder()
        .setParent("careUnits/-")
        .setRequestId(requestId())
        .setPatient(patient())
        .setUpdateMask(mask)
        .setDeceased(deceased)
        .build();
  }

  private Patient patient() {
    Patient.Builder patient =
        Patient.newBuilder()
            .setPersonalId(text(personalId))
            .setPersonalIdType(PersonalIdType.PERSONAL_ID_TYPE_PERSONNUMMER);
    if (language != null) {
      patient.setPreferredLanguage(language);
    }
    if (protection != null) {
      patient.setProtection(Protection.valueOf("PROTECTION_" + protection));
    }
    return patient.build();
  }

  private BookingConstraints constraints() {
    return BookingConstraints.newBuilder()
        .setRequestedPeriod(DateInterval.newBuilder().setStartDate(text(from)).setEndDate(text(to)))
        .build();
  }

  /** Returns a text that protobuf takes. What is missing the service names, by its field. */
  private static String text(String value) {
    return value == null ? "" : value;
  }
}
