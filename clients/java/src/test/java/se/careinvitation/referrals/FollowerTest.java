package se.careinvitation.referrals;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static se.careinvitation.referrals.TestService.accepted;

import com.google.protobuf.Timestamp;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import se.careinvitation.sandbox.v1.AdvanceTimeRequest;
import se.careinvitation.sandbox.v1.ClockServiceGrpc;
import se.careinvitation.sandbox.v1.ClockServiceGrpc.ClockServiceBlockingStub;
import se.careinvitation.sandbox.v1.GetTimeRequest;

/** What happens to requests, told by the program and by its follower. */
class FollowerTest extends WithService {
  private static final Duration PATIENCE = Duration.ofSeconds(60);
  private static final String WITHDRAWN = "{'id': '2', 'kind': 'WITHDRAWN', 'referral': 'R-1'}";

  private void handle(String line) throws Exception {
    referrals.handle(Event.parse(line));
  }

  private void advance(Duration by) {
    ClockServiceBlockingStub clock = ClockServiceGrpc.newBlockingStub(channel);
    Timestamp now = clock.getTime(GetTimeRequest.getDefaultInstance()).getServerTime();
    Timestamp then = now.toBuilder().setSeconds(now.getSeconds() + by.toSeconds()).build();
    clock.advanceTime(AdvanceTimeRequest.newBuilder().setServerTime(then).build());
  }

  /** Something that is to come about. */
  private interface Fact {
    boolean holds() throws Exception;
  }

  private static void await(Fact fact) throws Exception {
    long until = System.nanoTime() + PATIENCE.toNanos();
    while (!fact.holds()) {
      assertTrue(System.nanoTime() < until, "it has not come about");
      Thread.sleep(10);
    }
  }

  /** A follower on a thread of its own. */
  private final class Following implements AutoCloseable {
    final List<String> lines = new CopyOnWriteArrayList<>();
    final Follower follower = new Follower(channel, journal, lines::add);
    final CompletableFuture<Void> ended =
        CompletableFuture.runAsync(
            () -> {
              try {
                follower.run();
              } catch (Exception failure) {
                throw new IllegalStateException(failure);
              }
            });

    boolean has(String... parts) {
      return lines.stream().anyMatch(line -> List.of(parts).stream().allMatch(line::contains));
    }

    @Override
    public void close() throws Exception {
      follower.stop();
      ended.get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
    }
  }

  @Test
  void itGoesOnWhereItStopped() throws Exception {
    handle(accepted("R-1"));
    try (Following first = new Following()) {
      await(() -> first.has("\"referral\":\"R-1\"", "STATE_INVITED", "messages"));
      await(() -> !journal.cursor().isEmpty());
    }
    advance(Duration.ofMinutes(1));
    handle(WITHDRAWN);
    try (Following second = new Following()) {
      await(
          () ->
              second.has(
                  "\"referral\":\"R-1\"", "HISTORY_EVENT_CANCEL_BOOKING_REQUEST", "\"etag\":\"r"));
      assertFalse(second.has("messages"), "nothing is read anew: " + second.lines);
    }
  }

  @Test
  void anExpiredCursorIsReplacedAndAllReferralsAreRead() throws Exception {
    handle(accepted("R-1"));
    try (Following first = new Following()) {
      await(() -> !journal.cursor().isEmpty());
    }
    String expired = journal.cursor();
    handle(WITHDRAWN);
    advance(Duration.ofDays(40));
    try (Following second = new Following()) {
      await(() -> second.has("\"referral\":\"R-1\"", "STATE_CANCELLED", "messages"));
      await(() -> !journal.cursor().isEmpty() && !journal.cursor().equals(expired));
    }
  }

  @Test
  void aServiceThatIsAwayIsWaitedFor() throws Exception {
    try (Following following = new Following()) {
      await(() -> !journal.cursor().isEmpty());
      service.kill();
      Thread.sleep(1500);
      assertFalse(following.ended.isDone());
      service.start();
      handle(accepted("R-1"));
      await(() -> following.has("HISTORY_EVENT_CREATE_BOOKING_REQUEST", "STATE_INVITED"));
    }
  }

  @Test
  void aCursorOfSomethingElseAndAnOutputThatIsNotReadEndIt() throws Exception {
    journal.keep("something else");
    Follower refused = new Follower(channel, journal, line -> {});
    assertEquals(
        "PAGE_TOKEN_INVALID",
        Problem.of(assertThrows(StatusRuntimeException.class, refused::run)).reason());
    handle(accepted("R-1"));
    journal.keep("0");
    Follower unread =
        new Follower(
            channel,
            journal,
            line -> {
              throw new IOException("nobody reads it");
            });
    assertThrows(IOException.class, unread::run);
    assertEquals("0", journal.cursor(), "it is told again");
  }

  @Test
  void theProgramStopsWhenItIsTold() throws Exception {
    handle(accepted("R-1"));
    Path lines = folder.resolve("lines");
    Process program = start(lines);
    await(() -> Files.readString(lines).contains("\"referral\":\"R-1\""));
    await(() -> !journal.cursor().isEmpty());
    program.destroy();
    assertTrue(program.waitFor(PATIENCE.toSeconds(), TimeUnit.SECONDS));
    advance(Duration.ofMinutes(1));
    handle(WITHDRAWN);
    Process again = start(lines);
    await(() -> Files.readString(lines).contains("HISTORY_EVENT_CANCEL_BOOKING_REQUEST"));
    again.destroy();
    assertTrue(again.waitFor(PATIENCE.toSeconds(), TimeUnit.SECONDS));
    assertFalse(Files.readString(lines).contains("messages"), "nothing is read anew");
  }

  private Process start(Path lines) throws IOException {
    ProcessBuilder program =
        new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-cp",
            System.getProperty("java.class.path"),
            Main.class.getName(),
            folder.resolve("journal.db").toString(),
            "--follow");
    program.environment().put("CARE_INVITATION_ADDRESS", service.address());
    return program
        .redirectOutput(lines.toFile())
        .redirectError(folder.resolve("errors").toFile())
        .start();
  }
}
