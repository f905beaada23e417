package adapter

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// tokenFile is a file with a bearer token, read at each call, so that another program can replace it.
type tokenFile string

// GetRequestMetadata returns the token of a call.
func (path tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := os.ReadFile(string(path))
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(string(token))}, nil
}

// RequireTransportSecurity says that the token is sent within TLS alone.
func (tokenFile) RequireTransportSecurity() bool { return true }

// Dial connects to a service as the environment says:
//
//	CARE_INVITATION_ADDRESS      host:port
//	CARE_INVITATION_CA           PEM file with the CAs of the server; without it the connection is in plain text
//	CARE_INVITATION_TOKEN_FILE   file with the bearer token, if calls bring one
func Dial() (*grpc.ClientConn, error) {
	address := os.Getenv("CARE_INVITATION_ADDRESS")
	if address == "" {
		return nil, errors.New("CARE_INVITATION_ADDRESS is not set: host:port of the service")
	}
	options := []grpc.DialOption{grpc.WithKeepaliveParams(keepalive.ClientParameters{
		Time: 30 * time.Second, Timeout: 20 * time.Second,
	})}
	ca := os.Getenv("CARE_INVITATION_CA")
	if ca == "" {
		options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	} else {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
		secure := credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
		options = append(options, grpc.WithTransportCredentials(secure))
	}
	if token := os.Getenv("CARE_INVITATION_TOKEN_FILE"); token != "" {
		options = append(options, grpc.WithPerRPCCredentials(tokenFile(token)))
	}
	return grpc.NewClient(address, options...)
}
