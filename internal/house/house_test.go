// Package house holds the project to its own layout.
package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/onlineca/onlineca"

// allowed says which of our packages each of our packages may import. Every
// import runs down: cmd, testenv/lab, internal/app, then capf, certsrv and
// estserver, then ra. The three rooms of the middle never import each other;
// they meet in ra's types and are joined in internal/app.
var allowed = map[string][]string{
	"cmd/onlineca": {"internal/app", "testenv/lab", "internal/diagnose", "internal/chain", "ra/fault", "ra/event"},

	"testenv/lab": {"testenv", "internal/app", "internal/zaplog", "capf", "capf/devices", "capf/phone", "capf/wire", "ra", "ra/fault", "ra/event"},
	"testenv": {
		"ra/event", "internal/logfmt/iis",
		"testenv/internal/ntlm", "testenv/internal/page", "testenv/internal/raw",
	},
	// The mock's own cellar: nobody else can import these.
	"testenv/internal/ntlm": nil,
	"testenv/internal/page": nil,
	"testenv/internal/raw":  nil,

	"testenv/conformance": {"testenv"},

	"internal/app": {
		"ra", "ra/fault", "ra/event", "ra/store", "estserver", "certsrv", "certsrv/winauth",
		"capf", "capf/devices", "capf/phone", "capf/wire", "internal/chain", "internal/zaplog", "internal/neterr",
	},

	"capf":            {"ra/fault", "ra/event", "capf/wire", "internal/neterr"},
	"capf/devices":    {"capf", "ra/fault", "ra/event"}, // the device table in SQLite
	"capf/wire":       nil,
	"capf/phone":      {"capf/wire"},
	"certsrv":         {"ra", "ra/fault", "ra/event", "certsrv/winauth", "internal/neterr"},
	"certsrv/winauth": {"internal/neterr"},
	"estserver":       {"ra", "ra/fault", "ra/event"},

	"ra":                 {"ra/fault", "ra/event"},
	"ra/fault":           nil,
	"ra/event":           {"ra/fault"},
	"ra/store":           {"ra", "ra/fault", "ra/event"},
	"ra/store/storetest": {"ra", "ra/fault", "ra/event", "ra/store", "internal/interop"},

	"internal/logfmt/cucm":   {"ra/event"},
	"internal/logfmt/nginx":  {"ra/event"},
	"internal/logfmt/libest": {"ra/event"},
	"internal/logfmt/iis":    {"ra/event"},
	"internal/zaplog": {
		"ra/event",
		"internal/logfmt/cucm", "internal/logfmt/nginx", "internal/logfmt/libest", "internal/logfmt/iis",
	},
	"internal/diagnose": {
		"ra/event", "ra/fault",
		"internal/logfmt/cucm", "internal/logfmt/nginx", "internal/logfmt/libest", "internal/logfmt/iis",
	},
	"internal/chain": {"ra/fault"},

	// What a failing network says, on every system.
	"internal/neterr": nil,

	// For tests only; they import nothing of ours.
	"internal/interop": nil,
	"internal/house":   nil,
}

func TestImportsRunDown(t *testing.T) {
	for _, p := range list(t) {
		room := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		may, known := allowed[room]
		if !known {
			t.Errorf("%s: a room that is not in the plan; add it to the table above, with what it may import", room)
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module+"/") {
				continue
			}
			imp = strings.TrimPrefix(imp, module+"/")
			if !slices.Contains(may, imp) {
				t.Errorf("%s imports %s, which the plan does not allow", room, imp)
			}
		}
	}
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}
