package capf_test

import (
	"bytes"
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/ra/fault"
)

func TestBatchOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skipf("a small file system to fill cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	stub := estStubFor(t, newESTCA(t))
	e, _ := estEnroller(t, stub, nil)
	in, _ := batchDirs(t, 7)
	sum, err := capf.RunBatch(t.Context(), capf.BatchConfig{Enroller: e, Out: dir, Workers: 1}, batchJobs(t, in))
	if err != nil || sum.Issued == 0 || sum.Failed == 0 || sum.Issued+sum.Failed != 7 {
		t.Fatalf("%+v, %v", sum, err)
	}
	if stub.calls != sum.Issued {
		t.Errorf("%d certificates were issued, %d could be kept", stub.calls, sum.Issued)
	}
	var names []string
	for _, r := range sum.Results {
		if r.Outcome == capf.OutcomeIssued {
			names = append(names, r.Device+".der")
			if got, err := os.ReadFile(r.Path); err != nil || !bytes.Equal(got, r.Certificate.Raw) {
				t.Errorf("%s: %d bytes, %v", r.Path, len(got), err)
			}
		} else if !errors.Is(r.Err, fault.DiskFull) || !errors.Is(r.Err, syscall.ENOSPC) {
			t.Error(r.Err)
		}
	}
	estOnly(t, dir, names...)
}
