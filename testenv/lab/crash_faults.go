package lab

import (
	"context"
	"strings"
	"time"

	"github.com/onlineca/onlineca/testenv"
)

// crashFaults are what happens to certsrv, in the text form of package testenv.
// The settings give each exchange one second.
var crashFaults = []string{
	// What was submitted is issued, and nobody is told.
	"answer-lost@submit", "answer-lost@submit", "truncated@submit", "slow-answer:1500ms@submit",
	"empty@submit", "unknown-page@submit", "garbage@submit", "stalled@submit",
	// It is not even looked at.
	"reset@submit", "close@submit", "status-500@submit", "status-503@submit", "rpc-down@submit",
	"slow:300ms@submit", "slow:1500ms@submit", "session-lost@submit",
	// The certificate is there and cannot be had.
	"answer-lost@fetch", "truncated@fetch", "reset@fetch", "status-500@fetch", "slow:1500ms@fetch",
	"bad-certificate@fetch", "html-certificate@fetch", "rpc-down@fetch",
	"restart:200ms@submit", "restart:500ms@fetch",
}

// answerLost are those at the submission after which a certificate has been
// issued whose number the registration authority was not told.
var answerLost = map[string]bool{
	"answer-lost": true, "truncated": true, "slow-answer": true, "empty": true,
	"unknown-page": true, "garbage": true, "stalled": true,
}

// inject breaks certsrv until ctx ends; then it is well.
func (t *crashTest) inject(ctx context.Context) {
	r := t.random(partFaults)
	happened := map[crashFault]int{}
	text := "answer-lost@submit" // at least once
	for ctx.Err() == nil {
		// They wait for requests, and there may be none for a while.
		if len(t.certsrv.Waiting()) < 3 && t.certsrv.InjectText(text) == nil {
			happened[faultOf(text)]++
		}
		pause(ctx, r, 50*time.Millisecond, 350*time.Millisecond)
		text = crashFaults[r.IntN(len(crashFaults))]
	}
	for _, text := range t.certsrv.Waiting() {
		happened[faultOf(text)]--
	}
	t.certsrv.ClearFaults()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Faults = map[string]int{}
	for f, n := range happened {
		if n == 0 {
			continue
		}
		t.report.Faults[f.name+"@"+f.step] = n
		if f.step == string(testenv.StepSubmit) && answerLost[f.name] {
			t.report.AnswersLost += n
		}
	}
}

// crashFault is a fault without its parameter.
type crashFault struct{ name, step string }

// faultOf reads name[:parameter]@step[*times].
func faultOf(text string) crashFault {
	text, _, _ = strings.Cut(text, "*")
	name, step, _ := strings.Cut(text, "@")
	name, _, _ = strings.Cut(name, ":")
	return crashFault{name, step}
}
