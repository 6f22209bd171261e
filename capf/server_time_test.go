package capf

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/ra/fault"
)

// A phone that says nothing is given up after the time of its state, to the
// second, with the state's own status.
func TestStall(t *testing.T) {
	keygen := func(p *rawPhone) { p.auth(3, testDevice); p.expect(wire.KeyGenerateRequest) }
	sign := func(p *rawPhone) { keygen(p); p.publicKey(); p.expect(wire.EncryptRequest) }
	store := func(p *rawPhone) {
		keygen(p)
		key := p.publicKey()
		m := p.expect(wire.EncryptRequest)
		answer, _ := wire.EncryptStyle{}.Answer(key, &m)
		p.send(answer.Command, answer.Elements...)
		p.expect(wire.StoreCertificateRequest)
	}
	for name, tt := range map[string]struct {
		act    func(p *rawPhone)
		op     Operation
		after  time.Duration
		status Status
	}{
		"auth":   {func(*rawPhone) {}, OperationUpgrade, 10 * time.Second, StatusOperationPending},
		"keygen": {keygen, OperationUpgrade, 30 * time.Minute, 14},
		"sign":   {sign, OperationUpgrade, 30 * time.Second, 13},
		"store":  {store, OperationUpgrade, 30 * time.Second, 13},
		"delete": {func(p *rawPhone) { p.auth(3, testDevice); p.expect(wire.DeleteCertRequest) }, OperationDelete, 30 * time.Second, 22},
		"fetch":  {func(p *rawPhone) { p.auth(3, testDevice); p.expect(wire.FetchCertificateRequest) }, OperationTroubleshoot, 30 * time.Second, 31},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := pendingDevice(testDevice)
				d.Operation = tt.op
				b := newBench(t, nil, d)
				defer b.stop()
				p := b.raw("p")
				p.hello()
				tt.act(p)
				start := time.Now()
				p.expectEnd(wire.ReasonInvalid)
				if took := time.Since(start); took != tt.after {
					t.Errorf("given up after %v, want %v", took, tt.after)
				}
				reason := "no answer within"
				if name == "auth" {
					reason = ""
				}
				b.wantRow(testDevice, tt.op, tt.status, reason)
			})
		})
	}
}

// A connection that never becomes TLS ends after the time for handshakes.
func TestHandshakeStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		defer b.stop()
		conn, err := b.listener.dial(t.Context(), "silent")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		start := time.Now()
		_, err = conn.Read(make([]byte, 1))
		if took := time.Since(start); err == nil || took != 30*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// A byte a second is no progress: the state's time runs on.
func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, pendingDevice(testDevice))
		defer b.stop()
		p := b.raw("p")
		p.hello()
		var trickle sync.WaitGroup
		trickle.Go(func() {
			// The header of a message of 514 bytes, and then its body.
			for b := []byte{wire.Magic}; ; b[0] = 2 {
				if _, err := p.conn.Write(b); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		start := time.Now()
		m := p.read()
		if took := time.Since(start); m.Command != wire.EndSession || took != 10*time.Second {
			t.Errorf("%v after %v", m, took)
		}
		p.conn.Close()
		trickle.Wait()
	})
}

// Endless REQUEST_IN_PROGRESS neither ends the session early nor makes it last
// longer, and costs the sender time.
func TestEndlessProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *ServerConfig) { c.Timeouts.Keygen = time.Minute }, pendingDevice(testDevice))
		defer b.stop()
		p := b.raw("p")
		p.hello()
		p.auth(3, testDevice)
		p.expect(wire.KeyGenerateRequest)
		sent := 0
		go func() {
			for wire.Write(p.conn, wire.Message{Command: wire.RequestInProgress, Session: p.session}) == nil {
				sent++
			}
		}()
		start := time.Now()
		p.expect(wire.EndSession)
		if took := time.Since(start); took != time.Minute {
			t.Errorf("it took %v", took)
		}
		p.conn.Close()
		synctest.Wait()
		if sent < 100 || sent > 1000 {
			t.Errorf("%d messages in a minute", sent)
		}
	})
}

// A certificate that comes when the phone no longer waits is delivered at its
// next contact, without a new key and without a second request.
func TestLateCertificate(t *testing.T) {
	for name, after := range map[string]time.Duration{"told to come back": 61 * time.Second, "still waiting at the next contact": 95 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil, pendingDevice(testDevice))
				defer b.stop()
				b.ca.hold = make(chan struct{})
				go func() { time.Sleep(after); b.ca.hold <- struct{}{} }()
				cfg := b.phoneConfig(testDevice)
				cfg.Retries = 3
				r := mustRun(t, cfg)
				if r.Attempts != 2 {
					t.Errorf("%d attempts", r.Attempts)
				}
				requests, certs := b.ca.count()
				if requests != 1 || certs != 1 {
					t.Errorf("%d requests, %d certificates", requests, certs)
				}
				b.wantRow(testDevice, OperationNone, StatusUpgradeSuccess, "")
			})
		})
	}
}

// The same when the phone has gone away in the meantime.
func TestPhoneGoneWhileCAWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, pendingDevice(testDevice))
		defer b.stop()
		b.ca.hold = make(chan struct{})
		ctx, hangUp := context.WithTimeout(t.Context(), 5*time.Second)
		defer hangUp()
		p, err := phone.New(b.phoneConfig(testDevice))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		synctest.Wait()
		b.wantRow(testDevice, OperationUpgrade, StatusOperationPending, "")
		b.ca.hold <- struct{}{}
		synctest.Wait()
		if d := b.device(testDevice); len(d.Issued) == 0 {
			t.Fatal("the certificate is not kept")
		}
		r, err := p.Run(t.Context())
		if err != nil || r.Operation != phone.Install {
			t.Errorf("%+v, %v", r, err)
		}
		if n, _ := b.ca.count(); n != 1 {
			t.Errorf("%d requests", n)
		}
		b.wantRow(testDevice, OperationNone, StatusUpgradeSuccess, "")
	})
}

// A phone that has lost its key meanwhile declines the late certificate and is
// given one for a new key in the same session.
func TestLateCertificateForLostKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, pendingDevice(testDevice))
		defer b.stop()
		b.ca.hold = make(chan struct{}, 2)
		wantFailure(t, b.phoneConfig(testDevice), phone.FailLater)
		b.ca.hold <- struct{}{}
		b.ca.hold <- struct{}{}
		synctest.Wait()
		mustRun(t, b.phoneConfig(testDevice))
		if requests, _ := b.ca.count(); requests != 2 {
			t.Errorf("%d requests", requests)
		}
		if !b.traced("the phone has another key by now") {
			t.Error("not in the trace")
		}
	})
}

// A phone that comes for its certificate when that has expired gets another one.
func TestLateCertificateExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, pendingDevice(testDevice))
		defer b.stop()
		b.ca.hold = make(chan struct{}, 2)
		p, err := phone.New(b.phoneConfig(testDevice))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(t.Context()); err == nil {
			t.Fatal("there is a certificate already")
		}
		b.ca.hold <- struct{}{}
		synctest.Wait()
		waiting, err := x509.ParseCertificate(b.device(testDevice).Issued)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(waiting.NotAfter) + time.Hour)
		b.ca.hold <- struct{}{}
		r, err := p.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if cert, err := x509.ParseCertificate(r.Certificate); err != nil || !cert.NotAfter.After(time.Now()) {
			t.Errorf("it got one that ends at %v, %v", cert.NotAfter, err)
		}
	})
}

// END_SESSION instead of RETRY_LATER, if so configured.
func TestEndInsteadOfRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *ServerConfig) { c.EndInsteadOfRetry = true }, pendingDevice(testDevice))
		defer b.stop()
		b.ca.hold = make(chan struct{})
		wantFailure(t, b.phoneConfig(testDevice), phone.FailDeclined)
		b.wantRow(testDevice, OperationUpgrade, StatusOperationPending, "has not answered within")
	})
}

// What the Online CA answers decides the status, and whether the phone's next
// contact goes on with the same request.
func TestCAFailures(t *testing.T) {
	for _, tt := range []struct {
		code   fault.Code
		status Status
		op     Operation
	}{
		{fault.ESTReadTimeout, 15, OperationUpgrade},
		{fault.DeniedByPolicy, 16, OperationNone},
		{fault.BadCredentials, 16, OperationNone},
		{fault.Busy, 0, OperationUpgrade},
	} {
		t.Run(tt.code.String(), func(t *testing.T) {
			b := newBench(t, nil, pendingDevice(testDevice))
			defer b.stop()
			b.ca.err = fault.Newf(tt.code, "fake CA", "for the test")
			p, err := phone.New(b.phoneConfig(testDevice))
			if err != nil {
				t.Fatal(err)
			}
			want := phone.FailDeclined
			if tt.op == OperationUpgrade {
				want = phone.FailLater
			}
			_, err = p.Run(t.Context())
			var e *phone.Error
			if !errors.As(err, &e) || e.Failure != want {
				t.Fatalf("the phone: %v, want %q", err, want)
			}
			d := b.device(testDevice)
			if tt.status == 0 {
				tt.status = StatusOf(OperationUpgrade, OpCode(tt.code.Row().Operation))
			}
			if d.Status != tt.status || d.Operation != tt.op || d.Code != tt.code.String() || !strings.Contains(d.Reason, "for the test") {
				t.Errorf("status %d, operation %v, code %s, reason %q", d.Status, d.Operation, d.Code, d.Reason)
			}
			if tt.op == OperationNone {
				if len(d.CSR) != 0 {
					t.Error("the refused request is still there")
				}
				return
			}
			b.ca.err = nil
			if _, err := p.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n, _ := b.ca.count(); n != 2 || !b.traced("Going on with the request") {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// Offline CA: the request is kept, the phone is told to come back, and gets the
// certificate once it is there.
func TestOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := pendingDevice(testDevice)
		d.Issuer = IssuerOffline
		b := newBench(t, nil, d)
		defer b.stop()
		p, err := phone.New(b.phoneConfig(testDevice))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second contact makes no second request
			_, err := p.Run(t.Context())
			var e *phone.Error
			if !errors.As(err, &e) || e.Failure != phone.FailLater || e.After != 30*time.Second {
				t.Fatalf("%v", err)
			}
			b.wantRow(testDevice, OperationUpgrade, StatusOperationPending, "waits for the offline CA")
		}
		csr := b.device(testDevice).CSR
		lsc, err := b.ca.EnrollCSR(t.Context(), testDevice, 0, csr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = b.table.Update(t.Context(), testDevice, func(d *Device) error { d.Issued = lsc.DER; return nil })
		if r, err := p.Run(t.Context()); err != nil || r.Operation != phone.Install {
			t.Fatal(err)
		}
		b.wantRow(testDevice, OperationNone, StatusUpgradeSuccess, "")
	})
}

// A phone that connects anew ends its former session, which then says nothing
// about the device any more.
func TestPhoneConnectsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, pendingDevice(testDevice))
		defer b.stop()
		former := b.raw("p")
		former.hello()
		former.auth(3, testDevice)
		former.expect(wire.KeyGenerateRequest)
		synctest.Wait()
		if s := b.srv.Sessions(); len(s) != 1 || s[0].State != StateAwaitKeygen || s[0].Device != testDevice {
			t.Errorf("sessions %+v", s)
		}
		mustRun(t, b.phoneConfig(testDevice))
		if _, err := wire.Read(former.conn); err == nil {
			t.Error("the former session goes on")
		}
		synctest.Wait()
		b.wantRow(testDevice, OperationNone, StatusUpgradeSuccess, "")
	})
}

// Stopping the server ends every session and leaves the devices as they are.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, pendingDevice(testDevice))
		p := b.raw("p")
		p.hello()
		p.auth(3, testDevice)
		p.expect(wire.KeyGenerateRequest)
		b.stop()
		b.wantRow(testDevice, OperationUpgrade, StatusOperationPending, "")
	})
}

// A phone tries again three times, half a minute apart, and then gives up.
func TestPhoneRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		b.stop() // nobody listens
		cfg := b.phoneConfig(testDevice)
		cfg.Retries = 0
		start := time.Now()
		r, err := phone.Run(t.Context(), cfg)
		if err == nil || r.Attempts != 4 || time.Since(start) != 90*time.Second {
			t.Errorf("%d attempts in %v, %v", r.Attempts, time.Since(start), err)
		}
	})
}

// A phone that closes after it was refused is let go at once, even if what it
// sent was no message.
func TestNoLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		defer b.stop()
		p := b.raw("p")
		p.hello()
		p.bytes([]byte("nonsense"))
		p.expectEnd(wire.ReasonInvalid)
		p.conn.NetConn().Close()
		synctest.Wait()
		if n := len(b.srv.Sessions()); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	})
}
