package testenv

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fault is something that goes wrong on purpose. Its text form is the name,
// and after a colon the parameter if it takes one: "slow:12s", "deny:0x80094012".
type Fault struct {
	// Name is a name of [Faults].
	Name string
	// Duration, Status and Code are the parameters of those that take one; zero
	// means the default.
	Duration time.Duration
	Code     HRESULT
}

// The faults, for [Certsrv.Inject].
var (
	Slow            = Fault{Name: "slow"}
	SlowAnswer      = Fault{Name: "slow-answer"}
	Hang            = Fault{Name: "hang"}
	CloseConnection = Fault{Name: "close"}
	Reset           = Fault{Name: "reset"}
	AnswerLost      = Fault{Name: "answer-lost"}
	Truncated       = Fault{Name: "truncated"}
	Stalled         = Fault{Name: "stalled"}
	Endless         = Fault{Name: "endless"}
	Garbage         = Fault{Name: "garbage"}
	Restart         = Fault{Name: "restart"}
	SessionLost     = Fault{Name: "session-lost"}
	BadChallenge    = Fault{Name: "bad-challenge"}
	LostChallenge   = Fault{Name: "lost-challenge"}
	Status500       = Fault{Name: "status-500"}
	Status503       = Fault{Name: "status-503"}
	Status404       = Fault{Name: "status-404"}
	Elsewhere       = Fault{Name: "elsewhere"}
	Empty           = Fault{Name: "empty"}
	UnknownPage     = Fault{Name: "unknown-page"}
	HTMLCertificate = Fault{Name: "html-certificate"}
	BadCertificate  = Fault{Name: "bad-certificate"}
	OtherKey        = Fault{Name: "other-key"}
	WrongChain      = Fault{Name: "wrong-chain"}
	ChainNoRoot     = Fault{Name: "chain-without-root"}
	BadChain        = Fault{Name: "bad-chain"}
	CAStopped       = Fault{Name: "ca-stopped"}
	RPCDown         = Fault{Name: "rpc-down"}
	AccessDenied    = Fault{Name: "access-denied"}
	Deny            = Fault{Name: "deny"}
	DenyTerse       = Fault{Name: "deny-terse"}
	Hold            = Fault{Name: "hold"}
	Revoked         = Fault{Name: "revoked"}
	NoTemplates     = Fault{Name: "no-templates"}
	ClockWrong      = Fault{Name: "clock-wrong"}
)

// For returns f with a duration.
func (f Fault) For(d time.Duration) Fault { f.Duration = d; return f }

// With returns f with a status value.
func (f Fault) With(code HRESULT) Fault { f.Code = code; return f }

// String is the text form of f.
func (f Fault) String() string {
	switch {
	case f.Duration != 0:
		return f.Name + ":" + f.Duration.String()
	case f.Code != 0:
		return fmt.Sprintf("%s:0x%08x", f.Name, uint32(f.Code))
	default:
		return f.Name
	}
}

// Forever is how often a fault happens that never ends.
const Forever = -1

// armed is a fault that waits for a request, or happens to one.
type armed struct {
	Fault
	kind *faultKind
	step Step
	left int // Forever: until cleared
}

// faultList holds the faults that wait, in the order in which they came.
type faultList struct {
	mu   sync.Mutex
	list []*armed
}

// take finds the fault for a request, and uses it up.
func (l *faultList) take(x *exchange) *armed {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, a := range l.list {
		if a.step != x.step && (a.step != StepAny || x.step == StepHandshake) || a.kind.files && !x.isFile() {
			continue
		}
		if a.left > 0 {
			if a.left--; a.left == 0 {
				l.list = slices.Delete(l.list, i, i+1)
			}
		}
		return a
	}
	return nil
}

// InjectOption says when a fault happens.
type InjectOption func(*armed)

// On has the fault happen at a step. Without it, it happens where the fault
// does by itself; see [Faults].
func On(step Step) InjectOption { return func(a *armed) { a.step = step } }

// Times has the fault happen to the next n requests, or [Forever]. Without it,
// it happens once.
func Times(n int) InjectOption { return func(a *armed) { a.left = n } }

// Inject has a fault happen to requests to come. Faults at the same step happen
// one after the other, in the order of their injection. It panics if the fault
// is not one of [Faults], or cannot happen at that step: a mistake in a test.
func (s *Certsrv) Inject(f Fault, opts ...InjectOption) {
	if err := s.inject(f, opts...); err != nil {
		panic(err)
	}
}

func (s *Certsrv) inject(f Fault, opts ...InjectOption) error {
	i := slices.IndexFunc(faultKinds, func(k faultKind) bool { return k.name == f.Name })
	if i < 0 {
		return fmt.Errorf("testenv: no fault %q; see testenv/FAULTS.md, or onlineca certsrv --faults", f.Name)
	}
	kind := &faultKinds[i]
	a := &armed{Fault: f, kind: kind, step: kind.steps[0], left: 1}
	for _, o := range opts {
		o(a)
	}
	if !slices.Contains(kind.steps, a.step) && !slices.Contains(kind.steps, StepAny) {
		return fmt.Errorf("testenv: fault %s happens at %v, not at %q", f.Name, kind.steps, a.step)
	}
	if !slices.Contains(steps, a.step) {
		return fmt.Errorf("testenv: no step %q; steps are %v", a.step, steps)
	}
	if a.left == 0 || a.left < Forever {
		return fmt.Errorf("testenv: fault %s %d times; give a positive number or Forever", f.Name, a.left)
	}
	a.Duration = cmp.Or(a.Duration, kind.duration)
	a.Code = cmp.Or(a.Code, kind.code)
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, a)
	return nil
}

var steps = []Step{StepAny, StepHandshake, StepLogin, StepPage, StepChain, StepSubmit, StepFetch, StepCRL}

// InjectText has a fault happen that is written as text:
//
//	name[:parameter][@step][*times]
//
// as "hang@submit", "slow:12s@login*3", "deny:0x80094012", "rpc-down*forever".
func (s *Certsrv) InjectText(text string) error {
	f, opts, err := ParseFault(text)
	if err != nil {
		return err
	}
	return s.inject(f, opts...)
}

// ParseFault reads the text form that [Certsrv.InjectText] takes.
func ParseFault(text string) (Fault, []InjectOption, error) {
	rest, times, repeated := strings.Cut(text, "*")
	rest, step, placed := strings.Cut(rest, "@")
	name, param, has := strings.Cut(rest, ":")
	f := Fault{Name: name}
	i := slices.IndexFunc(faultKinds, func(k faultKind) bool { return k.name == name })
	if i < 0 {
		return f, nil, fmt.Errorf("testenv: no fault %q in %q; see testenv/FAULTS.md, or onlineca certsrv --faults", name, text)
	}
	if has {
		if err := f.parameter(&faultKinds[i], param); err != nil {
			return f, nil, fmt.Errorf("testenv: fault %q: %w", text, err)
		}
	}
	var opts []InjectOption
	if placed {
		opts = append(opts, On(Step(step)))
	}
	if repeated {
		n := Forever
		if times != "forever" {
			var err error
			if n, err = strconv.Atoi(times); err != nil || n < 1 {
				return f, nil, fmt.Errorf("testenv: fault %q: %q is no number of times; give a positive number or forever", text, times)
			}
		}
		opts = append(opts, Times(n))
	}
	return f, opts, nil
}

func (f *Fault) parameter(k *faultKind, param string) (err error) {
	switch {
	case k.duration != 0:
		f.Duration, err = time.ParseDuration(param)
		if err == nil && f.Duration == 0 {
			err = fmt.Errorf("a duration of 0 does nothing")
		}
	case k.code != 0:
		var n uint64
		n, err = strconv.ParseUint(param, 0, 32)
		f.Code = HRESULT(n)
	default:
		err = fmt.Errorf("%s takes no parameter, not %q", k.name, param)
	}
	return err
}

// ClearFaults forgets the faults that still wait.
func (s *Certsrv) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = nil
}

// Waiting lists the faults that still wait, in their text form.
func (s *Certsrv) Waiting() []string {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	out := []string{}
	for _, a := range s.faults.list {
		times := strconv.Itoa(a.left)
		if a.left == Forever {
			times = "forever"
		}
		out = append(out, a.String()+"@"+string(a.step)+"*"+times)
	}
	return out
}
