package se.careinvitation.referrals;

import io.grpc.ManagedChannel;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.io.TempDir;

/** A service and a journal of its own for each test. */
abstract class WithService {
  @TempDir Path folder;
  TestService service;
  ManagedChannel channel;
  Journal journal;
  Referrals referrals;

  @BeforeEach
  void serve() throws Exception {
    service = new TestService(folder);
    channel = service.channel();
    journal = new Journal(folder.resolve("journal.db"));
    referrals = new Referrals(channel, journal);
  }

  @AfterEach
  void end() throws Exception {
    journal.close();
    service.close();
  }
}
