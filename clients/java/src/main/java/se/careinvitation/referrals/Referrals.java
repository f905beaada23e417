package se.careinvitation.referrals;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;
import se.careinvitation.v1.BookingRequest;
import se.careinvitation.v1.BookingRequestServiceGrpc;
import se.careinvitation.v1.BookingRequestServiceGrpc.BookingRequestServiceBlockingStub;
import se.careinvitation.v1.CancelBookingRequestRequest;
import se.careinvitation.v1.ChangeToInvitationRequest;
import se.careinvitation.v1.CreateBookingRequestRequest;
import se.careinvitation.v1.GetBookingRequestRequest;
import se.careinvitation.v1.UpdatePatientRequest;

/** Says to the service what happens to referrals, each event once. */
final class Referrals {
  private static final Logger LOG = Logger.getLogger(Referrals.class.getName());

  /**
   * Longest time for which a write is repeated, beyond the retries of the service config; the next
   * run goes on with it.
   */
  private static final Duration REPEAT_MAX = Duration.ofMinutes(2);

  private static final Duration PAUSE_MIN = Duration.ofSeconds(1);
  private static final Duration PAUSE_MAX = Duration.ofSeconds(15);

  private final BookingRequestServiceBlockingStub service;
  private final Journal journal;
  private final CountDownLatch stopping = new CountDownLatch(1);

  /**
   * The service does not answer, or the program is to stop: the same event is to be handled again.
   */
  static final class UnavailableException extends Exception {
    UnavailableException(String why) {
      super(why);
    }
  }

  Referrals(ManagedChannel channel, Journal journal) {
    this.service = BookingRequestServiceGrpc.newBlockingStub(channel);
    this.journal = journal;
  }

  /**
   * Does what an event asks for, unless that is done, and says what came of it. Events of one
   * referral come in their order.
   *
   * @throws UnavailableException it is not known whether it is done
   */
  synchronized Outcome handle(Event event)
      throws SQLException, InterruptedException, UnavailableException {
    if (stopping.getCount() == 0) {
      throw new UnavailableException("the program stops");
    }
    Optional<Journal.Entry> begun = journal.find(event.id());
    if (begun.isPresent() && begun.get().outcome().isPresent()) {
      return Outcome.parse(begun.get().outcome().get());
    }
    String name = null;
    if (event.kind() == Event.Kind.INVITE || event.kind() == Event.Kind.WITHDRAWN) {
      Optional<String> known = journal.nameOf(event.referral());
      if (known.isEmpty()) {
        // Not written down: it may become known.
        return Outcome.refused(event.id(), "REFERRAL_UNKNOWN");
      }
      name = known.get();
    }
    // Durable before it is sent: a crash repeats the same write, with the same request_id and the
    // same content.
    Journal.Entry entry =
        begun.isPresent()
            ? begun.get()
            : journal.begin(event.id(), event.referral(), Any.pack(event.call()));
    return send(entry, name);
  }

  private Outcome send(Journal.Entry entry, String name)
      throws SQLException, InterruptedException, UnavailableException {
    Instant until = Instant.now().plus(REPEAT_MAX);
    for (Duration pause = PAUSE_MIN; ; pause = min(pause.multipliedBy(2), PAUSE_MAX)) {
      Outcome outcome;
      try {
        outcome = call(entry, name);
      } catch (StatusRuntimeException failure) {
        Problem problem = Problem.of(failure);
        if (problem.isPassing()) {
          LOG.log(
              Level.WARNING,
              "{0}: {1} {2}",
              new Object[] {entry.event(), problem.code(), problem.reason()});
          Duration wait = problem.retryDelay().compareTo(pause) > 0 ? problem.retryDelay() : pause;
          if (Instant.now().plus(wait).isAfter(until)
              || stopping.await(wait.toMillis(), TimeUnit.MILLISECONDS)) {
            throw new UnavailableException(problem.code() + " " + problem.reason());
          }
          continue;
        }
        outcome = Outcome.of(entry.event(), problem);
      }
      journal.end(entry.event(), outcome.toLine());
      return outcome;
    }
  }

  /** Makes a call. Deadlines and retries are those of the service config. */
  private Outcome call(Journal.Entry entry, String name) throws SQLException {
    Any call = entry.call();
    try {
      if (call.is(CreateBookingRequestRequest.class)) {
        BookingRequest created =
            service
                .createBookingRequest(call.unpack(CreateBookingRequestRequest.class))
                .getBookingRequest();
        journal.name(entry.referral(), created.getName());
        return Outcome.of(entry.event(), created);
      }
      if (call.is(ChangeToInvitationRequest.class)) {
        ChangeToInvitationRequest named =
            call.unpack(ChangeToInvitationRequest.class).toBuilder().setName(name).build();
        return Outcome.of(entry.event(), service.changeToInvitation(named).getBookingRequest());
      }
      if (call.is(CancelBookingRequestRequest.class)) {
        CancelBookingRequestRequest named =
            call.unpack(CancelBookingRequestRequest.class).toBuilder().setName(name).build();
        return Outcome.of(entry.event(), service.cancelBookingRequest(named).getBookingRequest());
      }
      UpdatePatientRequest update = call.unpack(UpdatePatientRequest.class);
      return Outcome.of(entry.event(), service.updatePatient(update).getBookingRequestsList());
    } catch (InvalidProtocolBufferException damaged) {
      throw new SQLException("a write in the journal is damaged", damaged);
    }
  }

  /**
   * Reads the booking request of a referral as it is now. Empty when this program has created none.
   */
  Optional<BookingRequest> read(String referral) throws SQLException {
    return journal
        .nameOf(referral)
        .map(
            name ->
                service
                    .getBookingRequest(GetBookingRequestRequest.newBuilder().setName(name).build())
                    .getBookingRequest());
  }

  /**
   * Begins nothing more, and returns when the event that was begun is done: after one call's
   * deadline at most.
   */
  void stop() {
    stopping.countDown();
    synchronized (this) {
      LOG.fine("stopped");
    }
  }

  static Duration min(Duration one, Duration other) {
    return one.compareTo(other) < 0 ? one : other;
  }
}
