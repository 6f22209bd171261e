package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Alone is what [ServeAlone] runs.
type Alone struct {
	Config Config
	// Control is where the control API is served. Nil: nowhere. It is closed.
	Control net.Listener
	// Faults are injected at the start, in their text form.
	Faults []string
	// Ready, if set, is called once the mock answers.
	Ready func(*Certsrv)
}

// ServeAlone runs a mock and its control API until ctx ends, for a process that
// does nothing else. It returns nil when ctx has ended it.
func ServeAlone(ctx context.Context, a Alone) error {
	s, err := startWith(a)
	if err != nil {
		if a.Control != nil {
			_ = a.Control.Close()
		}
		return err
	}
	defer s.Close()
	failed := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	if a.Control != nil {
		server := &http.Server{Handler: s.ControlHandler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute}
		defer func() { _ = server.Close() }()
		wg.Go(func() { failed <- server.Serve(a.Control) })
	}
	if a.Ready != nil {
		a.Ready(s)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("testenv: control API: %w", err)
	}
}

func startWith(a Alone) (*Certsrv, error) {
	s, err := Start(a.Config)
	if err != nil {
		return nil, err
	}
	for _, f := range a.Faults {
		if err := s.InjectText(f); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Banner tells a person what there is to try: addresses, accounts by name,
// templates. rootFile is where the root's certificate has been written, control
// the address of the control API; either may be empty. No password is in it.
func (s *Certsrv) Banner(rootFile, control string) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-12s %s\n", name, value)
		}
	}
	line("certsrv", s.URL+"/certsrv/")
	line("CA", s.PKI.conf.CAName+" (mock, not to be trusted)")
	line("root", rootFile)
	var names []string
	for _, a := range s.conf.Accounts {
		names = append(names, a.String())
	}
	line("accounts", strings.Join(names, ", "))
	names = nil
	for _, t := range s.ca.templates {
		names = append(names, t.Name)
	}
	line("templates", strings.Join(names, ", "))
	line("log in by", fmt.Sprint(s.conf.Schemes)+", extended protection "+string(s.conf.EPA))
	if control != "" {
		line("control", control+"/control/")
	}
	return b.String()
}

// FaultsMarkdown is the table of faults for the documentation.
func FaultsMarkdown() string {
	var b strings.Builder
	b.WriteString("| fault | parameter | where | what happens |\n|---|---|---|---|\n")
	for _, f := range Faults() {
		var where []string
		for _, s := range f.Steps {
			where = append(where, string(s))
		}
		param := ""
		if f.Parameter != "" {
			param = f.Parameter + ", default " + f.Default
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, param, strings.Join(where, ", "), f.Effect)
	}
	return b.String()
}
