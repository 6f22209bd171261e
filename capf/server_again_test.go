package capf

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/ra/fault"
)

// busyCA is a fake CA that is not done with a request before until, and says to
// come back in ten seconds. It takes slow to say so.
type busyCA struct {
	*fakeCA
	until time.Time
	slow  time.Duration
}

func (c *busyCA) EnrollCSR(ctx context.Context, device string, session int, csr []byte) (*LSC, error) {
	if wait(ctx, c.slow); ctx.Err() != nil {
		return nil, fault.New(fault.Canceled, "fake CA", ctx.Err())
	}
	if time.Now().Before(c.until) {
		return nil, &fault.Fault{Code: fault.InProgress, Op: "fake CA", RetryAfter: 10 * time.Second}
	}
	return c.fakeCA.EnrollCSR(ctx, device, session, csr)
}

func busyBench(t *testing.T, busy, slow time.Duration, again bool) *bench {
	ca := &busyCA{fakeCA: newFakeCA(t), until: time.Now().Add(busy), slow: slow}
	b := newBench(t, func(c *ServerConfig) { c.Online, c.AskAgain = ca, again }, pendingDevice(testDevice))
	b.ca = ca.fakeCA
	return b
}

// A CA that is not done for longer than a phone waits, and for as long as a
// request takes to settle after a crash, costs the phone some of its attempts
// and no certificate. CAPF asks again by itself.
func TestTheCAIsAskedAgain(t *testing.T) {
	for busy, attempts := range map[time.Duration]int{25 * time.Second: 1, 100 * time.Second: 2, 290 * time.Second: 4} {
		synctest.Test(t, func(t *testing.T) {
			b := busyBench(t, busy, 0, true)
			defer b.stop()
			start := time.Now()
			cfg := b.phoneConfig(testDevice)
			cfg.Retries = phone.DefaultRetries
			if r := mustRun(t, cfg); r.Attempts != attempts || time.Since(start) > busy+40*time.Second {
				t.Errorf("busy for %v: %d attempts, %v", busy, r.Attempts, time.Since(start))
			}
			if _, certs := b.ca.count(); certs != 1 {
				t.Errorf("%d certificates", certs)
			}
			b.wantRow(testDevice, OperationNone, StatusUpgradeSuccess, "")
		})
	}
}

// While it waits the device is pending with the reason beside it. When the
// phone does not come back, the certificate is there for its next contact.
func TestTheCAIsAskedAgainWithoutThePhone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := busyBench(t, 5*time.Minute, 0, true)
		defer b.stop()
		p, err := phone.New(b.phoneConfig(testDevice))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(t.Context()); err == nil {
			t.Fatal("there is a certificate already")
		}
		b.wantRow(testDevice, OperationUpgrade, StatusOperationPending, "has not answered within")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if d := b.device(testDevice); len(d.Issued) == 0 {
			t.Fatalf("%+v", d)
		}
		if _, err := p.Run(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// In the end it is a failure whose way on is the next contact, whatever CAPF is
// doing when the time is up: pausing, beginning to ask, or waiting for an
// answer (the 47th question begins at 598 s).
func TestTheCAIsNotAskedForEver(t *testing.T) {
	for _, slow := range []time.Duration{0, 3 * time.Second, 4 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			b := busyBench(t, 11*time.Minute, slow, true)
			defer b.stop()
			p, err := phone.New(b.phoneConfig(testDevice))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = p.Run(t.Context())
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			d := b.device(testDevice)
			if d.Operation != OperationUpgrade || d.Status != 15 || d.Code != fault.InProgress.String() || len(d.CSR) == 0 {
				t.Errorf("answers take %v: %+v", slow, d)
			}
			time.Sleep(time.Minute)
			if _, err := p.Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// The product leaves it to the phone.
func TestTheCAIsNotAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := busyBench(t, time.Minute, 0, false)
		defer b.stop()
		start := time.Now()
		wantFailure(t, b.phoneConfig(testDevice), phone.FailLater)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if d := b.device(testDevice); d.Status != 15 || d.Operation != OperationUpgrade {
			t.Errorf("%+v", d)
		}
	})
}

// A device that is removed while its request is with the CA: what cannot be
// delivered any more is reported, with the number to revoke it by.
func TestRemovedWhileTheCAWorks(t *testing.T) {
	remove := func(b *bench) {
		b.table.mu.Lock()
		defer b.table.mu.Unlock()
		clear(b.table.rows)
	}
	contact := func(t *testing.T, b *bench) {
		t.Helper()
		ctx, hangUp := context.WithTimeout(t.Context(), 5*time.Second)
		defer hangUp()
		if _, err := phone.Run(ctx, b.phoneConfig(testDevice)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil, pendingDevice(testDevice))
		defer b.stop()
		b.ca.hold = make(chan struct{})
		contact(t, b)
		remove(b)
		b.ca.hold <- struct{}{}
		synctest.Wait()
		if !b.traced("is not collected: the device was removed") {
			t.Error("the certificate is not reported")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := busyBench(t, time.Hour, 0, true)
		defer b.stop()
		contact(t, b)
		remove(b)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !b.traced("would not be collected: the device was removed") {
			t.Error("the request is not reported")
		}
		if n := len(b.srv.issuing); n != 0 {
			t.Errorf("%d requests are still asked for", n)
		}
	})
	// The phone has made another key.
	synctest.Test(t, func(t *testing.T) {
		b := busyBench(t, time.Hour, 0, true)
		defer b.stop()
		contact(t, b)
		if _, err := b.table.Update(t.Context(), testDevice, func(d *Device) error { d.CSR = bytes.Clone(d.CSR[1:]); return nil }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if !b.traced("would not be collected: its request was given up") {
			t.Error("the request is not reported")
		}
	})
}

// fullTable is a device table on a disk that is full until it is not.
type fullTable struct {
	*memTable
	full atomic.Bool
}

func (t *fullTable) Update(ctx context.Context, name string, change func(*Device) error) (Device, error) {
	if t.full.Load() {
		return Device{}, errors.New("no space left on device")
	}
	return t.memTable.Update(ctx, name, change)
}

// When the table cannot be written, the operation is as it was, and the phone
// is told to come back for it.
func TestTheTableCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := &fullTable{memTable: newMemTable(pendingDevice(testDevice))}
		b := newBench(t, func(c *ServerConfig) { c.Devices = table })
		defer b.stop()
		b.table = table.memTable
		table.full.Store(true)
		cfg := b.phoneConfig(testDevice)
		cfg.Retries = phone.DefaultRetries
		cfg.Retrying = func(err error, _ time.Duration) {
			var e *phone.Error
			if !errors.As(err, &e) || e.Failure != phone.FailLater {
				t.Errorf("the phone: %v", err)
			}
			b.wantRow(testDevice, OperationUpgrade, StatusOperationPending, "")
			table.full.Store(false)
		}
		if r := mustRun(t, cfg); r.Attempts != 2 {
			t.Errorf("%d attempts", r.Attempts)
		}
		if !b.traced("no space left on device") {
			t.Error("the trace does not say why")
		}
		b.wantRow(testDevice, OperationNone, StatusUpgradeSuccess, "")
	})
}
