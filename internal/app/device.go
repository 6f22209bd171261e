package app

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/capf/devices"
	"github.com/onlineca/onlineca/ra/fault"
)

// The device table's values, for those who compose commands from them.
type (
	// Device is a row of the device table.
	Device = capf.Device
	// DeviceFilter chooses rows.
	DeviceFilter = devices.Filter
	// DeviceTable is the table itself.
	DeviceTable = devices.Table
)

// OpenDevices opens the device table of a settings file.
func OpenDevices(ctx context.Context, config string) (*DeviceTable, Settings, error) {
	s, err := ReadSettings(config)
	if err != nil {
		return nil, s, err
	}
	// The first device may be added before the server's first start.
	if err := os.MkdirAll(filepath.Dir(s.CAPF.Devices), 0o700); err != nil {
		return nil, s, fmt.Errorf("capf.devices: %w", err)
	}
	t, err := devices.Open(ctx, s.CAPF.Devices)
	return t, s, err
}

// NewDevice makes a row from words, as a person writes them. Empty words leave
// the product's defaults.
func NewDevice(name string, words map[string]string) (Device, error) {
	d := capf.NewDevice(name)
	var errs []error
	set := func(key string, f func(string) error) {
		if v := words[key]; v != "" {
			if err := f(v); err != nil {
				errs = append(errs, fmt.Errorf("--%s: %w", key, err))
			}
		}
	}
	set("auth", func(v string) (err error) { d.AuthMode, err = capf.ParseAuthMode(v); return err })
	set("key-order", func(v string) (err error) { d.KeyOrder, err = capf.ParseKeyOrder(v); return err })
	set("ec-key-size", func(v string) (err error) {
		if d.ECKeySize, err = strconv.Atoi(v); err != nil {
			err = fmt.Errorf("%q is no size of an EC key: use 256, 384 or 521", v)
		}
		return err
	})
	set("key-size", func(v string) (err error) { d.KeySize, err = capf.ParseKeySize(v); return err })
	set("issuer", func(v string) error { d.Issuer = capf.IssuerKind(v); return nil })
	set("signing", func(v string) error { d.Signing = capf.Signing(v); return nil })
	set("model", func(v string) error { d.Model = v; return nil })
	set("auth-string", func(v string) error { d.AuthMode, d.AuthString = capf.AuthByString, v; return nil })
	return d, errors.Join(errs...)
}

// Issuers are the certificates of those who issue LSCs now: the files given, or
// else what the settings know of, CAPF itself and the Online CA whose chain the
// last start of the registration authority has left in the state directory.
func Issuers(s Settings, files []string) ([]*x509.Certificate, error) {
	if len(files) > 0 {
		return ReadCertificates("--issuer", files...)
	}
	var all []*x509.Certificate
	for _, path := range []string{s.CAPF.Certificate, chainPath(s)} {
		certs, err := ReadCertificates("state", path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		all = append(all, certs...)
	}
	if len(all) == 0 {
		return nil, errors.New("nobody is known to issue LSCs yet: start the server once, or name the issuers' certificates (--issuer)")
	}
	return all, nil
}

// WriteCSRs writes the requests of devices that wait for an offline CA's
// certificate, PEM, one after the other or as write chooses.
func WriteCSRs(ctx context.Context, t *DeviceTable, write func(d Device, pemText []byte) error) error {
	waiting, err := t.List(ctx, devices.Filter{Waiting: true})
	if err != nil {
		return err
	}
	for _, d := range waiting {
		if err := write(d, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: d.CSR})); err != nil {
			return err
		}
	}
	return nil
}

// ImportCertificates hands an offline CA's certificates to the devices whose
// requests they answer. Issuers may be nil.
func ImportCertificates(ctx context.Context, t *DeviceTable, paths []string, issuer *x509.Certificate, out io.Writer) error {
	var errs []error
	for _, path := range paths {
		certs, err := readAnyCertificates(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, c := range certs {
			d, err := t.Import(ctx, "", c.Raw, issuer)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", path, err))
				continue
			}
			fmt.Fprintf(out, "%s: certificate %x is delivered at its next contact\n", d.Name, c.SerialNumber)
		}
	}
	return errors.Join(errs...)
}

// readAnyCertificates reads PEM, or one certificate in DER.
func readAnyCertificates(path string) ([]*x509.Certificate, error) {
	data, err := readFile("certificate", path)
	if err != nil {
		return nil, err
	}
	if c, err := x509.ParseCertificate(data); err == nil {
		return []*x509.Certificate{c}, nil
	}
	certs, err := parsePEM(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return certs, nil
}

// Uncollected says what a device that has been removed leaves at the CA: a
// certificate that it has not got, or a request. Empty if nothing.
func Uncollected(d Device) string {
	if cert, err := x509.ParseCertificate(d.Issued); err == nil {
		return fmt.Sprintf("%s: certificate %x was issued for it and is not collected any more: revoke it on the CA", d.Name, cert.SerialNumber)
	}
	if len(d.CSR) > 0 {
		return fmt.Sprintf("%[1]s: its request of %[2]s may be with the CA, and a certificate would not be collected any more: see onlineca requests list --device %[1]s", d.Name, d.CSRTime.Local().Format(time.DateTime))
	}
	return ""
}

// Operation is what a device is to do.
type Operation = capf.Operation

// ParseOperation reads install, delete, troubleshoot or none.
func ParseOperation(s string) (Operation, error) { return capf.ParseOperation(s) }

// ParseStatus reads a certificate status by its words or its number.
func ParseStatus(s string) (capf.Status, error) { return capf.ParseStatus(s) }

// CheckCode returns an error unless there is a fault of that name.
func CheckCode(name string) error {
	if _, ok := fault.Lookup(name); !ok {
		return fmt.Errorf("there is no fault %q: docs/failures.md lists them", name)
	}
	return nil
}

// FormatFinishBy writes a deadline as the product does, 2019:01:20:12:00.
func FormatFinishBy(t time.Time) string { return capf.FormatFinishBy(t) }
