package app

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/onlineca/onlineca/estserver"
	"github.com/onlineca/onlineca/ra"
)

// label wires one way in. passwords verifies what is passed through to certsrv,
// ledger counts refused passwords of user lists.
func (l *LabelSettings) label(clientCAs []*x509.Certificate, passwords ra.Authenticator, ledger ra.Ledger) (estserver.Label, error) {
	auth, err := l.auth(clientCAs, passwords, ledger)
	if err != nil {
		return estserver.Label{}, err
	}
	policy, err := l.Policy.policy()
	if err != nil {
		return estserver.Label{}, err
	}
	attrs, err := estserver.ParseCSRAttrs(l.CSRAttrs)
	if err != nil {
		return estserver.Label{}, err
	}
	label := estserver.Label{
		Template: l.Template, Auth: auth, Policy: policy, CSRAttrs: attrs,
		PoP:          pops[l.ProofOfPossession],
		Reenroll:     estserver.Reenroll{WithoutCertificate: l.ReenrollWithoutCertificate, FewerNames: l.ReenrollFewerNames},
		ServerKeygen: l.ServerKeygen,
	}
	if l.Rate.Every > 0 || l.Rate.Burst > 0 {
		label.Rate = &ra.Rate{Every: l.Rate.Every, Burst: l.Rate.Burst}
	}
	return label, nil
}

var pops = map[string]estserver.PoP{
	"off": estserver.PoPOff, "optional": estserver.PoPOptional, "required": estserver.PoPRequired,
}

// localLease is how long a look into a list of users can take.
const localLease = 10 * time.Second

// auth wires the ways to authenticate. What stands between a client and the
// domain's own login: a memory of what was good, which each label has for
// itself, then the limit to guessing, which passwords brings along.
func (l *LabelSettings) auth(clientCAs []*x509.Certificate, passwords ra.Authenticator, ledger ra.Ledger) (estserver.Auth, error) {
	a := &l.Auth
	auth := estserver.Auth{RequireAll: a.Require == "all", Anonymous: a.Anonymous}
	switch {
	case a.Users != "":
		users, err := ra.LoadUserList(a.Users)
		if err != nil {
			return auth, err
		}
		// A bcrypt hash takes a processor a good while, and an account's attempts
		// are looked at one after the other.
		limited := ra.NewAttempts(users, ra.AttemptsConfig{
			PerAccount: 10, Scope: "users " + a.Users, Ledger: ledger, Local: true, Lease: localLease,
		})
		auth.Basic = ra.NewRemember(limited, ra.RememberConfig{})
	case a.Certsrv:
		auth.Basic = passwords
		auth.BasicMethod = "certsrv"
		if a.Remember > 0 {
			auth.Basic = ra.NewRemember(auth.Basic, ra.RememberConfig{For: a.Remember})
		}
	}
	if a.Tokens != "" {
		tokens, err := ra.OpenTokenFile(a.Tokens)
		if err != nil {
			return auth, err
		}
		auth.Tokens = tokens
		if auth.Basic == nil { // otherwise what is no token is counted there
			auth.Tokens = limitTokens(tokens, a.Tokens, ledger)
		}
	}
	if len(clientCAs) > 0 || a.OwnChain {
		subject, err := pattern(a.Subject)
		if err != nil {
			return auth, err
		}
		usages, err := a.keyUsages()
		if err != nil {
			return auth, err
		}
		auth.Certificates = &estserver.CertificateAuth{
			CAs: clientCAs, OwnChain: a.OwnChain, Subject: subject, KeyUsages: usages, Grace: a.Grace,
		}
	}
	return auth, nil
}

// limitedTokens are one-time passwords of which not many are looked at.
type limitedTokens struct {
	*ra.TokenFile
	limit ra.Authenticator
}

// Authenticate asks the file, if that is allowed.
func (l limitedTokens) Authenticate(ctx context.Context, c ra.Credentials) error {
	return l.limit.Authenticate(ctx, c)
}

// tokensPerDevice is how many refusals a device's name may have: many, since no
// guess has a chance against 128 bits, and a stranger must not keep the device
// out. What a stranger is stopped by is the limit of his address.
const tokensPerDevice = 1000

func limitTokens(tokens *ra.TokenFile, path string, ledger ra.Ledger) limitedTokens {
	return limitedTokens{tokens, ra.NewAttempts(tokens, ra.AttemptsConfig{
		PerAccount: tokensPerDevice, Scope: "tokens " + path, Ledger: ledger, Local: true, Lease: localLease,
	})}
}

// keyUsageWords are the words of key_usages, spelt as OpenSSL does.
var keyUsageWords = map[string]x509.ExtKeyUsage{
	"clientAuth": x509.ExtKeyUsageClientAuth, "serverAuth": x509.ExtKeyUsageServerAuth,
	"ipsecEndSystem": x509.ExtKeyUsageIPSECEndSystem, "ipsecTunnel": x509.ExtKeyUsageIPSECTunnel,
	"ipsecUser": x509.ExtKeyUsageIPSECUser,
}

func (a *AuthSettings) keyUsages() ([]x509.ExtKeyUsage, error) {
	var all []x509.ExtKeyUsage
	for _, word := range a.KeyUsages {
		usage, ok := keyUsageWords[word]
		if !ok {
			known := slices.Sorted(maps.Keys(keyUsageWords))
			return nil, fmt.Errorf("%q is none of %s", word, strings.Join(known, ", "))
		}
		all = append(all, usage)
	}
	return all, nil
}

func (p *PolicySettings) policy() (ra.Policy, error) {
	subject, err := pattern(p.Subject)
	if err != nil {
		return ra.Policy{}, err
	}
	names, err := pattern(p.SANNames)
	if err != nil {
		return ra.Policy{}, err
	}
	return ra.Policy{
		Keys: p.Keys, Hashes: p.Hashes, Subject: subject,
		SANTypes: p.SANTypes, SANNames: names, SubjectNamesClient: p.SubjectNamesClient,
	}, nil
}
