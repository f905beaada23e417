package se.careinvitation.referrals;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import io.grpc.CallCredentials;
import io.grpc.ChannelCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/** The connection to the service. */
public final class ServiceChannel {
  private ServiceChannel() {}

  /**
   * Connects to a service as the environment says:
   *
   * <ul>
   *   <li>{@code CARE_INVITATION_ADDRESS}: host:port
   *   <li>{@code CARE_INVITATION_CA}: PEM file with the CAs of the server; without it the
   *       connection is in plain text
   *   <li>{@code CARE_INVITATION_TOKEN_FILE}: file with the bearer token, if calls bring one
   * </ul>
   *
   * @throws IOException a file cannot be read
   * @throws IllegalArgumentException the address is missing, or a token is to be sent in plain text
   */
  public static ManagedChannel open(Map<String, String> environment) throws IOException {
    String address = environment.getOrDefault("CARE_INVITATION_ADDRESS", "");
    if (address.isEmpty()) {
      throw new IllegalArgumentException(
          "CARE_INVITATION_ADDRESS is not set: host:port of the service");
    }
    String ca = environment.getOrDefault("CARE_INVITATION_CA", "");
    String token = environment.getOrDefault("CARE_INVITATION_TOKEN_FILE", "");
    if (!token.isEmpty() && ca.isEmpty()) {
      throw new IllegalArgumentException(
          "CARE_INVITATION_TOKEN_FILE needs CARE_INVITATION_CA: tokens are sent within TLS alone");
    }
    ChannelCredentials credentials =
        ca.isEmpty()
            ? InsecureChannelCredentials.create()
            : TlsChannelCredentials.newBuilder().trustManager(new File(ca)).build();
    if (!token.isEmpty()) {
      credentials = CompositeChannelCredentials.create(credentials, new TokenFile(Path.of(token)));
    }
    return Grpc.newChannelBuilder(address, credentials)
        .defaultServiceConfig(serviceConfig())
        .keepAliveTime(30, TimeUnit.SECONDS)
        .build();
  }

  /**
   * Returns the service config that the service publishes: deadlines by method, and which failures
   * are retried.
   */
  static Map<String, ?> serviceConfig() throws IOException {
    try (Reader reader =
        new InputStreamReader(
            ServiceChannel.class.getResourceAsStream("/service-config.json"),
            StandardCharsets.UTF_8)) {
      return new Gson().fromJson(reader, new TypeToken<Map<String, ?>>() {});
    }
  }

  /** Brings the token of a file, read at each call, so that another program can replace it. */
  private static final class TokenFile extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    private final Path file;

    TokenFile(Path file) {
      this.file = file;
    }

    @Override
    public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
      executor.execute(
          () -> {
            try {
              Metadata metadata = new Metadata();
              metadata.put(AUTHORIZATION, "Bearer " + Files.readString(file).strip());
              applier.apply(metadata);
            } catch (IOException | RuntimeException why) {
              applier.fail(
                  Status.UNAUTHENTICATED
                      .withDescription("the file with the token cannot be read")
                      .withCause(why));
            }
          });
    }
  }
}
