package se.careinvitation.referrals;

import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import se.careinvitation.v1.BookingRequest;

/**
 * The program. {@code referrals.jar JOURNAL} takes events from standard input, one a line, and
 * prints what came of each; {@code referrals.jar JOURNAL REFERRAL...} reads the booking requests of
 * referrals; {@code referrals.jar JOURNAL --follow} prints what happens to booking requests, one
 * change a line. It connects as {@link ServiceChannel} says. It ends with 0; with 1 when something
 * was refused; with 75 when the service did not answer: run it again with the same events. SIGTERM
 * ends it when the event or the change that it has begun is done.
 */
public final class Main {
  private static final int DONE = 0;
  private static final int REFUSED = 1;
  private static final int USAGE = 64;
  private static final int AGAIN = 75;

  /** The service knows a {@code request_id} again for so long at least. */
  private static final Duration KEPT = Duration.ofDays(30);

  private Main() {}

  public static void main(String[] arguments) throws Exception {
    if (arguments.length == 0) {
      System.err.println(
          "referrals.jar JOURNAL < EVENTS, referrals.jar JOURNAL REFERRAL..., or referrals.jar"
              + " JOURNAL --follow");
      System.exit(USAGE);
    }
    ManagedChannel channel;
    try {
      channel = ServiceChannel.open(System.getenv());
    } catch (IllegalArgumentException | IOException unusable) {
      System.err.println(unusable.getMessage());
      System.exit(USAGE);
      return;
    }
    int code;
    try (Journal journal = new Journal(Path.of(arguments[0]))) {
      Referrals referrals = new Referrals(channel, journal);
      Runtime.getRuntime().addShutdownHook(new Thread(referrals::stop));
      if (arguments.length == 2 && arguments[1].equals("--follow")) {
        code = follow(new Follower(channel, journal, Main::tell));
      } else if (arguments.length > 1) {
        code = read(referrals, Arrays.copyOfRange(arguments, 1, arguments.length));
      } else {
        journal.forget(Instant.now().minus(KEPT));
        code = run(referrals);
      }
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
    System.exit(code);
  }

  private static int run(Referrals referrals)
      throws IOException, SQLException, InterruptedException {
    BufferedReader input =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    int code = DONE;
    int number = 0;
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      number++;
      if (line.isBlank()) {
        continue;
      }
      Outcome outcome;
      try {
        outcome = referrals.handle(Event.parse(line));
      } catch (IllegalArgumentException malformed) {
        outcome = Outcome.refused("line " + number, malformed.getMessage());
      } catch (Referrals.UnavailableException away) {
        System.err.println("not done, run it again: " + away.getMessage());
        return AGAIN;
      }
      print(outcome.toLine());
      if (outcome.refused() != null) {
        code = REFUSED;
      }
    }
    return code;
  }

  private static int read(Referrals referrals, String[] names) throws SQLException {
    int code = DONE;
    for (String referral : names) {
      try {
        Optional<BookingRequest> found = referrals.read(referral);
        if (found.isPresent()) {
          print(Reading.of(referral, found.get()).toLine());
        } else {
          print(Outcome.refused(referral, "REFERRAL_UNKNOWN").toLine());
          code = REFUSED;
        }
      } catch (StatusRuntimeException failure) {
        Problem problem = Problem.of(failure);
        print(Outcome.of(referral, problem).toLine());
        code = problem.isPassing() ? AGAIN : REFUSED;
      }
    }
    return code;
  }

  private static int follow(Follower follower) throws SQLException, InterruptedException {
    Runtime.getRuntime().addShutdownHook(new Thread(follower::stop));
    try {
      follower.run();
      return DONE;
    } catch (StatusRuntimeException failure) {
      Problem problem = Problem.of(failure);
      System.err.println("refused: " + problem.code() + " " + problem.reason());
    } catch (IOException unread) {
      System.err.println(unread.getMessage());
    }
    return REFUSED;
  }

  /** Prints a line that must be read before the next one. */
  private static void tell(String line) throws IOException {
    print(line);
    if (System.out.checkError()) {
      throw new IOException("nobody reads the output: it is told again by the next run");
    }
  }

  /** Prints a line in UTF-8, whatever the platform's own encoding is. */
  private static void print(String line) {
    byte[] bytes = (line + "\n").getBytes(StandardCharsets.UTF_8);
    System.out.write(bytes, 0, bytes.length);
    System.out.flush();
  }
}
