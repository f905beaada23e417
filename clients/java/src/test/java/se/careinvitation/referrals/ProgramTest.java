package se.careinvitation.referrals;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import se.careinvitation.v1.BookingRequest;

/** The program as a process. */
class ProgramTest {
  private static final int KILLS = 3;
  private static final int REFERRALS = 150;

  @TempDir Path folder;

  private Process start(TestService service, Path events, String... more) throws IOException {
    List<String> line =
        new ArrayList<>(
            List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString()));
    line.addAll(
        List.of(
            "-cp",
            System.getProperty("java.class.path"),
            Main.class.getName(),
            folder.resolve("journal.db").toString()));
    line.addAll(List.of(more));
    ProcessBuilder program =
        new ProcessBuilder(line).redirectError(folder.resolve("errors").toFile());
    program.environment().put("CARE_INVITATION_ADDRESS", service.address());
    if (events != null) {
      program.redirectInput(events.toFile());
    }
    return program.redirectOutput(folder.resolve("outcomes").toFile()).start();
  }

  private List<Outcome> outcomes() throws IOException {
    return Files.readAllLines(folder.resolve("outcomes")).stream().map(Outcome::parse).toList();
  }

  @Test
  void killsMakeNothingTwiceAndLoseNothing() throws Exception {
    Path events = folder.resolve("events");
    Files.write(
        events,
        IntStream.range(0, REFERRALS)
            .mapToObj(number -> TestService.accepted("R-" + number))
            .toList());
    try (TestService service = new TestService(folder)) {
      Random random = new Random();
      Set<Integer> reached = new HashSet<>();
      for (int kill = 0; kill < KILLS; kill++) {
        Process program = start(service, events);
        // Killed while it works: once it has handled some more.
        int until = (kill + 1) * REFERRALS / (KILLS + 2) + random.nextInt(10);
        while (program.isAlive() && outcomes().size() < until) {
          Thread.sleep(2);
        }
        program.destroyForcibly().waitFor();
        reached.add(TestService.invitations(service.channel()).size());
      }
      assertEquals(KILLS, reached.size(), "it was killed at work: " + reached);
      assertTrue(
          reached.stream().allMatch(it -> it < REFERRALS), "it was killed at work: " + reached);
      Process last = start(service, events);
      assertTrue(last.waitFor(60, TimeUnit.SECONDS));
      assertEquals(0, last.exitValue(), Files.readString(folder.resolve("errors")));
      List<BookingRequest> made = TestService.invitations(service.channel());
      assertEquals(REFERRALS, made.size());
      assertEquals(
          REFERRALS, made.stream().map(it -> it.getReferral().getReferralId()).distinct().count());
      assertEquals(
          made.stream().map(BookingRequest::getName).sorted().toList(),
          outcomes().stream().map(Outcome::name).sorted().toList());
    }
  }

  @Test
  void itSaysByItsExitCodeWhatIsToBeDone() throws Exception {
    try (TestService service = new TestService(folder)) {
      Path events = folder.resolve("events");
      Files.write(
          events,
          List.of(
              TestService.accepted("R-1"),
              "",
              "{'id': '2', 'kind': 'WITHDRAWN', 'referral': 'R-2'}",
              "no event"));
      assertEquals(1, start(service, events).waitFor());
      List<Outcome> outcomes = outcomes();
      assertEquals("STATE_INVITED", outcomes.get(0).state());
      assertEquals("REFERRAL_UNKNOWN", outcomes.get(1).refused());
      assertEquals("line 4", outcomes.get(2).event());
      assertEquals(0, start(service, null, "R-1").waitFor());
      assertTrue(
          Files.readString(folder.resolve("outcomes")).contains("\"state\":\"STATE_INVITED\""));
      assertEquals(1, start(service, null, "R-1", "R-2").waitFor());
      service.kill();
      assertEquals(
          75, start(service, null, "R-1").waitFor(), Files.readString(folder.resolve("errors")));
    }
  }

  @Test
  void withoutAnAddressItSaysSoInOneLine() throws Exception {
    ProcessBuilder program =
        new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-cp",
            System.getProperty("java.class.path"),
            Main.class.getName(),
            folder.resolve("journal.db").toString());
    program.environment().remove("CARE_INVITATION_ADDRESS");
    Process ended = program.redirectError(folder.resolve("errors").toFile()).start();
    assertEquals(64, ended.waitFor());
    assertEquals(
        List.of("CARE_INVITATION_ADDRESS is not set: host:port of the service"),
        Files.readAllLines(folder.resolve("errors")));
  }

  @Test
  void sigtermEndsItWhenTheEventThatItHasBegunIsDone() throws Exception {
    try (TestService service = new TestService(folder)) {
      Process program = start(service, null);
      // Standard input stays open, as that of a program that takes events from a queue.
      program.getOutputStream().write((TestService.accepted("R-1") + "\n").getBytes(UTF_8));
      program.getOutputStream().flush();
      while (program.isAlive() && outcomes().isEmpty()) {
        Thread.sleep(5);
      }
      service.signal("STOP");
      program.getOutputStream().write((TestService.accepted("R-2") + "\n").getBytes(UTF_8));
      program.getOutputStream().flush();
      try (Journal journal = new Journal(folder.resolve("journal.db"))) {
        while (program.isAlive() && journal.find("accepted-R-2").isEmpty()) {
          Thread.sleep(5);
        }
      }
      program.destroy();
      assertFalse(program.waitFor(500, TimeUnit.MILLISECONDS), "it waits for what it has begun");
      service.signal("CONT");
      assertTrue(program.waitFor(20, TimeUnit.SECONDS));
      assertEquals(143, program.exitValue());
      assertEquals(2, TestService.invitations(service.channel()).size());
      try (Journal journal = new Journal(folder.resolve("journal.db"))) {
        assertTrue(journal.find("accepted-R-2").orElseThrow().outcome().isPresent());
      }
    }
  }
}
