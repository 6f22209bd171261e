package winauth

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCredentialNeverShowsItsPassword(t *testing.T) {
	c := Credential{`LABDOM\ra-user`, "S3cret!pw"}
	cfg := Config{Credential: c}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%T"} {
		fmt.Fprintf(&out, verb+"\n", c)
		fmt.Fprintf(&out, verb+"\n", &c)
		fmt.Fprintf(&out, verb+"\n", cfg)
	}
	j, err := json.Marshal(struct{ C Credential }{c})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	if s := out.String(); strings.Contains(s, "S3cret") || strings.Contains(s, hex.EncodeToString([]byte("S3cret"))) {
		t.Error(s)
	}
	if !strings.Contains(string(j), "ra-user") {
		t.Errorf("%s", j)
	}
}

// The example of MS-NLMP 4.2.4.1.1: User, Domain, Password.
func TestNTOWFv2(t *testing.T) {
	got := hex.EncodeToString(ntowfv2(Credential{`Domain\User`, "Password"}))
	if want := "0c868a403bfd7a93a3001ef22ef02e3f"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEndPointHash(t *testing.T) {
	for alg, want := range map[x509.SignatureAlgorithm]string{
		x509.MD5WithRSA: "SHA-256", x509.SHA1WithRSA: "SHA-256", x509.ECDSAWithSHA1: "SHA-256",
		x509.SHA256WithRSA: "SHA-256", x509.SHA256WithRSAPSS: "SHA-256", x509.ECDSAWithSHA256: "SHA-256",
		x509.SHA384WithRSA: "SHA-384", x509.SHA384WithRSAPSS: "SHA-384", x509.ECDSAWithSHA384: "SHA-384",
		x509.SHA512WithRSA: "SHA-512", x509.SHA512WithRSAPSS: "SHA-512", x509.ECDSAWithSHA512: "SHA-512",
		x509.PureEd25519: "", x509.UnknownSignatureAlgorithm: "",
	} {
		h, err := endPointHash(&x509.Certificate{SignatureAlgorithm: alg})
		if want == "" {
			if err == nil {
				t.Errorf("%v: %v", alg, h)
			}
			continue
		}
		if err != nil || h.String() != want {
			t.Errorf("%v: %v, %v, want %s", alg, h, err, want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	good := Config{URL: "https://ca.example.com/certsrv", Credential: Credential{"u", "p"}}
	for name, change := range map[string]func(*Config){
		"https://":   func(c *Config) { c.URL = "http://ca.example.com/certsrv" },
		"no host":    func(c *Config) { c.URL = "https:///certsrv" },
		"is none":    func(c *Config) { c.URL = "https://ca example/\x7f" },
		"belong in":  func(c *Config) { c.URL = "https://u:hunter2@ca.example.com/" },
		"user name":  func(c *Config) { c.Credential.Username = "" },
		"sessions":   func(c *Config) { c.Sessions = -1 },
		"negative":   func(c *Config) { c.LoginTimeout = -1 },
		"none is gi": func(c *Config) { c.EPA.Binding = BindCertificate },
		"binding 9":  func(c *Config) { c.EPA.Binding = 9 },
	} {
		c := good
		change(&c)
		_, err := NewPool(c)
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	p, err := NewPool(good)
	if err != nil || p.host != "ca.example.com:443" {
		t.Errorf("%v, %v", p, err)
	}
}

// The gate lets one go first, then the others together, and nobody after a
// refusal.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{now: time.Now, pause: time.Minute}
		var together, most, first int
		login := func() error {
			leave, err := g.enter(t.Context())
			if err != nil {
				return err
			}
			g.mu.Lock()
			together++
			most = max(most, together)
			if g.leading != nil {
				first++
			}
			g.mu.Unlock()
			time.Sleep(time.Second) // the bubble's clock
			g.mu.Lock()
			together--
			g.mu.Unlock()
			leave(nil)
			return nil
		}
		for range 8 {
			go func() { _ = login() }()
		}
		synctest.Wait()
		g.mu.Lock()
		if together != 1 {
			t.Errorf("%d went first", together)
		}
		g.mu.Unlock()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		g.mu.Lock()
		if most != 7 || first != 1 || g.flying != 0 || g.leading != nil {
			t.Errorf("%d together, %d first, %d flying", most, first, g.flying)
		}
		g.mu.Unlock()

		leave, err := g.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 3)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() { _, err := g.enter(ctx); errs <- err }()
		if err := <-errs; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("gave up with %v", err)
		}
		for range 2 {
			go func() { _, err := g.enter(t.Context()); errs <- err }()
		}
		synctest.Wait()
		leave(&LegError{LegAuthenticate, &RejectedError{Username: "u"}})
		for range 2 {
			if err := <-errs; !errors.Is(err, ErrRejected) {
				t.Errorf("who waited got %v", err)
			}
		}
		if _, err := g.enter(t.Context()); !errors.Is(err, ErrSuspended) {
			t.Errorf("during the pause: %v", err)
		}
		time.Sleep(time.Minute)
		leave, err = g.enter(t.Context())
		if err != nil {
			t.Fatalf("after the pause: %v", err)
		}
		leave(nil)
	})
}

// FuzzRewriteChallenge: a challenge comes from the network. What is accepted
// must be answered without a panic, and carry what was put in.
func FuzzRewriteChallenge(f *testing.F) {
	s := &fakeIIS{}
	neg, err := negotiateMessage()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.challenge(neg))
	s.noMIC = true
	f.Add(s.challenge(neg))
	plain := bytes.Clone(neg)
	plain[12] &^= 4
	f.Add(s.challenge(plain))
	f.Add([]byte(signature + "\x02\x00\x00\x00"))
	f.Add(append(s.challenge(neg)[:44], 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, challenge []byte) {
		x := extra{binding: bytes.Repeat([]byte{7}, 16), spn: "HTTP/ca.example.com", mic: true}
		before := bytes.Clone(challenge)
		out, mic, err := rewriteChallenge(challenge, x)
		if !bytes.Equal(before, challenge) {
			t.Fatal("the challenge itself was changed; the MIC is made over it")
		}
		if err != nil {
			return
		}
		if len(out) > len(challenge)+0xffff {
			t.Fatalf("%d bytes became %d", len(challenge), len(out))
		}
		pairs, err := targetInfo(out)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		seen := map[uint16]int{}
		for _, p := range pairs {
			seen[p.id]++
			if p.id == avChannelBindings && !bytes.Equal(p.value, x.binding) {
				t.Fatalf("binding %x", p.value)
			}
			if p.id == avFlags && (p.value[0]&avFlagMIC != 0) != mic && mic {
				t.Fatalf("flags %x, MIC %v", p.value, mic)
			}
		}
		if seen[avChannelBindings] != 1 || seen[avTargetName] != 1 || seen[avFlags] > 1 {
			t.Fatalf("%v", seen)
		}
		_, _, _ = authenticateMessage(neg, challenge, Credential{"u", "p"}, x)
	})
}

// Where only FIPS 140 algorithms are allowed, NTLM is an error and no panic.
func TestFIPSOnly(t *testing.T) {
	if os.Getenv("GODEBUG") == "fips140=only" {
		_, err := channelBinding(&x509.Certificate{SignatureAlgorithm: x509.SHA256WithRSA})
		fmt.Println("binding:", err)
		neg, err := negotiateMessage()
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = authenticateMessage(neg, (&fakeIIS{}).challenge(neg), Credential{"u", "p"}, extra{mic: true})
		fmt.Println("message:", err)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFIPSOnly$")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, what := range []string{"binding: ", "message: "} {
		if !strings.Contains(string(out), what+"the NTLM message could not be made: crypto/") {
			t.Errorf("%s", out)
		}
	}
}
