package chain

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// defects applies RFC 5280 section 6.1 to a path whose signatures are good.
func (j *judge) defects(certs []*x509.Certificate) []problem {
	var out []problem
	add := func(kind trouble, c *x509.Certificate, format string, args ...any) {
		out = append(out, problem{kind, c, fmt.Sprintf(format, args...)})
	}
	below := 0 // CAs between this one and the leaf, self-issued ones not counted
	for i, c := range certs {
		switch kind := j.outside(c); kind {
		case troubleNotYet:
			add(kind, c, "%q is not valid before %s; the time is %s", IssuedTo(c), stamp(c.NotBefore), stamp(j.at))
		case troubleExpired:
			add(kind, c, "%q has expired on %s; the time is %s", IssuedTo(c), stamp(c.NotAfter), stamp(j.at))
		}
		if len(c.UnhandledCriticalExtensions) > 0 {
			add(troubleCritical, c, "%q has a critical extension that is not understood: %s", IssuedTo(c), c.UnhandledCriticalExtensions[0])
		}
		if why := unfit(c, j.purpose, i == 0); why != "" {
			add(troublePurpose, c, "%q %s", IssuedTo(c), why)
		}
		if i == 0 {
			continue
		}
		if !j.isCA(c, i == len(certs)-1 && j.anchors.has(c)) {
			add(troubleNotCA, c, "%q is not a CA certificate (basic constraints), but %q names it as its issuer", IssuedTo(c), IssuedTo(certs[i-1]))
		} else if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
			add(troubleKeyUsage, c, "%q may not sign certificates: its key usage lacks keyCertSign", IssuedTo(c))
		}
		if c.BasicConstraintsValid && c.MaxPathLen >= 0 && below > c.MaxPathLen {
			add(troublePathLength, c, "%q allows %d CAs below it (path length), but there are %d", IssuedTo(c), c.MaxPathLen, below)
		}
		if why := j.outsideConstraints(c, certs[:i]); why != "" {
			add(troubleName, c, "%q %s", IssuedTo(c), why)
		}
		if j.require && !j.store.has(c) {
			add(troubleNotInStore, c, "the certificate of the CA %q is not in the trust store", IssuedTo(c))
		}
		if !selfIssued(c) {
			below++
		}
	}
	return out
}

// outside returns the trouble if the time is not within c's validity, or "".
// RFC 5280 section 4.1.2.5 counts the last second in; OpenSSL does not.
func (j *judge) outside(c *x509.Certificate) trouble {
	kind := outside(c, j.at)
	if j.openssl && kind == "" && !j.at.Truncate(time.Second).Before(c.NotAfter) {
		return troubleExpired
	}
	return kind
}

// isCA says whether c may issue, as far as basic constraints go. A root without
// them is a CA in version 1, and for OpenSSL if its key usage says so.
func (j *judge) isCA(c *x509.Certificate, root bool) bool {
	switch {
	case c.BasicConstraintsValid:
		return c.IsCA
	case !root:
		return false
	case c.Version < 3:
		return true
	}
	return j.openssl && c.KeyUsage&x509.KeyUsageCertSign != 0
}

// outsideConstraints applies a CA's name constraints (RFC 5280 section 4.2.1.10)
// to the names of the certificates below it.
func (j *judge) outsideConstraints(ca *x509.Certificate, below []*x509.Certificate) string {
	limits := len(ca.PermittedDNSDomains) + len(ca.ExcludedDNSDomains) + len(ca.PermittedIPRanges) + len(ca.ExcludedIPRanges) +
		len(ca.PermittedEmailAddresses) + len(ca.ExcludedEmailAddresses) + len(ca.PermittedURIDomains) + len(ca.ExcludedURIDomains)
	if limits == 0 {
		return ""
	}
	count := 0
	for _, c := range below {
		count += len(c.DNSNames) + len(c.IPAddresses) + len(c.EmailAddresses) + len(c.URIs)
		if j.openssl {
			count += len(c.Subject.Names)
		}
	}
	if j.proofs.comparisons += count * limits; j.proofs.comparisons > maxComparisons {
		return fmt.Sprintf("has more name constraints than are checked (%d, for %d names)", limits, count)
	}
	for i, c := range below {
		if i > 0 && selfIssued(c) {
			continue
		}
		if why := j.namesOutside(ca, c, i == 0); why != "" {
			return why
		}
	}
	return ""
}

// namesOutside applies a CA's name constraints to one certificate.
func (j *judge) namesOutside(ca, c *x509.Certificate, leaf bool) string {
	hosts, mails, meets := c.DNSNames, c.EmailAddresses, wildcardMeets
	if j.openssl {
		hosts, mails = subjectHosts(c, leaf), slices.Concat(mails, subjectMails(c))
		meets = withinDomain // a wildcard counts as the name that it looks like
	}
	for _, name := range hosts {
		if why := constrained("DNS name", name, ca.PermittedDNSDomains, ca.ExcludedDNSDomains, withinDomain, meets); why != "" {
			return why
		}
	}
	for _, ip := range c.IPAddresses {
		within := func(ip net.IP, n *net.IPNet) bool { return n.Contains(ip) }
		if why := constrained("address", ip, ca.PermittedIPRanges, ca.ExcludedIPRanges, within, within); why != "" {
			return why
		}
	}
	for _, mail := range mails {
		if why := constrained("mail address", mail, ca.PermittedEmailAddresses, ca.ExcludedEmailAddresses, mailWithin, mailWithin); why != "" {
			return why
		}
	}
	for _, u := range c.URIs {
		if why := constrained("URI", u, ca.PermittedURIDomains, ca.ExcludedURIDomains, uriWithin, uriWithin); why != "" {
			return why
		}
	}
	return ""
}

// constrained says how a name breaks the constraints for names of its kind.
func constrained[N, C any](kind string, name N, permitted, excluded []C, within, meets func(N, C) bool) string {
	for _, x := range excluded {
		if meets(name, x) {
			return fmt.Sprintf("excludes the %s %v (name constraints)", kind, name)
		}
	}
	for _, p := range permitted {
		if within(name, p) {
			return ""
		}
	}
	if len(permitted) > 0 {
		return fmt.Sprintf("does not permit the %s %v (name constraints)", kind, name)
	}
	return ""
}

// withinDomain says whether a host is a domain or lies below it; a domain with
// a leading dot does not include itself.
func withinDomain(host, domain string) bool {
	host, domain = strings.ToLower(strings.TrimSuffix(host, ".")), strings.ToLower(domain)
	if domain == "" {
		return true
	}
	if strings.HasPrefix(domain, ".") {
		return strings.HasSuffix(host, domain) && len(host) > len(domain)
	}
	return host == domain || strings.HasSuffix(host, "."+domain)
}

// wildcardMeets is withinDomain for exclusions: a wildcard that could stand for
// an excluded name counts as one.
func wildcardMeets(host, domain string) bool {
	if withinDomain(host, domain) {
		return true
	}
	base, wild := strings.CutPrefix(strings.ToLower(host), "*.")
	_, above, ok := strings.Cut(strings.ToLower(strings.TrimPrefix(domain, ".")), ".")
	return wild && ok && above == base
}

// mailWithin: a constraint is a mailbox, a host, or a domain with a leading dot.
func mailWithin(mail, constraint string) bool {
	at := strings.LastIndexByte(mail, '@')
	if strings.Contains(constraint, "@") {
		c := strings.LastIndexByte(constraint, '@')
		return mail[:max(at, 0)] == constraint[:c] && strings.EqualFold(mail[at+1:], constraint[c+1:])
	}
	return hostWithin(mail[at+1:], constraint)
}

func uriWithin(u *url.URL, constraint string) bool { return hostWithin(u.Hostname(), constraint) }

// hostWithin is the rule for mail and URIs: without a leading dot the host must
// be equal.
func hostWithin(host, constraint string) bool {
	if constraint == "" || strings.EqualFold(host, constraint) {
		return true
	}
	return strings.HasPrefix(constraint, ".") && withinDomain(host, constraint)
}

// stamp is a time as people are told it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// validity is a certificate's validity in days.
func validity(c *x509.Certificate) string {
	return c.NotBefore.UTC().Format("2006-01-02") + " to " + c.NotAfter.UTC().Format("2006-01-02")
}
