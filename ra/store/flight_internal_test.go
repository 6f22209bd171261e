package store

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/ra"
	"github.com/onlineca/onlineca/ra/fault"
)

// flown enrols one request, during which something happens, and returns what the
// client was told and the audit log.
func flown(t *testing.T, s *Store, cfg Config, during func(ctx context.Context) error) (res ra.Result, log []byte, err error) {
	t.Helper()
	model, r := costly(t)
	cert := model.cfg.Next.(*instant).cert
	var audit bytes.Buffer
	cfg.Store, cfg.Fetch, cfg.Authority, cfg.Audit = s, model.cfg.Fetch, "ca", &audit
	cfg.Next = ra.EnrollerFunc(func(ctx context.Context, _ ra.Request) (ra.Result, error) {
		if err := during(ctx); err != nil {
			return ra.Result{}, err
		}
		return ra.Result{State: ra.Issued, ReqID: 5, Certificate: cert}, nil
	})
	d, err := NewDurable(cfg)
	if err != nil {
		t.Fatal(err)
	}
	res, err = d.Enroll(t.Context(), r)
	if closeErr := d.Close(t.Context()); closeErr != nil {
		t.Error(closeErr)
	}
	return res, audit.Bytes(), err
}

func opened(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // some tests have closed it
	return s
}

// A certificate that a client has been given has its line, even if the database
// does not take it.
func TestLineOfWhatTheDatabaseRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, happens := range map[string]func(t *testing.T, s *Store){
		"locked": func(t *testing.T, s *Store) {
			other := opened(t, s.name)
			if _, err := s.group.conn.ExecContext(t.Context(), "PRAGMA busy_timeout = 1"); err != nil {
				t.Error(err)
			}
			if _, err := other.group.conn.ExecContext(t.Context(), "BEGIN EXCLUSIVE"); err != nil {
				t.Error(err)
			}
		},
		"closed": func(t *testing.T, s *Store) {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := opened(t, filepath.Join(dir, name))
			res, log, err := flown(t, s, Config{}, func(context.Context) error { happens(t, s); return nil })
			if err != nil || res.State != ra.Issued {
				t.Fatalf("%+v, %v", res, err)
			}
			if n := bytes.Count(log, []byte("\n")); n != 1 {
				t.Errorf("%d lines:\n%s", n, log)
			}
		})
	}
}

// An enroller that ends its goroutine instead of returning keeps nobody waiting.
func TestEnrollerThatEndsItsGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := opened(t, filepath.Join(t.TempDir(), "requests.db"))
		start := time.Now()
		_, _, err := flown(t, s, Config{}, func(context.Context) error { runtime.Goexit(); return nil })
		if fault.Of(err).Code != fault.Internal || time.Since(start) != 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A process that has lost its claim tells what the one that took the request over
// has found out.
func TestClaimIsLostToOneWhoHasTheCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := opened(t, filepath.Join(t.TempDir(), "requests.db"))
		model, _ := costly(t)
		cert := model.cfg.Next.(*instant).cert
		res, _, err := flown(t, s, Config{Lease: time.Second}, func(ctx context.Context) error {
			_, err := s.change(context.WithoutCancel(ctx), "UPDATE requests SET lease_owner = '', lease_until = 0, state = 'issued', req_id = 5, certificate = ?, not_after = ?, serial = '07'",
				cert.Raw, stamp(cert.NotAfter))
			if err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			return fault.New(fault.OutcomeUnknown, "submit", ctx.Err())
		})
		if err != nil || res.State != ra.Issued || res.ReqID != 5 {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

// The claim is lost, and the enroller comes back when the time is up as well: the
// client is told to come back, not that the database is at fault.
func TestClaimIsLostUntilTheTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := opened(t, filepath.Join(t.TempDir(), "requests.db"))
		_, rec, err := flown(t, s, Config{Lease: time.Second, SubmitTimeout: time.Minute, Patience: time.Hour}, func(ctx context.Context) error {
			if _, err := s.change(context.WithoutCancel(ctx), "UPDATE requests SET lease_owner = 'another'"); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			time.Sleep(2 * time.Minute)
			return fault.New(fault.OutcomeUnknown, "submit", ctx.Err())
		})
		if !errors.Is(err, fault.InProgress) || !strings.Contains(err.Error(), errClaimLost.Error()) {
			t.Errorf("%+v, %v", rec, err)
		}
	})
}
