package inbox

import (
	"hash/fnv"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// fate is what the fake inbox does with a message.
type fate int

const (
	good      fate = iota // takes it
	noAccount             // knows no such patient
	lateTaken             // takes it, and does not answer
	lateLost              // does not take it the first time, and does not answer
	busy                  // takes it at the third attempt
	goodAgain             // takes it
	fateCount
)

func fateOf(name string) fate {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(name))
	return fate(hash.Sum32() % uint32(fateCount))
}

// fake is an inbox with failures, which remembers what it was given.
type fake struct {
	sync.Mutex
	address  string
	attempts map[string]int
	taken    map[string]int
	since    map[string]time.Time
}

func newFake(t *testing.T) *fake {
	fake := &fake{attempts: map[string]int{}, taken: map[string]int{}, since: map[string]time.Time{}}
	server := httptest.NewServer(fake)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	fake.address = server.URL
	return fake
}

func (f *fake) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	name := request.URL.Path[len("/messages/"):]
	if request.Method == http.MethodHead {
		f.Lock()
		defer f.Unlock()
		if since, is := f.since[name]; is {
			answer.Header().Set("Last-Modified", since.UTC().Format(http.TimeFormat))
		} else {
			answer.WriteHeader(http.StatusNotFound)
		}
		return
	}
	// Only then does the server notice that a client has gone.
	_, _ = io.Copy(io.Discard, request.Body)
	time.Sleep(30 * time.Millisecond)
	status, answers := f.take(name)
	if !answers {
		<-request.Context().Done()
		return
	}
	time.Sleep(30 * time.Millisecond)
	answer.WriteHeader(status)
}

// take decides what becomes of a message, and whether that is said.
func (f *fake) take(name string) (status int, answers bool) {
	f.Lock()
	defer f.Unlock()
	f.attempts[name]++
	attempt := f.attempts[name]
	switch it := fateOf(name); {
	case it == noAccount:
		return http.StatusNotFound, true
	case it == lateLost && attempt == 1:
		return 0, false
	case it == busy && attempt < 3:
		return http.StatusServiceUnavailable, true
	default:
		f.taken[name]++
		f.since[name] = time.Now()
		return http.StatusCreated, it != lateTaken
	}
}
