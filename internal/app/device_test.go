package app

import (
	"strings"
	"testing"
	"time"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/testenv"
)

func TestUncollected(t *testing.T) {
	pki, err := testenv.NewPKI(testenv.PKIConfig{})
	if err != nil {
		t.Fatal(err)
	}
	d := capf.NewDevice("SEP001122334455")
	if text := Uncollected(d); text != "" {
		t.Error(text)
	}
	d.CSR, d.CSRTime = []byte{1}, time.Now()
	if text := Uncollected(d); !strings.Contains(text, "may be with the CA") {
		t.Error(text)
	}
	d.Issued = pki.Current().Raw
	if text := Uncollected(d); !strings.Contains(text, "revoke") || !strings.Contains(text, pki.Current().SerialNumber.Text(16)) {
		t.Error(text)
	}
}
