package se.careinvitation.referrals;

import io.grpc.ManagedChannel;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import se.careinvitation.v1.BookingRequest;
import se.careinvitation.v1.ListWorklistRequest;
import se.careinvitation.v1.Worklist;
import se.careinvitation.v1.WorklistQuery;
import se.careinvitation.v1.WorklistServiceGrpc;

/** The real service, on a database of its own and a sandbox clock at {@link #NOW}. */
final class TestService implements AutoCloseable {
  static final String NOW = "2026-03-02T09:00:00Z";
  static final String UNIT = "SE2321000131-P000000123457";

  private final Path folder;
  private final List<String> flags;
  private final List<ManagedChannel> channels = new ArrayList<>();
  private Process process;
  private String address = "127.0.0.1:0";

  TestService(Path folder, String... flags) throws IOException {
    this.folder = folder;
    this.flags = List.of(flags);
    start();
  }

  /** Starts the program; again at the same address and on the same database after {@link #kill}. */
  void start() throws IOException {
    String program =
        Optional.ofNullable(System.getenv("CARE_INVITATION_PROGRAM"))
            .orElse("../../target/debug/care-invitation");
    List<String> line =
        new ArrayList<>(
            List.of(program, "--listen", address, "--sandbox-clock", NOW, "--log-level", "error"));
    line.addAll(List.of("--database-url", "sqlite://" + folder.resolve("service.db")));
    line.addAll(flags);
    process = new ProcessBuilder(line).redirectError(ProcessBuilder.Redirect.INHERIT).start();
    String said = new BufferedReader(new InputStreamReader(process.getInputStream())).readLine();
    if (said == null) {
      throw new IOException("the service does not start");
    }
    address = said.replaceFirst("listening on https?://", "");
  }

  /** Ends the program at once. */
  void kill() throws InterruptedException {
    process.destroyForcibly().waitFor();
  }

  /** Stops the program where it is, so that it answers nothing, or lets it go on. */
  void signal(String name) throws IOException, InterruptedException {
    new ProcessBuilder("kill", "-" + name, Long.toString(process.pid()))
        .inheritIO()
        .start()
        .waitFor();
  }

  String address() {
    return address;
  }

  /** Opens a connection as the program does. */
  ManagedChannel channel() throws IOException {
    return channel(Map.of());
  }

  /** Opens a connection as the program does, with more in its environment. */
  ManagedChannel channel(Map<String, String> more) throws IOException {
    Map<String, String> environment = new HashMap<>(more);
    environment.put("CARE_INVITATION_ADDRESS", address);
    ManagedChannel channel = ServiceChannel.open(environment);
    channels.add(channel);
    return channel;
  }

  /** Returns a line that says that a referral is accepted, and its patient to be invited. */
  static String accepted(String referral) {
    return """
    {"id": "accepted-%1$s", "kind": "ACCEPTED", "referral": "%1$s", "careUnit": "%2$s", "personalId": "198003012385", \
    "visitType": "ONH-NY", "purpose": "Öron", "from": "2026-03-16", "to": "2026-06-12", "invite": true}\
    """
        .formatted(referral, UNIT);
  }

  /** Returns all invitations of the care unit, 500 at most. */
  static List<BookingRequest> invitations(ManagedChannel channel) {
    WorklistQuery query =
        WorklistQuery.newBuilder()
            .addWorklists(Worklist.WORKLIST_ALL_INVITATIONS)
            .addCareUnits("careUnits/" + UNIT)
            .build();
    ListWorklistRequest request =
        ListWorklistRequest.newBuilder().setQuery(query).setPageSize(500).build();
    return WorklistServiceGrpc.newBlockingStub(channel)
        .listWorklist(request)
        .getBookingRequestsList();
  }

  @Override
  public void close() throws InterruptedException {
    for (ManagedChannel channel : channels) {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
    kill();
  }
}
