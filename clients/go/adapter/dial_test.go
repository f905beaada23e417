package adapter

import (
	"context"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "careinvitation.se/careinvitation/v1"
)

func TestNothingIsOpenedThatHasNoPlace(t *testing.T) {
	t.Setenv("CARE_INVITATION_ADDRESS", "")
	if _, err := Dial(); err == nil {
		t.Error("there is no service without an address")
	}
	if _, err := OpenJournal(t.Context(), ""); err == nil {
		t.Error("a journal without a place would be forgotten")
	}
}

// door answers with the token that a call came with.
type door struct {
	pb.UnimplementedWorklistServiceServer
}

func (door) ListCareUnits(ctx context.Context, _ *pb.ListCareUnitsRequest) (*pb.ListCareUnitsResponse, error) {
	token := metadata.ValueFromIncomingContext(ctx, "authorization")
	return &pb.ListCareUnitsResponse{NextPageToken: token[0]}, nil
}

func TestATokenIsReadAnewAtEachCall(t *testing.T) {
	service := grpc.NewServer()
	pb.RegisterWorklistServiceServer(service, door{})
	server := httptest.NewUnstartedServer(service)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	folder := t.TempDir()
	ca, token := filepath.Join(folder, "ca.pem"), filepath.Join(folder, "token")
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	t.Setenv("CARE_INVITATION_ADDRESS", server.Listener.Addr().String())
	t.Setenv("CARE_INVITATION_CA", ca)
	t.Setenv("CARE_INVITATION_TOKEN_FILE", token)
	connection, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	call := func() (string, error) {
		answer, err := pb.NewWorklistServiceClient(connection).ListCareUnits(t.Context(), &pb.ListCareUnitsRequest{})
		return answer.GetNextPageToken(), err
	}
	if _, err := call(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	for _, given := range []string{"first", "second"} {
		write(token, given+"\n")
		if came, err := call(); err != nil || came != "Bearer "+given {
			t.Errorf("%q comes as %q, %v", given, came, err)
		}
	}
}

func TestATokenIsNotSentInPlainText(t *testing.T) {
	t.Setenv("CARE_INVITATION_ADDRESS", "127.0.0.1:1")
	t.Setenv("CARE_INVITATION_CA", "")
	t.Setenv("CARE_INVITATION_TOKEN_FILE", "token")
	if connection, err := Dial(); err == nil {
		_ = connection.Close()
		t.Error("the token would be sent in plain text")
	}
}
