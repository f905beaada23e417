package se.careinvitation.referrals;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Empty;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ClientStreamTracer;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Grpc;
import io.grpc.HandlerRegistry;
import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerMethodDefinition;
import io.grpc.ServiceDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ClientCalls;
import java.io.ByteArrayInputStream;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import se.careinvitation.sandbox.v1.ClockServiceGrpc;
import se.careinvitation.v1.AuditServiceGrpc;
import se.careinvitation.v1.BookingRequestServiceGrpc;
import se.careinvitation.v1.BookingRequestServiceGrpc.BookingRequestServiceBlockingStub;
import se.careinvitation.v1.CareUnitSettingsServiceGrpc;
import se.careinvitation.v1.CreateBookingRequestRequest;
import se.careinvitation.v1.NotificationServiceGrpc;
import se.careinvitation.v1.PatientServiceGrpc;
import se.careinvitation.v1.WorklistServiceGrpc;

/** The service config that the service publishes, as grpc-java takes it. */
class ServiceConfigTest {
  private static final List<ServiceDescriptor> SERVICES =
      List.of(
          AuditServiceGrpc.getServiceDescriptor(),
          BookingRequestServiceGrpc.getServiceDescriptor(),
          CareUnitSettingsServiceGrpc.getServiceDescriptor(),
          ClockServiceGrpc.getServiceDescriptor(),
          NotificationServiceGrpc.getServiceDescriptor(),
          PatientServiceGrpc.getServiceDescriptor(),
          WorklistServiceGrpc.getServiceDescriptor());

  @TempDir Path folder;

  /** A server that has no method, and notes the deadlines with which each is called. */
  private static final class Deadlines extends HandlerRegistry {
    final Map<String, Duration> seen = new ConcurrentHashMap<>();

    @Override
    public ServerMethodDefinition<?, ?> lookupMethod(String name, String authority) {
      MethodDescriptor<Empty, Empty> method =
          MethodDescriptor.<Empty, Empty>newBuilder()
              .setFullMethodName(name)
              .setType(MethodType.UNKNOWN)
              .setRequestMarshaller(ProtoUtils.marshaller(Empty.getDefaultInstance()))
              .setResponseMarshaller(ProtoUtils.marshaller(Empty.getDefaultInstance()))
              .build();
      return ServerMethodDefinition.create(method, (call, headers) -> note(name, call));
    }

    private ServerCall.Listener<Empty> note(String name, ServerCall<Empty, Empty> call) {
      Deadline deadline = Context.current().getDeadline();
      seen.put(
          name,
          deadline == null
              ? Duration.ZERO
              : Duration.ofNanos(deadline.timeRemaining(TimeUnit.NANOSECONDS)));
      call.close(Status.UNIMPLEMENTED, new Metadata());
      return new ServerCall.Listener<>() {};
    }
  }

  @Test
  void eachCallHasADeadlineAndNoStreamHas() throws Exception {
    Deadlines deadlines = new Deadlines();
    Server server =
        Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
            .fallbackHandlerRegistry(deadlines)
            .build();
    server.start();
    ManagedChannel channel =
        ServiceChannel.open(Map.of("CARE_INVITATION_ADDRESS", "127.0.0.1:" + server.getPort()));
    try {
      for (ServiceDescriptor service : SERVICES) {
        for (MethodDescriptor<?, ?> method : service.getMethods()) {
          call(channel, method);
          Duration deadline = deadlines.seen.get(method.getFullMethodName());
          boolean isStream = method.getType() != MethodType.UNARY;
          assertEquals(isStream, deadline.isZero(), method.getFullMethodName() + ": " + deadline);
          assertTrue(
              deadline.compareTo(Duration.ofSeconds(60)) < 0,
              "the service ends every call after 60 seconds");
        }
      }
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
      server.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  /** Makes a call with an empty message, which fails. */
  private static <Q, A> void call(Channel channel, MethodDescriptor<Q, A> method) {
    ClientCall<Q, A> call = channel.newCall(method, CallOptions.DEFAULT);
    Q request = method.parseRequest(new ByteArrayInputStream(new byte[0]));
    assertThrows(
        StatusRuntimeException.class,
        () -> ClientCalls.blockingServerStreamingCall(call, request).hasNext());
  }

  /** Counts the attempts of calls. */
  private static final class Attempts extends ClientStreamTracer.Factory
      implements ClientInterceptor {
    final AtomicInteger count = new AtomicInteger();

    @Override
    public ClientStreamTracer newClientStreamTracer(
        ClientStreamTracer.StreamInfo info, Metadata headers) {
      count.incrementAndGet();
      return new ClientStreamTracer() {};
    }

    @Override
    public <Q, A> ClientCall<Q, A> interceptCall(
        MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
      return next.newCall(method, options.withStreamTracerFactory(this));
    }
  }

  @Test
  void aWriteOutlivesARestartOfTheServiceByRetries() throws Exception {
    try (TestService service = new TestService(folder)) {
      ManagedChannel channel = service.channel();
      Attempts attempts = new Attempts();
      BookingRequestServiceBlockingStub requests =
          BookingRequestServiceGrpc.newBlockingStub(channel);
      CreateBookingRequestRequest create =
          (CreateBookingRequestRequest) Event.parse(TestService.accepted("R-1")).call();
      String first = requests.createBookingRequest(create).getBookingRequest().getName();

      service.kill();
      // Without the service config the same call fails at once.
      ManagedChannel plain =
          Grpc.newChannelBuilder(service.address(), InsecureChannelCredentials.create()).build();
      StatusRuntimeException failure =
          assertThrows(
              StatusRuntimeException.class,
              () -> BookingRequestServiceGrpc.newBlockingStub(plain).createBookingRequest(create));
      assertEquals(Status.Code.UNAVAILABLE, failure.getStatus().getCode());
      plain.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);

      CompletableFuture<String> second =
          CompletableFuture.supplyAsync(
              () ->
                  requests
                      .withInterceptors(attempts)
                      .createBookingRequest(create)
                      .getBookingRequest()
                      .getName());
      while (attempts.count.get() < 2) {
        assertFalse(second.isDone(), "it is retried");
        Thread.sleep(20);
      }
      service.start();
      assertEquals(first, second.get(), "the same request_id: done once");
      assertTrue(attempts.count.get() > 2, attempts.count + " attempts");
      assertEquals(1, TestService.invitations(channel).size());
    }
  }

  @Test
  void aServiceThatDoesNotAnswerEndsTheCallAtItsDeadline() throws Exception {
    try (TestService service = new TestService(folder);
        Journal journal = new Journal(folder.resolve("journal.db"))) {
      Referrals referrals = new Referrals(service.channel(), journal);
      Outcome outcome = referrals.handle(Event.parse(TestService.accepted("R-1")));
      service.signal("STOP");
      Instant begun = Instant.now();
      StatusRuntimeException failure =
          assertThrows(StatusRuntimeException.class, () -> referrals.read("R-1"));
      long seconds = Duration.between(begun, Instant.now()).toSeconds();
      assertEquals(Status.Code.DEADLINE_EXCEEDED, failure.getStatus().getCode());
      assertTrue(seconds >= 9 && seconds <= 15, seconds + " seconds");
      service.signal("CONT");
      assertEquals(outcome.name(), referrals.read("R-1").orElseThrow().getName());
    }
  }
}
