package capf

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/ra/event"
)

// Device is one row of the device table: a phone as CAPF knows it. The numbers
// are those of the product's database columns, which are named in comments.
type Device struct {
	// Name is what the phone calls itself: SEP and its MAC address, or CSF,
	// TCT, BOT, TAB and a name. Upper and lower case are the same.
	Name string
	// Model is the phone's model, "CP-8865". If it is not empty, certificate
	// requests have the subject common name MODEL-NAME, as a MIC has.
	Model string
	// AuthMode is how the phone authenticates (tkauthenticationmode), and
	// AuthString the string of AuthByString (authenticationstring).
	AuthMode   AuthMode
	AuthString string
	// KeyOrder, KeySize (tkkeysize) and ECKeySize say what key the phone is to
	// make. ECKeySize is 256, 384, 521 or 0 (384).
	KeyOrder  KeyOrder
	KeySize   KeySize
	ECKeySize int
	// Issuer is who issues for this device; empty means the server's default.
	Issuer IssuerKind
	// Signing is whether the phone can sign a request.
	Signing Signing
	// Operation is what to do at the phone's next contact
	// (tkcertificateoperation), FinishBy the time after which it is too late
	// (upgradefinishtime, to the minute); the zero time is no deadline.
	Operation Operation
	FinishBy  time.Time
	// Status is how the last operation ended (tkcertificatestatus). Reason and
	// Code are the real reason beside it: a sentence, and the name of the
	// fault, both empty after a success.
	Status Status
	Reason string
	Code   string
	// LastContact is when the phone's last session ended.
	LastContact time.Time
	// LSC is the DER of the certificate that the phone holds as far as is
	// known. PublicKey (publickey) is the key in it, in the form that the
	// product's trace shows: PKCS#1 for RSA; SubjectPublicKeyInfo for EC.
	LSC       []byte
	PublicKey []byte
	// LSCValidUntil (lscvaliduntil), LSCIssuer (lscissuername) and
	// LSCIssuerValidUntil (lscissuervaliduntil) describe LSC.
	LSCValidUntil       time.Time
	LSCIssuer           string
	LSCIssuerValidUntil time.Time
	// CSR is the DER of a request that the phone has signed and that has not
	// ended in a delivered certificate yet, CSRTime when it was made.
	CSR     []byte
	CSRTime time.Time
	// Issued is the DER of a certificate for CSR that the phone has not got
	// yet: its next contact delivers it. IssuedIssuerUntil is its issuer's
	// end of validity, if known.
	Issued            []byte
	IssuedIssuerUntil time.Time
}

// ErrNoDevice says that the device table has no row of that name.
var ErrNoDevice = errors.New("no such device")

// DeviceTable keeps the devices. Both methods return an error that wraps
// [ErrNoDevice] for a name that is not there.
type DeviceTable interface {
	// Device returns the row of a device.
	Device(ctx context.Context, name string) (Device, error)
	// Update changes the row of a device: change gets the row as it is, and
	// what it leaves is kept, durably, when Update returns nil. An error of
	// change leaves the row alone and is returned. No two changes of one row
	// overlap.
	Update(ctx context.Context, name string, change func(*Device) error) (Device, error)
}

// Check returns an error that says what to change if the row is not one that
// CAPF can work with.
func (d *Device) Check() error {
	if err := CheckDeviceName(d.Name); err != nil {
		return err
	}
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("device %s: %s", d.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case d.AuthMode < AuthByString || d.AuthMode > AuthByMIC:
		return wrong("there is no authentication mode %d", d.AuthMode)
	case d.AuthString != "" && !digits(d.AuthString, 4, 15):
		return wrong("an authentication string is 4 to 15 digits")
	case d.AuthMode == AuthByString && d.AuthString == "" && d.Operation != OperationNone:
		return wrong("it is to authenticate by string but has none")
	case d.KeyOrder < RSAOnly || d.KeyOrder > ECPreferred:
		return wrong("there is no key order %d", d.KeyOrder)
	case d.KeySize.Bits() == 0:
		return wrong("there is no key size %d", d.KeySize)
	case d.KeySize == KeySize512 && d.KeyOrder != ECOnly:
		return wrong("a key of 512 bits is no protection, and Go's crypto refuses it: choose 1024 at least")
	case d.ECKeySize != 0 && d.ECKeySize != 256 && d.ECKeySize != 384 && d.ECKeySize != 521:
		return wrong("the size of an EC key is 256, 384 or 521, not %d", d.ECKeySize)
	case d.Operation < OperationNone || d.Operation > OperationTroubleshoot:
		return wrong("there is no operation %d", d.Operation)
	case d.Status < StatusNone || int(d.Status) >= len(statuses):
		return wrong("there is no certificate status %d", d.Status)
	case !d.Issuer.known():
		return wrong("there is no issuer %q: use online, local, offline or nothing", d.Issuer)
	case !d.Signing.known():
		return wrong("there is no way to sign %q: use encrypt, none or nothing", d.Signing)
	}
	return nil
}

func digits(s string, shortest, longest int) bool {
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return len(s) >= shortest && len(s) <= longest
}

// NewDevice is a row with the product's defaults: nothing to do, null string,
// RSA keys of 2048 bits.
func NewDevice(name string) Device {
	return Device{
		Name: name, AuthMode: AuthByNullString, KeyOrder: RSAOnly, KeySize: KeySize2048,
		Operation: OperationNone, Status: StatusNone,
	}
}

// Schedule sets the operation for the device's next contact. A zero finishBy is
// no deadline; another one is kept to the minute, and rounded up: the phone has
// no less time than it was given.
func (d *Device) Schedule(op Operation, finishBy time.Time) {
	if !finishBy.IsZero() {
		finishBy = finishBy.Add(time.Minute - 1).Truncate(time.Minute)
	}
	d.Operation, d.FinishBy = op, finishBy
	d.Reason, d.Code = "", ""
	if op != OperationNone {
		d.Status = StatusOperationPending
	}
}

// keySpec is the key that the phone is to make, given the version of the
// protocol that it speaks. EC needs version 3.
func (d *Device) keySpec(version uint8) (wire.KeySpec, error) {
	ec := d.KeyOrder == ECOnly || d.KeyOrder == ECPreferred && version >= 3
	if !ec {
		if d.KeySize == KeySize512 {
			return wire.KeySpec{}, errors.New("its key size is 512 bits, which Go's crypto refuses; choose 1024 at least")
		}
		return wire.KeySpec{Type: wire.RSA, Bits: d.KeySize.Bits()}, nil
	}
	if version < 3 {
		return wire.KeySpec{}, errECOnly
	}
	switch d.ECKeySize {
	case 256:
		return wire.KeySpec{Type: wire.EC, Curve: wire.P256}, nil
	case 521:
		return wire.KeySpec{Type: wire.EC, Curve: wire.P521}, nil
	default:
		return wire.KeySpec{Type: wire.EC, Curve: wire.P384}, nil
	}
}

// row is the device as the trace shows it after a query.
func (d *Device) row() event.CAPFDeviceRow {
	return event.CAPFDeviceRow{
		Device:          d.Name,
		DefaultAuthMode: AuthByString.trace(), // the query's own default, before it reads the row
		KeySize:         d.KeySize.trace(),
		ECKeySize:       ecKeySizeTrace(d.ECKeySize),
		KeyOrder:        d.KeyOrder.trace(),
		Operation:       d.Operation.trace(),
		OperationStatus: d.Status.trace(),
		AuthMode:        d.AuthMode.trace(),
		FinishBy:        FormatFinishBy(d.FinishBy),
	}
}

// installed notes that the phone holds the certificate cert and nothing is
// under way any more.
func (d *Device) installed(cert *x509.Certificate, issuerUntil time.Time) {
	d.LSC, d.PublicKey = cert.Raw, cert.RawSubjectPublicKeyInfo
	if key, ok := cert.PublicKey.(*rsa.PublicKey); ok {
		d.PublicKey = x509.MarshalPKCS1PublicKey(key)
	}
	d.LSCValidUntil, d.LSCIssuer, d.LSCIssuerValidUntil = cert.NotAfter, distinguished(cert.RawIssuer), issuerUntil
	d.forget()
}

// IssuedBy reports whether one of issuers has issued a certificate, given as
// DER. It verifies the signature: a CA that was renewed under its old name with
// a new key has made the old LSCs stale, too.
func IssuedBy(der []byte, issuers []*x509.Certificate) bool {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(issuers, func(ca *x509.Certificate) bool {
		return string(cert.RawIssuer) == string(ca.RawSubject) && ca.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
	})
}

// forget drops the request under way and what was issued for it.
func (d *Device) forget() {
	d.CSR, d.CSRTime = nil, time.Time{}
	d.Issued, d.IssuedIssuerUntil = nil, time.Time{}
}

// removed notes that the phone holds no LSC any more.
func (d *Device) removed() {
	d.LSC, d.PublicKey = nil, nil
	d.LSCValidUntil, d.LSCIssuer, d.LSCIssuerValidUntil = time.Time{}, "", time.Time{}
}

// FinishByLayout is the form of upgradefinishtime, in the local time of the
// publisher: "2019:01:20:12:00".
const FinishByLayout = "2006:01:02:15:04"

// FormatFinishBy writes a deadline as the product does; the zero time is empty.
func FormatFinishBy(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(FinishByLayout)
}

// ParseFinishBy reads what [FormatFinishBy] writes.
func ParseFinishBy(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.ParseInLocation(FinishByLayout, s, time.Local)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no deadline: it has the form YYYY:MM:DD:HH:MM, in local time", s)
	}
	return t, nil
}
