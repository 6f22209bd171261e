package chain

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/moby/sys/atomicwriter"
)

// Repaired says what has been written.
type Repaired struct {
	File         string     `json:"file"`
	Certificates []CertInfo `json:"certificates"`
	// Added lists those that were not in the file that was checked.
	Added []CertInfo `json:"added"`
	// Missing says what the chain still lacks, "" for nothing.
	Missing string `json:"missing"`
	// Accepted is the verdict on what has been written; Rule is the first rule
	// that it still breaks, and Text what the appliance would say.
	Accepted bool   `json:"accepted"`
	Rule     string `json:"rule"`
	Text     string `json:"text"`
}

// Repair returns the chain as the profile's appliance wants it, in PEM: the
// certificate first, then each one's issuer, none twice and no strangers. It
// takes certificates from the file, from extra inputs, the trust stores and the
// other side, and makes none. A chain that must be complete and cannot be made
// so is an error that names what is missing.
func Repair(o Options, extra ...*Input) ([]byte, *Repaired, error) {
	p, err := o.Profile.lookup()
	if err != nil {
		return nil, nil, err
	}
	if o.At.IsZero() {
		return nil, nil, &UsageError{"a repair needs the time of the check"}
	}
	s := newSubject(&o, p)
	if s.files.leaf == nil {
		return nil, nil, &UsageError{"nothing can be repaired: " + noCertificate}
	}
	if o.Profile == ExpresswayTraversal && len(s.files.leaves) > 1 {
		return nil, nil, &UsageError{"--fix writes the chain of one node; give the nodes of a cluster one by one"}
	}
	found := s.gather(extra, 0)
	all := newPool(s.files.pool.certs, found.certs, s.trust.certs, s.peerTrust.certs, s.peer.pool.certs)
	best := s.proofs.findPath(s.files.leaf, all, all.roots(), nil, o.At)
	certs, missing := best.certs, ""
	if !best.complete {
		missing = best.problems[0].detail
	}
	switch {
	case p.leafOnly:
		certs, missing = certs[:1], ""
	case p.complete && missing != "":
		return nil, nil, fmt.Errorf("check: the chain cannot be repaired with the certificates given: %s; give it with --trust", missing)
	}
	r := &Repaired{Missing: missing, Added: []CertInfo{}}
	var out bytes.Buffer
	for _, c := range certs {
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return nil, nil, fmt.Errorf("check: write the repaired chain: %w", err)
		}
		r.Certificates = append(r.Certificates, *s.info(c))
		if !s.files.pool.has(c) {
			r.Added = append(r.Added, *s.info(c))
		}
	}
	return out.Bytes(), r, s.recheck(certs, r)
}

// recheck gives the verdict on the repaired chain.
func (s *subject) recheck(certs []*x509.Certificate, r *Repaired) error {
	again := *s.Options
	again.Files = []*Input{{Name: "the repaired chain", Format: FormatPEM, Certs: certs}}
	v, err := Check(again)
	if err != nil {
		return err
	}
	r.Accepted = v.Accepted
	if f := v.First(); f != nil {
		r.Rule, r.Text = f.Rule, f.headline()
	}
	return nil
}

// WriteRepaired writes what [Repair] returned, whole or not at all.
func WriteRepaired(file string, data []byte, r *Repaired) error {
	if err := atomicwriter.WriteFile(file, data, 0o644); err != nil {
		return fmt.Errorf("check: write the repaired chain to %s: %w", file, err)
	}
	r.File = file
	return nil
}
