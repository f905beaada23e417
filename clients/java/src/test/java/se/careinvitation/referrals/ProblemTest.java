package se.careinvitation.referrals;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import se.careinvitation.v1.BookingRequest;
import se.careinvitation.v1.BookingRequestServiceGrpc;
import se.careinvitation.v1.BookingRequestServiceGrpc.BookingRequestServiceBlockingStub;
import se.careinvitation.v1.CancelBookingRequestRequest;
import se.careinvitation.v1.CancelReason;
import se.careinvitation.v1.ChangeToInvitationRequest;
import se.careinvitation.v1.CreateBookingRequestRequest;
import se.careinvitation.v1.GetBookingRequestRequest;
import se.careinvitation.v1.PreviousVisit;

/** Every refusal that this side meets, read from the real service. */
class ProblemTest {
  @TempDir Path folder;

  private static Problem problem(Executable call) {
    return Problem.of(assertThrows(StatusRuntimeException.class, call));
  }

  private static CreateBookingRequestRequest create(String referral) {
    return (CreateBookingRequestRequest) Event.parse(TestService.accepted(referral)).call();
  }

  private static String id() {
    return UUID.randomUUID().toString();
  }

  @Test
  void reasonsMetadataAndFieldsAreRead() throws Exception {
    try (TestService service = new TestService(folder)) {
      BookingRequestServiceBlockingStub requests =
          BookingRequestServiceGrpc.newBlockingStub(service.channel());
      BookingRequest created = requests.createBookingRequest(create("R-1")).getBookingRequest();
      String name = created.getName();

      Problem fields =
          problem(
              () ->
                  requests.createBookingRequest(
                      CreateBookingRequestRequest.newBuilder().setParent("x").build()));
      assertEquals(
          new Problem(
              Code.INVALID_ARGUMENT, "FIELD_INVALID", Map.of(), fields.fields(), Duration.ZERO),
          fields);
      assertTrue(
          fields.fields().keySet().containsAll(Set.of("parent", "request_id", "booking_request")),
          fields.toString());
      assertFalse(fields.isPassing());

      Problem reused =
          problem(
              () ->
                  requests.createBookingRequest(
                      create("R-1").toBuilder().setAllowDuplicate(true).build()));
      assertEquals("REQUEST_ID_REUSED", reused.reason());
      Problem duplicate =
          problem(
              () ->
                  requests.createBookingRequest(
                      create("R-1").toBuilder().setRequestId(id()).build()));
      assertEquals(Code.ALREADY_EXISTS, duplicate.code());
      assertEquals(Map.of("name", name), duplicate.metadata());
      Problem unknown =
          problem(
              () ->
                  requests.getBookingRequest(
                      GetBookingRequestRequest.newBuilder()
                          .setName(name.substring(0, name.length() - 12) + "000000000000")
                          .build()));
      assertEquals("RESOURCE_NOT_FOUND", unknown.reason());

      ChangeToInvitationRequest invite =
          ChangeToInvitationRequest.newBuilder().setName(name).setRequestId(id()).build();
      assertEquals(
          "ALREADY_INVITATION", problem(() -> requests.changeToInvitation(invite)).reason());
      Problem old =
          problem(() -> requests.changeToInvitation(invite.toBuilder().setEtag("old").build()));
      assertEquals(Code.ABORTED, old.code());
      assertEquals("ETAG_MISMATCH", old.reason());
      CreateBookingRequestRequest.Builder visit = create("R-2").toBuilder();
      visit
          .getBookingRequestBuilder()
          .setPreviousVisit(PreviousVisit.newBuilder().setVisitId("V-1"));
      assertEquals(
          "REFERRAL_REQUIRED",
          problem(() -> requests.createBookingRequest(visit.build())).reason());

      CancelBookingRequestRequest cancel =
          CancelBookingRequestRequest.newBuilder()
              .setName(name)
              .setRequestId(id())
              .setReason(CancelReason.CANCEL_REASON_REFERRAL_WITHDRAWN)
              .build();
      requests.cancelBookingRequest(cancel);
      Problem conflict =
          problem(
              () -> requests.cancelBookingRequest(cancel.toBuilder().setRequestId(id()).build()));
      assertEquals(Code.FAILED_PRECONDITION, conflict.code());
      assertEquals(Map.of("state", "CANCELLED", "allowed_actions", ""), conflict.metadata());
    }
  }

  @Test
  void aCallerThatCallsTooOftenIsToldForHowLongToWait() throws Exception {
    try (TestService service = new TestService(folder, "--subject-calls-per-second", "1")) {
      BookingRequestServiceBlockingStub requests =
          BookingRequestServiceGrpc.newBlockingStub(service.channel());
      Problem often =
          problem(
              () -> {
                for (int number = 0; number < 100; number++) {
                  requests.createBookingRequest(create("R-" + number));
                }
              });
      assertEquals(Code.RESOURCE_EXHAUSTED, often.code());
      assertEquals("RATE_LIMITED", often.reason());
      assertEquals("CALLS_PER_SECOND", often.metadata().get("limit"));
      assertTrue(
          often.retryDelay().toMillis() > 0 && often.retryDelay().toMillis() <= 1000,
          often.toString());
      assertTrue(often.isPassing());
      // The program waits for as long as that, and goes on.
      try (Journal journal = new Journal(folder.resolve("journal.db"))) {
        Outcome outcome =
            new Referrals(service.channel(), journal)
                .handle(Event.parse(TestService.accepted("R-100")));
        assertEquals("STATE_INVITED", outcome.state());
      }
    }
  }

  @Test
  void aFailureThatDoesNotComeFromTheServiceHasNoReason() {
    ManagedChannel nowhere =
        Grpc.newChannelBuilder("127.0.0.1:1", InsecureChannelCredentials.create()).build();
    try {
      BookingRequestServiceBlockingStub requests =
          BookingRequestServiceGrpc.newBlockingStub(nowhere);
      Problem away = problem(() -> requests.createBookingRequest(create("R-1")));
      assertEquals(new Problem(Code.UNAVAILABLE, "", Map.of(), Map.of(), Duration.ZERO), away);
    } finally {
      nowhere.shutdownNow();
    }
  }
}
