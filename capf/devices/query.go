package devices

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/ra/fault"
)

// Filter chooses devices. Every field that is not zero must match.
type Filter struct {
	// Name is a name with * for any characters and ? for one.
	Name string
	// Status is the certificate status.
	Status capf.Status
	// Operation is the operation that is scheduled.
	Operation capf.Operation
	// Issuer is the kind of issuer set for the device.
	Issuer capf.IssuerKind
	// LSCIssuer is a part of the name of the issuer of the device's LSC.
	LSCIssuer string
	// ExpiresBefore chooses devices whose LSC ends before that time.
	ExpiresBefore time.Time
	// Code is the name of the fault that the last session ended with.
	Code string
	// Waiting chooses devices whose request has no certificate yet.
	Waiting bool
}

// List returns the devices that f chooses, by name.
func (t *Table) List(ctx context.Context, f Filter) ([]capf.Device, error) {
	var where []string
	var args []any
	add := func(cond string, arg ...any) { where, args = append(where, cond), append(args, arg...) }
	if f.Name != "" {
		add("lower(name) GLOB ?", strings.ToLower(strings.ReplaceAll(f.Name, "[", "[[]")))
	}
	if f.Status != 0 {
		add("tkcertificatestatus = ?", int(f.Status))
	}
	if f.Operation != 0 {
		add("tkcertificateoperation = ?", int(f.Operation))
	}
	if f.Issuer != "" {
		add("issuer = ?", string(f.Issuer))
	}
	if f.LSCIssuer != "" {
		add("instr(lower(lscissuername), lower(?)) > 0", f.LSCIssuer)
	}
	if !f.ExpiresBefore.IsZero() {
		add("lscvaliduntil > 0 AND lscvaliduntil < ?", f.ExpiresBefore.Unix())
	}
	if f.Code != "" {
		add("code = ?", f.Code)
	}
	if f.Waiting {
		add("length(csr) > 0 AND coalesce(length(issued), 0) = 0")
	}
	return t.query(ctx, where, args)
}

func (t *Table) query(ctx context.Context, where []string, args []any) ([]capf.Device, error) {
	query := selectDevice
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	rows, err := t.read.QueryContext(ctx, query+" ORDER BY name", args...)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	defer rows.Close() //nolint:errcheck // What goes wrong shows in Err.
	var all []capf.Device
	for rows.Next() {
		d, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		all = append(all, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return all, nil
}

// Stale returns the devices whose LSC comes from none of the given issuers:
// the certificates of the CAs that issue now. Such LSCs are those of a CA that
// was replaced (utils capf stale-lsc list).
func (t *Table) Stale(ctx context.Context, issuers ...*x509.Certificate) ([]capf.Device, error) {
	all, err := t.query(ctx, []string{"length(lsc) > 0"}, nil)
	if err != nil {
		return nil, err
	}
	var stale []capf.Device
	for _, d := range all {
		if !capf.IssuedBy(d.LSC, issuers) {
			stale = append(stale, d)
		}
	}
	return stale, nil
}

// Import hands the certificate of an offline CA over to the device whose
// request it answers: the phone's next contact stores it. name may be empty:
// the request is then found by its public key. issuer, which may be nil, is the
// CA's certificate: it must have issued this one. It returns the device.
func (t *Table) Import(ctx context.Context, name string, der []byte, issuer *x509.Certificate) (capf.Device, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return capf.Device{}, fault.New(fault.CertificateUnreadable, "import a certificate", err)
	}
	op := fmt.Sprintf("import certificate %q", cert.Subject)
	if issuer != nil && !capf.IssuedBy(der, []*x509.Certificate{issuer}) {
		return capf.Device{}, fault.Newf(fault.CAPFTrustMissing, op, "it was not issued by %q", issuer.Subject)
	}
	if name == "" {
		if name, err = t.waitingFor(ctx, cert); err != nil {
			return capf.Device{}, fmt.Errorf("%s: %w", op, err)
		}
	}
	return t.Update(ctx, name, func(d *capf.Device) error {
		if len(d.CSR) == 0 {
			return fmt.Errorf("%s: device %s has no request under way", op, d.Name)
		}
		if !answers(d.CSR, cert) {
			return fault.Newf(fault.WrongKeyCertificate, op, "the request of device %s has another key", d.Name)
		}
		d.Issued, d.IssuedIssuerUntil = der, time.Time{}
		d.Reason, d.Code = "", "" // that it waits for the CA is not true any more
		if issuer != nil {
			d.IssuedIssuerUntil = issuer.NotAfter
		}
		return nil
	})
}

// waitingFor finds the device whose request has the certificate's key.
func (t *Table) waitingFor(ctx context.Context, cert *x509.Certificate) (string, error) {
	all, err := t.query(ctx, []string{"length(csr) > 0"}, nil)
	if err != nil {
		return "", err
	}
	for _, d := range all {
		if answers(d.CSR, cert) {
			return d.Name, nil
		}
	}
	return "", errors.New("no device has a request with its key under way")
}

func answers(csr []byte, cert *x509.Certificate) bool {
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return false
	}
	key, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(req.PublicKey)
}
