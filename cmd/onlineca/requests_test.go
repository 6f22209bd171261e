package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

func TestRequests(t *testing.T) {
	c := startRoad(t, "", "--fault", "deny:0x80094012@submit")
	config := filepath.Join(c.dir, "onlineca.yaml")
	requests := func(args ...string) result {
		return onlineca(t, append(append([]string{"requests"}, args...), "--config", config)...)
	}
	csrs, out := t.TempDir(), t.TempDir()
	makeCSR(t, csrs, "SEP00112233AAAA")

	c.enroll(t, out, csrs).want(t, 1, "0x80094012")
	r := requests("list", "--state", "denied", "--device", "SEP00112233AAAA", "--json")
	r.want(t, 0)
	var all []struct {
		ID       string
		Attempts int
		ReqID    int `json:"req_id"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil || len(all) != 1 || all[0].Attempts != 1 || all[0].ReqID != 1 {
		t.Fatalf("got %+v, %v", all, err)
	}
	// The denial was the CA's word; when the client asks again it is asked again.
	c.enroll(t, out, csrs).want(t, 0, "1 issued")
	r = requests("list", "--since", "1h", "--state", "issued")
	r.want(t, 0, "CN=SEP00112233AAAA")
	issued := strings.Fields(strings.Split(r.stdout, "\n")[1])[0]
	requests("show", issued).want(t, 0, "BEGIN CERTIFICATE")
	requests("retry", issued).want(t, 1, "issued")
	requests("retry", all[0].ID).want(t, 0, "failed")
	requests("show", all[0].ID).want(t, 0, "0x80094012")

	requests("forget", all[0].ID).want(t, 0, "is forgotten")
	requests("show", all[0].ID).want(t, 1, "no such record")
	requests("list", "--state", "lost").want(t, 2, "is no state")
	requests("list", "--since", "lately").want(t, 2, "--since")
	requests("list", "--serial", "zz").want(t, 2, "--serial", "hexadecimal")
	requests("list", "--limit", "-1").want(t, 2, "--limit")
	bad := filepath.Join(c.dir, "bad.yaml")
	write(t, bad, settings(c.certsrv)+"store: 'postgres://ra:hunter2@:::bad'\n")
	if r := onlineca(t, "config", "check", bad); strings.Contains(r.stdout+r.stderr, "hunter2") {
		t.Error("the password is shown")
	} else {
		r.want(t, 1, "store: the address cannot be parsed")
	}
	onlineca(t, "requests", "list", "--config", filepath.Join(c.dir, "absent.yaml")).want(t, 1, "absent.yaml")
}
