package capf

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Job is one request of a batch.
type Job struct {
	// Device is the device's name, taken from the file's: "SEP001122334455".
	Device string
	// File is the path of the request.
	File string
	// CSR is the request, checked as [ParseCSR] does.
	CSR *x509.CertificateRequest
	// Err says what is wrong with the request; the job is not sent.
	Err error
}

// deviceName is what may be a device's name: letters, digits, '.', '_' and '-',
// 50 at most, as CUCM allows and as the lines of a CAPF trace can carry. It
// begins with a letter or digit, so that no name leads out of a directory.
var deviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$`)

// requestSuffixes are the names of requests in a directory. Others are not
// looked at there: a directory can hold keys and certificates as well.
var requestSuffixes = []string{".csr", ".req", ".p10"}

// CheckDeviceName refuses a name that no device can have.
func CheckDeviceName(name string) error {
	if !deviceName.MatchString(name) {
		return fmt.Errorf("%.60q cannot be the name of a device: 1 to 50 letters, digits, '.', '_' or '-', the first a letter or digit", name)
	}
	return nil
}

// ReadJobs makes a job of each file, and of each request (*.csr, *.req, *.p10)
// in each directory. Every request is read and checked; what is wrong with one
// is in its job. Two requests for the same device are both refused, because
// nobody can say which is meant. The error is for a path list that yields no
// job at all.
func ReadJobs(paths []string) ([]Job, error) {
	var jobs []Job
	for _, p := range paths {
		files, err := requestFiles(p)
		if err != nil {
			jobs = append(jobs, Job{Device: deviceOf(p), File: p, Err: err})
			continue
		}
		for _, f := range files {
			jobs = append(jobs, readJob(f))
		}
	}
	if len(jobs) == 0 {
		return nil, fmt.Errorf("no request found in %s: the names of requests end in %s",
			strings.Join(paths, ", "), strings.Join(requestSuffixes, ", "))
	}
	refuseDuplicates(jobs)
	return jobs, nil
}

// deviceOf takes the device's name from a file's.
func deviceOf(path string) string {
	base := filepath.Base(path)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// requestFiles lists the requests at path, in the order of their names.
func requestFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, csrUnreadable("read "+path, err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, csrUnreadable("read the directory "+path, err)
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains(requestSuffixes, strings.ToLower(filepath.Ext(e.Name()))) {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	return files, nil
}

func readJob(file string) Job {
	job := Job{Device: deviceOf(file), File: file}
	if err := CheckDeviceName(job.Device); err != nil {
		job.Err = fmt.Errorf("read %s: %w", file, err)
		return job
	}
	job.CSR, job.Err = ReadCSRFile(file)
	return job
}

// refuseDuplicates refuses every request for a device that has more than one.
// CUCM compares device names without regard to case.
func refuseDuplicates(jobs []Job) {
	byName := make(map[string][]int)
	for i, j := range jobs {
		name := strings.ToLower(j.Device)
		byName[name] = append(byName[name], i)
	}
	for _, same := range byName {
		if len(same) < 2 {
			continue
		}
		files := make([]string, 0, len(same))
		for _, i := range same {
			files = append(files, jobs[i].File)
		}
		err := errors.New("there are several requests for this device: " + strings.Join(files, ", "))
		for _, i := range same {
			jobs[i].CSR, jobs[i].Err = nil, fmt.Errorf("read %s: %w", jobs[i].File, err)
		}
	}
}
