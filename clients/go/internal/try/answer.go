package try

import (
	"context"
	"net"
	"path"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Answer starts a server that stands in for the service: it asks a function what comes of each call of a method, an error or
// an empty message. It returns its address, and ends with the test.
func Answer(t *testing.T, answer func(ctx context.Context, method string) error) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		// Whatever the call's own message is, this one has none of its fields.
		if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
			return err
		}
		method, _ := grpc.MethodFromServerStream(stream)
		if err := answer(stream.Context(), path.Base(method)); err != nil {
			return err
		}
		return stream.SendMsg(&emptypb.Empty{})
	}))
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}
