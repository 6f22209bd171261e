package phone_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/onlineca/onlineca/capf/phone"
)

func TestFleetSummary(t *testing.T) {
	f := newFake(t, nil)
	end := func(reason string) func(c *peer) {
		return func(c *peer) {
			c.send("55 01 00000001 0004 | 07 0001 03")
			c.recv()
			c.send("55 0f 00000001 0004 | 01 0001 " + reason)
		}
	}
	scripts := []func(c *peer){end("00"), end("07"), end("09"), end("00"), end("07")}
	var order []int
	s := phone.Fleet{Count: len(scripts), Parallel: 2,
		Config:  func(i int) phone.Config { return f.config(scripts[i]) },
		Observe: func(_ phone.Outcome, done, total int) { order = append(order, done) },
	}.Run(t.Context())
	if s.Total != 5 || s.Succeeded != 2 || s.Failed != 3 || s.Attempts != 5 || s.Operations[phone.None] != 2 ||
		s.Failures[phone.FailDeclined] != 2 || s.Failures[phone.FailUnknown] != 1 || s.Examples[phone.FailUnknown] == nil {
		t.Errorf("%+v", s)
	}
	if len(order) != 5 || order[4] != 5 {
		t.Errorf("reported %v", order)
	}
	if s.P50 <= 0 || s.P50 > s.P95 || s.P95 > s.P99 || s.PerSecond <= 0 {
		t.Errorf("%v %v %v %v", s.P50, s.P95, s.P99, s.PerSecond)
	}
	var text bytes.Buffer
	if err := s.WriteText(&text); err != nil || !strings.Contains(text.String(), "5 phones") || !strings.Contains(text.String(), "declined             2") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

// A fleet that is cancelled ends at once, and says so.
func TestFleetCancelled(t *testing.T) {
	f := newFake(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	silent := func(c *peer) { cancel(); c.recv() }
	s := phone.Fleet{Count: 3, Config: func(int) phone.Config { return f.config(silent) }}.Run(ctx)
	if s.Failures[phone.FailCancelled] != 3 {
		t.Errorf("%v", s.Failures)
	}
}
