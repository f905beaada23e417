package se.careinvitation.referrals;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Why a call failed.
 *
 * @param code the status code
 * @param reason a name of ErrorReason without its prefix; empty when the failure does not come from
 *     the service
 * @param metadata what ErrorReason says that comes with the reason
 * @param fields what is wrong with each field, by its path
 * @param retryDelay the time to wait before a repeat; zero when the service does not say
 */
public record Problem(
    Status.Code code,
    String reason,
    Map<String, String> metadata,
    Map<String, String> fields,
    Duration retryDelay) {

  /** Reads a failure. */
  public static Problem of(StatusRuntimeException failure) {
    ErrorInfo info = ErrorInfo.getDefaultInstance();
    Map<String, String> fields = new LinkedHashMap<>();
    Duration retryDelay = Duration.ZERO;
    try {
      for (Any detail : StatusProto.fromThrowable(failure).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          info = detail.unpack(ErrorInfo.class);
        } else if (detail.is(BadRequest.class)) {
          detail
              .unpack(BadRequest.class)
              .getFieldViolationsList()
              .forEach(it -> fields.put(it.getField(), it.getDescription()));
        } else if (detail.is(RetryInfo.class)) {
          com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryDelay = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
        }
      }
    } catch (InvalidProtocolBufferException malformed) {
      // Not from the service: the code alone counts.
    }
    return new Problem(
        failure.getStatus().getCode(), info.getReason(), info.getMetadataMap(), fields, retryDelay);
  }

  /**
   * Returns true if the same call may succeed later without anybody changing it: docs/errors.md.
   */
  public boolean isPassing() {
    return switch (code) {
      case INVALID_ARGUMENT,
          NOT_FOUND,
          ALREADY_EXISTS,
          FAILED_PRECONDITION,
          ABORTED,
          OUT_OF_RANGE,
          UNIMPLEMENTED ->
          false;
      // Tokens and rights are mended without this program.
      default -> true;
    };
  }
}
