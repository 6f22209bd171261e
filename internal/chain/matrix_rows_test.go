package chain

import (
	"crypto/x509"
	"crypto/x509/pkix"
)

const (
	wantNoIssuer = "SSL certificate problem: unable to get local issuer certificate"
	wantInvalid  = "CAPF_OP_FAIL_INVALID_LSC"
)

func usage(u x509.KeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.KeyUsage = u }
}

func extended(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = u }
}

func noCommonName(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{"Example"}} }
func wildcard(c *x509.Certificate)     { c.Subject.CommonName = "*.example.com" }
func noCA(c *x509.Certificate)         { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }

// The things that break a scene.
func leafIs(change func(*x509.Certificate)) func(*scene) {
	return func(s *scene) { s.leaf = append(s.leaf, change) }
}
func interNoCA(s *scene) { s.inter = append(s.inter, noCA) }

func without(names []string, name string) []string {
	out := []string{}
	for _, n := range names {
		if n != name {
			out = append(out, n)
		}
	}
	return out
}

func noTrust(name string) func(*scene) {
	return func(s *scene) { s.trust = without(s.trust, name) }
}
func noPeerTrust(name string) func(*scene) {
	return func(s *scene) { s.peerTrust = without(s.peerTrust, name) }
}
func crossFirst(s *scene) { s.trust = append([]string{"cross"}, s.trust...) }
func crossFirstPeer(s *scene) {
	s.peerTrust = append([]string{"cross"}, s.peerTrust...)
}

func allKinds() []kind {
	return []kind{omeUploadKind(), omeServerKind(), migrationKind(), expresswayKind(), traversalKind(), mraKind(), jabberKind(), lscKind(), cucmKind()}
}

func omeUploadKind() kind {
	eku, ku, chain := []string{"No Client/Server authentication EKU present in leaf certificate."}, []string{"User Certificate is not a web server certificate."}, []string{"Invalid certificate chain provided."}
	return kind{profile: OMEUpload,
		good: func(s *scene) {
			s.cn, s.names, s.requestName, s.fileRoot = "OMENT", []string{"oment.example.com"}, "OMENT", true
		},
		rows: []row{
			{"wildcard in the request", "csr-dn", "", "CGEN6002", "Unable to complete the request because the input value for DistinguishedName is missing or an invalid value is entered.", nil, "", Documented, func(s *scene) { s.requestName = "*.example.com" }},
			{"another key", "csr-key", "", "CGEN1008", wantCGEN1008, []string{"Invalid CSR key."}, "ome/csr-key.log", Documented, func(s *scene) { s.foreignKey = true }},
			{"DER", "encoding", "", "CSEC9002", wantCSEC9002, []string{}, "ome/csec9002.log", Documented, func(s *scene) { s.der = true }},
			{"no common name", "common-name", "", "CGEN1008", wantCGEN1008, nil, "", Documented, leafIs(noCommonName)},
			{"wildcard", "common-name", "", "CGEN1008", wantCGEN1008, nil, "", Documented, leafIs(wildcard)},
			{"no clientAuth", "eku", "", "CGEN1008", wantCGEN1008, eku, "ome/eku.log", Documented, leafIs(extended(x509.ExtKeyUsageServerAuth))},
			{"no serverAuth", "eku", "", "CGEN1008", wantCGEN1008, eku, "ome/eku.log", Documented, leafIs(extended(x509.ExtKeyUsageClientAuth))},
			{"no EKU", "eku", "", "CGEN1008", wantCGEN1008, eku, "ome/eku.log", Documented, leafIs(extended())},
			{"no keyEncipherment", "key-encipherment", "", "CGEN1008", wantCGEN1008, ku, "ome/key-encipherment.log", Documented, leafIs(usage(x509.KeyUsageDigitalSignature))},
			{"no root", "chain-complete", "", "CGEN1008", wantCGEN1008, chain, "ome/chain.log", Documented, func(s *scene) { s.fileRoot = false }},
			{"no intermediate", "chain-complete", "", "CGEN1008", wantCGEN1008, chain, "ome/chain.log", Documented, func(s *scene) { s.fileInter = false }},
			{"backwards", "chain-links", "", "CGEN1008", wantCGEN1008, chain, "ome/chain.log", Inferred, func(s *scene) { s.backwards = true }},
			{"a stranger", "chain-links", "", "CGEN1008", wantCGEN1008, chain, "ome/chain.log", Inferred, func(s *scene) { s.stranger = true }},
			{"an intermediate that is no CA", "chain-links", "", "CGEN1008", wantCGEN1008, chain, "ome/chain.log", Inferred, interNoCA},
			{"too deep", "depth", "", "CGEN1008", wantCGEN1008, chain, "ome/chain.log", Inferred, func(s *scene) { s.deep = 10 }},
			{"expired", "validity", Warning, "", "", nil, "", Inferred, leafIs(expired)},
		},
		never: []never{{"no intermediate", "an intermediate that is no CA", "a certificate that is not there cannot be judged"}}}
}

func omeServerKind() kind {
	return kind{profile: OMEServer,
		good: func(s *scene) { s.cn, s.requestName, s.fileInter = "OMENT", "OMENT", false },
		rows: []row{
			{"wildcard in the request", "csr-dn", "", "CGEN6002", "Unable to complete the request because the input value for DistinguishedName is missing or an invalid value is entered.", nil, "", Documented, func(s *scene) { s.requestName = "*.example.com" }},
			{"another key", "csr-key", "", "CGEN1008", wantCGEN1008, []string{"Invalid CSR key."}, "ome/csr-key.log", Inferred, func(s *scene) { s.foreignKey = true }},
			{"DER", "encoding", "", "CSEC9002", wantCSEC9002, []string{}, "ome/csec9002.log", Documented, func(s *scene) { s.der = true }},
			{"no common name", "common-name", "", "CGEN1008", wantCGEN1008, nil, "", Documented, leafIs(noCommonName)},
			{"no serverAuth", "eku", "", "CGEN1008", wantCGEN1008, []string{"No Client/Server authentication EKU present in leaf certificate."}, "ome/eku.log", Inferred, leafIs(extended(x509.ExtKeyUsageClientAuth))},
			{"no keyEncipherment", "key-encipherment", "", "CSEC9002", wantCSEC9002, []string{}, "ome/csec9002.log", Documented, leafIs(usage(x509.KeyUsageDigitalSignature))},
			{"not yet valid", "validity", Warning, "", "", nil, "", Inferred, leafIs(early)},
		}}
}

func migrationKind() kind {
	text := mutual1 + " " + mutual2
	return kind{profile: OMEMigration,
		good: func(s *scene) { s.cn, s.peerCN, s.fileRoot, s.peerRoot = "OMENT-310", "OMENT-400", true, true },
		rows: []row{
			{"another intermediate", "issued-to-issued-by", "", "", text, nil, "", Documented, func(s *scene) { s.otherInter = true }},
			{"a root of the same name", "trust", "", "", text, nil, "", Inferred, func(s *scene) { s.twinRoot = true }},
			{"target without its root", "trust", "", "", text, nil, "", Inferred, func(s *scene) { s.peerRoot = false }},
			{"source expired", "validity", "", "", text, nil, "", Documented, leafIs(expired)},
			{"target not yet valid", "validity", "", "", text, nil, "", Documented, func(s *scene) { s.peer = append(s.peer, early) }},
			{"common intermediate expired", "validity", "", "", text, nil, "", Documented, func(s *scene) { s.inter = append(s.inter, expired) }},
			{"too deep", "depth", "", "", text, nil, "", Documented, func(s *scene) { s.deep = 10 }},
		}}
}

func expresswayKind() kind {
	return kind{profile: Expressway,
		good: func(s *scene) {
			s.cn, s.names, s.verifyName, s.trust = "expc1.example.com", []string{"expc1.example.com"}, "expc1.example.com", []string{"root", "inter"}
		},
		rows: []row{
			{"DER", "format", "", "", wantNotPEM, nil, "", Documented, func(s *scene) { s.der = true }},
			{"intermediate not trusted", "trusted-ca", "", "", wantUnrecognized, nil, "", Documented, noTrust("inter")},
			{"root not trusted", "trusted-ca", "", "", wantUnrecognized, nil, "", Documented, noTrust("root")},
			{"an intermediate that is no CA", "chain", "", "", "", nil, "", Inferred, interNoCA},
			{"a cross certificate before the good one", "path", "", "", wantUnrecognized, nil, "", Inferred, crossFirst},
			{"another name", "names", "", "", "", nil, "", Inferred, func(s *scene) { s.verifyName = "expc2.example.com" }},
			{"expired", "validity", "", "", "", nil, "", Inferred, leafIs(expired)},
			{"no common name", "common-name", Warning, "", "", nil, "", Inferred, leafIs(noCommonName)},
		},
		never: []never{{"root not trusted", "a cross certificate before the good one", "without the root there is no path that OpenSSL could miss"}}}
}

func traversalKind() kind {
	onlyOther := []string{"other"}
	return kind{profile: ExpresswayTraversal,
		good: func(s *scene) {
			s.cn, s.names, s.verifyName = "expc1.example.com", []string{"expc.example.com"}, "expc.example.com"
			s.peerCN, s.peerNames, s.peerAddress = "expe1.example.com", []string{"expe.example.com"}, "expe.example.com"
			s.trust, s.peerTrust = []string{"root", "inter"}, []string{"root", "inter"}
		},
		rows: []row{
			{"peer address", "peer-address", "", "", wantNegotiation, nil, "", Documented, func(s *scene) { s.peerAddress = "10.0.0.1" }},
			{"verify name", "verify-name", "", "", wantNegotiation, nil, "", Documented, func(s *scene) { s.verifyName = "cluster.example.com" }},
			{"C trusts another CA", "trust-c", "", "", wantNegotiation, nil, "", Documented, func(s *scene) { s.trust = onlyOther }},
			{"E trusts another CA", "trust-e", "", "", wantNegotiation, nil, "", Documented, func(s *scene) { s.peerTrust = onlyOther }},
			{"an intermediate that is no CA", "chain", "", "", wantNegotiation, nil, "", Inferred, interNoCA},
			{"a cross certificate before the good ones", "path", "", "", wantNegotiation, nil, "", Inferred, func(s *scene) {
				for _, store := range []*[]string{&s.trust, &s.peerTrust} {
					if (*store)[0] != "other" {
						*store = append([]string{"cross"}, *store...)
					}
				}
			}},
			{"C no client", "purpose", "", "", wantNegotiation, nil, "", Inferred, leafIs(extended(x509.ExtKeyUsageServerAuth))},
			{"E no server", "purpose", "", "", wantNegotiation, nil, "", Inferred, func(s *scene) { s.peer = append(s.peer, extended(x509.ExtKeyUsageClientAuth)) }},
			{"C expired", "validity", "", "", wantNegotiation, nil, "", Inferred, leafIs(expired)},
			{"E not yet valid", "validity", "", "", wantNegotiation, nil, "", Inferred, func(s *scene) { s.peer = append(s.peer, early) }},
			{"stores without the intermediate", "ssh-tunnels", "", "", wantNoTunnels, nil, "", Documented, func(s *scene) {
				noTrust("inter")(s)
				noPeerTrust("inter")(s)
			}},
		}}
}

func mraKind() kind {
	return kind{profile: ExpresswayMRA,
		good: func(s *scene) {
			s.cn, s.trust, s.peerTrust = "expc1.example.com", []string{"root", "inter"}, []string{"root", "inter"}
		},
		rows: []row{
			{"intermediate not in tomcat-trust", "tomcat-trust", "", "", "", nil, "", Documented, noTrust("inter")},
			{"root not in tomcat-trust", "tomcat-trust", "", "", "", nil, "", Documented, noTrust("root")},
			{"intermediate not in callmanager-trust", "callmanager-trust", "", "", "", nil, "", Documented, noPeerTrust("inter")},
			{"root not in callmanager-trust", "callmanager-trust", "", "", "", nil, "", Documented, noPeerTrust("root")},
			{"an intermediate that is no CA", "chain", "", "", "", nil, "", Inferred, interNoCA},
			{"a cross certificate before the good one", "path", "", "", "", nil, "", Inferred, crossFirstPeer},
			{"expired", "validity", "", "", "", nil, "", Inferred, leafIs(expired)},
		},
		never: []never{{"root not in callmanager-trust", "a cross certificate before the good one", "without the root there is no path that OpenSSL could miss"}}}
}

func jabberKind() kind {
	return kind{profile: Jabber,
		good: func(s *scene) {
			s.cn, s.names, s.verifyName, s.trust = "expe1.example.com", []string{"collab-edge.example.com"}, "example.com", []string{"root"}
		},
		rows: []row{
			{"another domain", "domain", "", "", "", nil, "", Documented, func(s *scene) { s.names = []string{"expe1.example.com"} }},
			{"another CA trusted", "trusted-ca", "", "", "", nil, "", Documented, func(s *scene) { s.trust = []string{"other"} }},
			{"an intermediate that is no CA", "chain", "", "", "", nil, "", Inferred, interNoCA},
			{"expired", "validity", "", "", "", nil, "", Inferred, leafIs(expired)},
			{"intermediate not yet valid", "validity", "", "", "", nil, "", Inferred, func(s *scene) { s.inter = append(s.inter, early) }},
		}}
}

func lscKind() kind {
	return kind{profile: CAPFLSC,
		good: func(s *scene) {
			s.cn, s.verifyName, s.fileRoot, s.trust = "CP-8865-"+device, device, true, []string{"root", "inter"}
			s.eku = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		},
		rows: []row{
			{"no digitalSignature", "key-usage", "", "lsc-key-usage", "", nil, "", Documented, leafIs(usage(x509.KeyUsageKeyEncipherment))},
			{"no keyEncipherment", "key-usage", "", "lsc-key-usage", "", nil, "", Documented, leafIs(usage(x509.KeyUsageDigitalSignature))},
			{"no serverAuth", "eku", "", "lsc-key-usage", "", nil, "", Inferred, leafIs(extended(x509.ExtKeyUsageClientAuth))},
			{"another device", "device", "", "invalid-lsc", wantInvalid, nil, "", Inferred, func(s *scene) { s.verifyName = "SEPAABBCCDDEEFF" }},
			{"an issuer called CAPF-", "issuer-name", "", "ca-cn-capf", "", nil, "", Documented, func(s *scene) { s.interCN = "CAPF-eb606ac0" }},
			{"root not trusted", "chain-complete", "", "capf-trust-missing", wantInvalid, nil, "", Documented, noTrust("root")},
			{"an intermediate that is no CA", "chain-complete", "", "capf-trust-missing", wantInvalid, nil, "", Inferred, interNoCA},
			{"a cross certificate before the good one", "path", "", "capf-trust-missing", wantInvalid, nil, "", Inferred, crossFirst},
			{"expired", "validity", "", "invalid-lsc", wantInvalid, nil, "", Inferred, leafIs(expired)},
		},
		never: []never{{"root not trusted", "a cross certificate before the good one", "without the root there is no path that OpenSSL could miss"}}}
}

func cucmKind() kind {
	const self = "a self-signed certificate has no CA that could be missing, nor a path that could be missed"
	return kind{profile: CUCMIIS,
		good: func(s *scene) {
			s.cn, s.verifyName, s.trust = "lab-dc.michamen.com", "lab-dc.michamen.com", []string{"root", "inter"}
		},
		rows: []row{
			{"self-signed", "self-signed", "", "self-signed", wantNoIssuer, nil, "ces/self-signed", Documented, func(s *scene) { s.selfSigned = true }},
			{"intermediate not trusted", "capf-trust", "", "untrusted-chain", wantNoIssuer, nil, "ces/untrusted-chain", Documented, noTrust("inter")},
			{"root not trusted", "capf-trust", "", "untrusted-chain", wantNoIssuer, nil, "ces/untrusted-chain", Documented, noTrust("root")},
			{"an intermediate that is no CA", "capf-trust", "", "untrusted-chain", wantNoIssuer, nil, "ces/untrusted-chain", Inferred, interNoCA},
			{"a cross certificate before the good one", "path", "", "untrusted-chain", wantNoIssuer, nil, "ces/untrusted-chain", Inferred, crossFirst},
			{"no server", "purpose", "", "untrusted-chain", "SSL certificate problem: unsupported certificate purpose", nil, "", Inferred, leafIs(extended(x509.ExtKeyUsageClientAuth))},
			{"not yet valid", "validity", "", "not-yet-valid", "SSL certificate problem: certificate is not yet valid", nil, "", Documented, leafIs(early)},
			{"expired", "validity", "", "expired", "SSL certificate problem: certificate has expired", nil, "", Inferred, leafIs(expired)},
			{"another host", "hostname", "", "name-mismatch", "SSL: certificate subject name 'lab-dc' does not match target host name 'lab-dc.michamen.com'", nil, "ces/name-mismatch", Documented, func(s *scene) { s.cn = "lab-dc" }},
		},
		never: []never{
			{"self-signed", "intermediate not trusted", self}, {"self-signed", "root not trusted", self}, {"self-signed", "an intermediate that is no CA", self},
			{"self-signed", "a cross certificate before the good one", self},
			{"root not trusted", "a cross certificate before the good one", "without the root there is no path that OpenSSL could miss"},
		}}
}
