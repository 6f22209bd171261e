// Package chain answers one question before anybody uploads anything: would
// this appliance accept this certificate chain?
//
// [Read] takes certificates in whatever form they come and says what it was
// given. [Check] applies the rules of one appliance, a [Profile], in the order
// in which the appliance applies them, and returns a [Verdict] that carries the
// appliance's own words. [Repair] puts a chain into the form that the appliance
// wants, from certificates that were given and never from any other.
//
// The rules and texts of OpenManage Enterprise come from Dell's article
// 000221202, those of Expressway from Cisco's document on troubleshooting
// Expressway certificates (X14), those of CAPF and of the registration
// authority in CUCM from Cisco's document on CAPF Online CA. Each [Finding]
// says whether its text is documented for exactly this case or inferred.
//
// Revocation is never checked.
package chain

import (
	"crypto/x509"
	"fmt"
	"strings"
)

// Profile names the appliance, and the occasion, that a chain is checked for.
type Profile string

// The profiles.
const (
	OMEUpload           Profile = "ome-upload"
	OMEServer           Profile = "ome-server"
	OMEMigration        Profile = "ome-migration"
	Expressway          Profile = "expressway"
	ExpresswayTraversal Profile = "expressway-traversal"
	ExpresswayMRA       Profile = "expressway-mra"
	Jabber              Profile = "jabber"
	CAPFLSC             Profile = "capf-lsc"
	CUCMIIS             Profile = "cucm-iis"
)

// unifiedCM verifies the certificates of phones.
const unifiedCM = "Unified CM"

// profile is what a Profile means.
type profile struct {
	name  Profile
	title string
	// wants says which file the appliance is given.
	wants string
	rules func() []rule
	// coversFormat says that a file that cannot be read has a verdict of the
	// appliance's own.
	coversFormat bool
	// needs names the options without which no verdict is possible.
	needs []string
	// complete says that the file must hold the chain up to its root.
	complete bool
	// openssl names who verifies with OpenSSL, which looks for one path only.
	openssl string
	// purpose is what OpenSSL asks of the certificate in TLS, if it does.
	purpose x509.ExtKeyUsage
	// leafOnly says that the file holds the appliance's certificate alone.
	leafOnly bool
}

// profiles is a function and not a variable because the rules mention it.
func profiles() []profile {
	return []profile{
		{name: OMEUpload, title: "OpenManage Enterprise: upload of a certificate chain", wants: "the appliance's certificate, every intermediate and the root", rules: omeUploadRules, coversFormat: true, complete: true},
		{name: OMEServer, title: "OpenManage Enterprise: upload of a server certificate", wants: "the appliance's certificate alone", rules: omeServerRules, coversFormat: true, leafOnly: true},
		{name: OMEMigration, title: "OpenManage Enterprise: connection between source and target", wants: "the source's chain; --peer is the target's", rules: migrationRules, needs: []string{"--peer"}, complete: true},
		{name: Expressway, title: "Expressway: upload of a server certificate", wants: "the server certificate; --trust is the trust store", rules: expresswayRules, openssl: "the Expressway", coversFormat: true, needs: []string{"--trust"}},
		{name: ExpresswayTraversal, title: "Expressway: traversal zone between Expressway-C and Expressway-E", wants: "the Expressway-C's certificate; --peer is the Expressway-E's", rules: traversalRules, openssl: "the Expressway-C", needs: []string{"--peer", "--trust"}},
		{name: ExpresswayMRA, title: "Unified CM: login of Mobile and Remote Access users through an Expressway-C", wants: "the Expressway-C's certificate; --trust is tomcat-trust, --peer-trust is callmanager-trust", rules: mraRules, needs: []string{"--trust"}},
		{name: Jabber, title: "Jabber: connection to an Expressway-E", wants: "the Expressway-E's certificate; --verify-name is the domain", rules: jabberRules, needs: []string{"--verify-name"}},
		{name: CAPFLSC, title: "phone and Unified CM: a Locally Significant Certificate", wants: "the LSC and the chain of its CA", rules: lscRules, openssl: unifiedCM},
		{name: CUCMIIS, title: "Unified CM: the IIS certificate that the CAPF Online CA connects to", wants: "the chain that IIS sends; --trust is CAPF-trust", rules: cucmRules, openssl: "the registration authority of Unified CM", purpose: x509.ExtKeyUsageServerAuth, needs: []string{"--trust", "--verify-name"}},
	}
}

// Profiles lists every profile.
func Profiles() []Profile {
	var all []Profile
	for _, p := range profiles() {
		all = append(all, p.name)
	}
	return all
}

// Title says in words whom and what the profile stands for, or "" for a name
// that is none of [Profiles].
func (p Profile) Title() string {
	d, err := p.lookup()
	if err != nil {
		return ""
	}
	return d.title
}

// Wants says which certificates the profile is to be given.
func (p Profile) Wants() string {
	d, err := p.lookup()
	if err != nil {
		return ""
	}
	return d.wants
}

func (p Profile) lookup() (profile, error) {
	var names []string
	for _, d := range profiles() {
		if d.name == p {
			return d, nil
		}
		names = append(names, string(d.name))
	}
	return profile{}, fmt.Errorf("check: no appliance is called %q; use one of %s", string(p), strings.Join(names, ", "))
}
