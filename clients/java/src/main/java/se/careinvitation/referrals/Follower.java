package se.careinvitation.referrals;

import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.sql.SQLException;
import java.time.Duration;
import java.util.Iterator;
import java.util.Map;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;
import se.careinvitation.v1.BookingRequest;
import se.careinvitation.v1.BookingRequestServiceGrpc;
import se.careinvitation.v1.BookingRequestServiceGrpc.BookingRequestServiceBlockingStub;
import se.careinvitation.v1.Change;
import se.careinvitation.v1.GetBookingRequestRequest;
import se.careinvitation.v1.StreamChangesRequest;
import se.careinvitation.v1.StreamChangesResponse;

/**
 * Tells what happens to booking requests, and goes on where it stopped, as docs/changes.md says.
 * Each change is told at least once: the cursor is kept when its lines are written.
 */
final class Follower {
  private static final Logger LOG = Logger.getLogger(Follower.class.getName());

  /** Longest time without anything on the stream; the service sends something every 15 seconds. */
  private static final Duration SILENCE_MAX = Duration.ofSeconds(90);

  private static final Duration PAUSE_MIN = Duration.ofSeconds(1);
  private static final Duration PAUSE_MAX = Duration.ofSeconds(15);

  private final BookingRequestServiceBlockingStub service;
  private final Journal journal;
  private final Output output;
  private final Timer silence = new Timer("silence", true);
  private final CountDownLatch stopping = new CountDownLatch(1);
  private Context.CancellableContext stream = Context.ROOT.withCancellation();
  private boolean heard;

  /** Takes lines. */
  interface Output {
    /**
     * Takes a line.
     *
     * @throws IOException nobody reads it
     */
    void tell(String line) throws IOException;
  }

  Follower(ManagedChannel channel, Journal journal, Output output) {
    this.service = BookingRequestServiceGrpc.newBlockingStub(channel);
    this.journal = journal;
    this.output = output;
  }

  /**
   * Follows until {@link #stop}.
   *
   * @throws StatusRuntimeException somebody has to decide: repeating does not help
   * @throws IOException the output is not read
   */
  void run() throws SQLException, InterruptedException, IOException {
    for (Duration pause = PAUSE_MIN; ; pause = Referrals.min(pause.multipliedBy(2), PAUSE_MAX)) {
      heard = false;
      Duration wait = Duration.ZERO;
      try {
        follow();
      } catch (StatusRuntimeException failure) {
        if (stopping.getCount() > 0) {
          wait = after(failure);
        }
      }
      pause = heard ? PAUSE_MIN : pause;
      wait = wait.compareTo(pause) > 0 ? wait : pause;
      if (stopping.await(wait.toMillis(), TimeUnit.MILLISECONDS)) {
        return;
      }
    }
  }

  /** Decides after a failure, and returns how long the service asks to be left alone. */
  private Duration after(StatusRuntimeException failure) throws SQLException {
    Problem problem = Problem.of(failure);
    if (problem.reason().equals("CURSOR_EXPIRED")) {
      LOG.warning("the cursor has expired: all referrals are read anew");
      journal.keep("");
      return Duration.ZERO;
    }
    if (!problem.isPassing()) {
      throw failure;
    }
    boolean needsSomebody =
        problem.code() == Status.Code.UNAUTHENTICATED
            || problem.code() == Status.Code.PERMISSION_DENIED;
    LOG.log(
        needsSomebody && !heard ? Level.SEVERE : Level.WARNING,
        "the stream has ended: {0} {1}",
        new Object[] {problem.code(), problem.reason()});
    return problem.retryDelay();
  }

  /** Opens the stream after the cursor and tells what comes, until it ends. */
  private void follow() throws SQLException, IOException {
    String cursor = journal.cursor();
    boolean isAnew = cursor.isEmpty();
    StreamChangesRequest call =
        StreamChangesRequest.newBuilder()
            .addCareUnits("careUnits/-")
            .setAfterCursor(cursor)
            .build();
    try (Context.CancellableContext opened = open()) {
      TimerTask watch = watch(opened);
      Iterator<StreamChangesResponse> messages = within(opened, call);
      while (messages.hasNext()) {
        watch.cancel();
        heard = true;
        tell(messages.next(), isAnew);
        isAnew = false;
        watch = watch(opened);
      }
    }
  }

  private Iterator<StreamChangesResponse> within(Context context, StreamChangesRequest call) {
    Context before = context.attach();
    try {
      return service.streamChanges(call);
    } finally {
      context.detach(before);
    }
  }

  private synchronized Context.CancellableContext open() {
    stream = Context.ROOT.withCancellation();
    if (stopping.getCount() == 0) {
      stream.cancel(null);
    }
    return stream;
  }

  /** Cancels a stream after a silence, unless it is cancelled itself before. */
  private TimerTask watch(Context.CancellableContext opened) {
    TimerTask task =
        new TimerTask() {
          @Override
          public void run() {
            opened.cancel(null);
          }
        };
    silence.schedule(task, SILENCE_MAX.toMillis());
    return task;
  }

  /**
   * Tells a message, and keeps its cursor. Without a cursor before it, all referrals are read
   * first.
   */
  private synchronized void tell(StreamChangesResponse message, boolean isAnew)
      throws SQLException, IOException {
    Map<String, String> toRead = isAnew ? journal.names() : Map.of();
    for (Map.Entry<String, String> known : toRead.entrySet()) {
      if (stopping.getCount() > 0) {
        read(known.getKey(), known.getValue());
      }
    }
    if (stopping.getCount() == 0) {
      return;
    }
    for (Change change : message.getChangesList()) {
      output.tell(Told.of(journal.referralOf(change.getBookingRequest()), change).toLine());
    }
    journal.keep(message.getCursor());
  }

  /** Tells a request as it is now, unless it has been purged. */
  private void read(String referral, String name) throws IOException {
    BookingRequest request;
    try {
      GetBookingRequestRequest call = GetBookingRequestRequest.newBuilder().setName(name).build();
      request = service.getBookingRequest(call).getBookingRequest();
    } catch (StatusRuntimeException failure) {
      if (failure.getStatus().getCode() == Status.Code.NOT_FOUND) {
        return;
      }
      throw failure;
    }
    output.tell(Reading.of(referral, request).toLine());
  }

  /**
   * Ends the stream, and returns when the message that is being told is told and its cursor kept.
   */
  void stop() {
    stopping.countDown();
    synchronized (this) {
      stream.cancel(null);
    }
  }
}
