package se.careinvitation.referrals;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.Signature;
import java.time.Instant;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import se.careinvitation.v1.BookingRequestServiceGrpc;
import se.careinvitation.v1.BookingRequestServiceGrpc.BookingRequestServiceBlockingStub;
import se.careinvitation.v1.CreateBookingRequestRequest;

/** TLS with the CAs of a file, and a token that is read anew. */
class DoorTest {
  @TempDir Path folder;

  /** Signs tokens, as an identity provider does. */
  private record Issuer(KeyPair keys) {
    static Issuer make() throws GeneralSecurityException {
      return new Issuer(KeyPairGenerator.getInstance("Ed25519").generateKeyPair());
    }

    private static String base64(byte[] bytes) {
      return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    }

    String publicKeys() {
      byte[] encoded = keys.getPublic().getEncoded();
      String x = base64(Arrays.copyOfRange(encoded, encoded.length - 32, encoded.length));
      return "{\"keys\": [{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"kid\": \"test\", \"x\": \"%s\"}]}"
          .formatted(x);
    }

    String token(String scope) throws GeneralSecurityException {
      String claims =
          """
          {"iss": "https://idp.example", "aud": "care-invitation", "sub": "referrals", "exp": %d, "scope": "%s", "care_units": "*"}\
          """
              .formatted(Instant.now().getEpochSecond() + 300, scope);
      String signed =
          base64("{\"alg\": \"EdDSA\", \"typ\": \"at+jwt\", \"kid\": \"test\"}".getBytes(UTF_8))
              + "."
              + base64(claims.getBytes(UTF_8));
      Signature signature = Signature.getInstance("Ed25519");
      signature.initSign(keys.getPrivate());
      signature.update(signed.getBytes(UTF_8));
      return signed + "." + base64(signature.sign());
    }
  }

  private String file(String name, String content) throws IOException {
    return Files.writeString(folder.resolve(name), content).toString();
  }

  private void makeCertificate() throws Exception {
    ProcessBuilder openssl =
        new ProcessBuilder(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=care")
            .directory(folder.toFile())
            .redirectErrorStream(true);
    openssl
        .command()
        .addAll(
            List.of(
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                "server.key",
                "-out",
                "server.pem"));
    Process made = openssl.redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
    assertEquals(0, made.waitFor());
  }

  @Test
  void aTokenIsReadAnewAtEachCall() throws Exception {
    makeCertificate();
    Issuer issuer = Issuer.make();
    String certificate = folder.resolve("server.pem").toString();
    String[] flags = {
      "--tls-cert",
      certificate,
      "--tls-key",
      folder.resolve("server.key").toString(),
      "--auth-issuer",
      "https://idp.example",
      "--auth-audience",
      "care-invitation",
      "--auth-jwks",
      file("keys.json", issuer.publicKeys())
    };
    try (TestService service = new TestService(folder, flags)) {
      String token = file("token", issuer.token("booking.read"));
      BookingRequestServiceBlockingStub requests =
          BookingRequestServiceGrpc.newBlockingStub(
              service.channel(
                  Map.of("CARE_INVITATION_CA", certificate, "CARE_INVITATION_TOKEN_FILE", token)));
      CreateBookingRequestRequest create =
          (CreateBookingRequestRequest) Event.parse(TestService.accepted("R-1")).call();

      Problem scope =
          Problem.of(
              assertThrows(
                  StatusRuntimeException.class, () -> requests.createBookingRequest(create)));
      assertEquals(Code.PERMISSION_DENIED, scope.code());
      assertEquals(Map.of("scope", "booking.write"), scope.metadata());
      file("token", Issuer.make().token("booking.write"));
      Problem forged =
          Problem.of(
              assertThrows(
                  StatusRuntimeException.class, () -> requests.createBookingRequest(create)));
      assertEquals("TOKEN_INVALID", forged.reason());
      assertTrue(forged.isPassing());
      file("token", issuer.token("booking.write"));
      assertEquals(
          "R-1",
          requests.createBookingRequest(create).getBookingRequest().getReferral().getReferralId());
    }
  }

  @Test
  void aTokenIsNotSentInPlainText() {
    Map<String, String> environment =
        Map.of("CARE_INVITATION_ADDRESS", "127.0.0.1:1", "CARE_INVITATION_TOKEN_FILE", "token");
    assertThrows(IllegalArgumentException.class, () -> ServiceChannel.open(environment));
    // A variable that is empty counts as none.
    Map<String, String> empty = new HashMap<>(environment);
    empty.put("CARE_INVITATION_CA", "");
    assertThrows(IllegalArgumentException.class, () -> ServiceChannel.open(empty));
  }
}
