package capf_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/ra/fault"
)

// batchDirs makes n requests, SEP000000000001.csr and on, and a directory for
// certificates.
func batchDirs(t *testing.T, n int) (in, out string) {
	t.Helper()
	in, out = t.TempDir(), filepath.Join(t.TempDir(), "lsc")
	for i := range n {
		name := fmt.Sprintf("SEP%012d", i+1)
		estFile(t, in, name+".csr", estPEM("CERTIFICATE REQUEST", estCSR(t, name)))
	}
	return in, out
}

func batchJobs(t *testing.T, paths ...string) []capf.Job {
	t.Helper()
	jobs, err := capf.ReadJobs(paths)
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

func batchResult(t *testing.T, s capf.Summary, file string) capf.JobResult {
	t.Helper()
	for _, r := range s.Results {
		if filepath.Base(r.File) == file {
			return r
		}
	}
	t.Fatalf("no result for %s", file)
	return capf.JobResult{}
}

func TestBatchBadInputLeavesTheOthersAlone(t *testing.T) {
	ca := newESTCA(t)
	s := newLibest(t, ca, nil, nil)
	defer s.close()
	e, _ := estEnroller(t, s.client(nil), nil)
	in, out := batchDirs(t, 4)
	good := estCSR(t, "x")
	estFile(t, in, "SEPBADSIG.csr", badSignature(good))
	estFile(t, in, "SEPSHORT.csr", smallRSA(t))
	estFile(t, in, "SEPTEXT.csr", []byte("hello\n"))
	estFile(t, in, "SEPTWICE.csr", good)
	estFile(t, in, "septwice.req", good)
	estFile(t, in, ".hidden.csr", good)
	estFile(t, in, "SEP A.csr", good)
	estFile(t, in, "SEPKEY.pem", []byte("not looked at"))
	if err := os.Truncate(estFile(t, in, "SEPZEROS.csr", nil), 10<<20); err != nil {
		t.Fatal(err)
	}
	jobs := batchJobs(t, in, filepath.Join(in, "none.csr"))
	sum, err := capf.RunBatch(t.Context(), capf.BatchConfig{Enroller: e, Out: out}, jobs)
	if err != nil || sum.Issued != 4 || sum.Failed != 9 || sum.OK() {
		t.Fatalf("%+v, %v", sum, err)
	}
	for file, c := range map[string]struct {
		code fault.Code
		says string
	}{
		"SEPBADSIG.csr": {fault.BadCSRSignature, "signature"},
		"SEPSHORT.csr":  {fault.KeyTooShort, "512 bits"},
		"SEPTEXT.csr":   {fault.MalformedCSR, "neither DER nor PEM"},
		"SEPZEROS.csr":  {fault.MalformedCSR, "10485760 bytes"},
		"SEPTWICE.csr":  {fault.Unknown, "septwice.req"},
		"septwice.req":  {fault.Unknown, "SEPTWICE.csr"},
		".hidden.csr":   {fault.Unknown, "cannot be the name of a device"},
		"SEP A.csr":     {fault.Unknown, "cannot be the name of a device"},
		"none.csr":      {fault.Unknown, "no such file"},
	} {
		r := batchResult(t, sum, file)
		if r.Outcome != capf.OutcomeFailed || r.Code != c.code || !strings.Contains(r.Err.Error(), c.says) || strings.Contains(r.Err.Error(), "\n") {
			t.Errorf("%s: %v %v: %v", file, r.Outcome, r.Code, r.Err)
		}
	}
	estOnly(t, out, "SEP000000000001.der", "SEP000000000002.der", "SEP000000000003.der", "SEP000000000004.der")
	if n := len(s.requests()); n != 1+2*4 {
		t.Errorf("%d requests to the server: bad requests were sent", n)
	}
}

func TestBatchGoesOnWhereItStopped(t *testing.T) {
	ca := newESTCA(t)
	stub := estStubFor(t, ca)
	e, _ := estEnroller(t, stub, nil)
	in, out := batchDirs(t, 3)
	run := func(again bool, now time.Time) capf.Summary {
		sum, err := capf.RunBatch(t.Context(), capf.BatchConfig{Enroller: e, Out: out, Again: again, Now: func() time.Time { return now }}, batchJobs(t, in))
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	if sum := run(false, time.Now()); sum.Issued != 3 || !sum.OK() {
		t.Fatalf("%+v", sum)
	}
	if err := os.Remove(filepath.Join(out, "SEP000000000002.der")); err != nil {
		t.Fatal(err)
	}
	sum := run(false, time.Now())
	if sum.Issued != 1 || sum.Skipped != 2 || stub.calls != 4 || !sum.OK() {
		t.Errorf("%+v, %d requests", sum, stub.calls)
	}
	if sum := run(true, time.Now()); sum.Issued != 3 || stub.calls != 7 {
		t.Errorf("%+v, %d requests", sum, stub.calls)
	}
	// What is there is not taken for the device's certificate blindly.
	other := estFile(t, out, "SEP000000000001.der", ca.issuing.Raw)
	estFile(t, out, "SEP000000000002.der", []byte("x"))
	sum = run(false, time.Now())
	if sum.Skipped != 1 || sum.Failed != 2 || stub.calls != 7 {
		t.Errorf("%+v, %d requests", sum, stub.calls)
	}
	if r := batchResult(t, sum, "SEP000000000001.csr"); !strings.Contains(r.Err.Error(), "another key") || !strings.Contains(r.Err.Error(), other) {
		t.Error(r.Err)
	}
	if r := batchResult(t, sum, "SEP000000000002.csr"); !strings.Contains(r.Err.Error(), "no certificate") {
		t.Error(r.Err)
	}
	if r := batchResult(t, run(false, time.Now().Add(48*time.Hour)), "SEP000000000003.csr"); r.Err == nil || !strings.Contains(r.Err.Error(), "was valid until") {
		t.Error(r.Err)
	}
	if got, _ := os.ReadFile(other); !bytes.Equal(got, ca.issuing.Raw) {
		t.Error("the file was changed")
	}
}

func TestBatchNeverHasMoreThanItsWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newESTCA(t)
		stub := estStubFor(t, ca)
		var now, most atomic.Int32
		answer := stub.answer
		stub.answer = func(csr *x509.CertificateRequest) (*capf.Answer, error) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			time.Sleep(time.Second)
			return answer(csr)
		}
		e, _ := estEnroller(t, stub, nil)
		in, out := batchDirs(t, 12)
		start := time.Now()
		sum, err := capf.RunBatch(t.Context(), capf.BatchConfig{Enroller: e, Out: out, Workers: 3}, batchJobs(t, in))
		if err != nil || sum.Issued != 12 || most.Load() != 3 {
			t.Errorf("%+v, %v, %d at once", sum, err, most.Load())
		}
		if took := time.Since(start); took != 4*time.Second || sum.Took != took {
			t.Errorf("took %v, says %v", took, sum.Took)
		}
	})
}

// The bubble also fails if a goroutine is left behind.
func TestBatchEndsCleanlyWhenInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLibest(t, newESTCA(t), newESTMemory(), nil)
		s.answer = func(r *estSeen) string {
			if r.login {
				time.Sleep(2 * time.Second)
			}
			return s.normal(r)
		}
		defer s.close()
		e, _ := estEnroller(t, s.client(nil), nil)
		in, out := batchDirs(t, 8)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		sum, err := capf.RunBatch(ctx, capf.BatchConfig{Enroller: e, Out: out, Workers: 2}, batchJobs(t, in))
		if err != nil || sum.Issued != 2 || sum.Canceled != 6 || sum.Failed != 0 || sum.OK() {
			t.Errorf("%+v, %v", sum, err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("ended after %v", took)
		}
		estOnly(t, out, "SEP000000000001.der", "SEP000000000002.der")
	})
}

func TestBatchWithoutItsServer(t *testing.T) {
	stub := estStubFor(t, newESTCA(t))
	stub.err = fault.New(fault.ESTUnreachable, "est", nil)
	e, _ := estEnroller(t, stub, nil)
	in, out := batchDirs(t, 3)
	sum, err := capf.RunBatch(t.Context(), capf.BatchConfig{Enroller: e, Out: out}, batchJobs(t, in))
	if !errors.Is(err, fault.ESTUnreachable) || sum.Failed != 3 || stub.calls != 0 {
		t.Errorf("%+v, %v", sum, err)
	}
	estOnly(t, out)
	if _, err := capf.RunBatch(t.Context(), capf.BatchConfig{}, nil); err == nil {
		t.Error("an empty configuration was accepted")
	}
	estFile(t, filepath.Dir(out), "file", nil)
	if _, err := capf.RunBatch(t.Context(), capf.BatchConfig{Enroller: e, Out: filepath.Join(filepath.Dir(out), "file")}, nil); !errors.Is(err, fault.DiskFull) {
		t.Error(err)
	}
}

func TestReadJobsOfNothing(t *testing.T) {
	if jobs, err := capf.ReadJobs([]string{t.TempDir()}); err == nil || !strings.Contains(err.Error(), ".csr") {
		t.Errorf("%v, %v", jobs, err)
	}
}

func TestDeviceNames(t *testing.T) {
	for _, good := range []string{"SEP001122334455", "CSFuser.name", "a", "TCT_x-1", strings.Repeat("x", 50)} {
		if err := capf.CheckDeviceName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "..", "../x", "a/b", `a\b`, "a b", "-x", ".x", "a\n", "SEP\x00", "SÉP", strings.Repeat("x", 51)} {
		if err := capf.CheckDeviceName(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestBatchTellsAPerson(t *testing.T) {
	ca := newESTCA(t)
	var posts atomic.Int32
	s := newLibest(t, ca, nil, nil)
	s.answer = func(r *estSeen) string {
		if r.login && posts.Add(1)%20 == 0 {
			return estHTTP("400 Bad Request", nil, "Error 400: Bad Request\nDenied by Policy Module:\n\tthe subject \x1b[31mis\x1b[0m not allowed\n")
		}
		return s.normal(r)
	}
	defer s.close()
	e, _ := estEnroller(t, s.client(nil), nil)
	in, out := batchDirs(t, 60)
	var lines, large, small bytes.Buffer
	sum, err := capf.RunBatch(t.Context(), capf.BatchConfig{Enroller: e, Out: out, Observer: capf.NewProgress(&lines, 60)}, batchJobs(t, in))
	if err != nil || sum.Issued != 57 || sum.Failed != 3 {
		t.Fatalf("%+v, %v", sum, err)
	}
	if got := strings.Split(strings.TrimSuffix(lines.String(), "\n"), "\n"); len(got) != 60 || !strings.HasPrefix(got[0], "[ 1/60] SEP") || !strings.HasPrefix(got[59], "[60/60] SEP") {
		t.Errorf("%d lines, %s", len(got), lines.String())
	}
	if err := sum.WriteTable(&large); err != nil {
		t.Fatal(err)
	}
	// A large batch: the failures, the totals, what to do.
	got := large.String()
	if n := strings.Count(got, "\n"); n != 1+3+1+1 {
		t.Errorf("%d lines:\n%s", n, got)
	}
	for _, want := range []string{"Denied by Policy Module: the subject", "60 devices: 57 issued, 3 failed", "hint: request-refused (3): "} {
		if !strings.Contains(got, want) || !strings.Contains(lines.String()+got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.ContainsRune(got+lines.String(), 0x1b) {
		t.Error("a control character of the server's reached the terminal")
	}
	sum.Results = sum.Results[:3]
	if err := sum.WriteTable(&small); err != nil {
		t.Fatal(err)
	}
	if got := small.String(); !strings.Contains(got, "CN=SEP000000000001") || strings.Count(got, "\n") < 1+3+1 {
		t.Errorf("a small batch lists everything:\n%s", got)
	}
}
