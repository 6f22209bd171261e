package lab

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/onlineca/onlineca/capf"
	"github.com/onlineca/onlineca/capf/phone"
	"github.com/onlineca/onlineca/capf/wire"
	"github.com/onlineca/onlineca/internal/app"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/testenv"
)

// estScenarios are the failures of the EST exchange, and of what CAPF makes of
// a request before it.
var estScenarios = map[fault.Code]scenario{
	fault.MalformedCSR: {
		done: "CAPF is given a request for a device that is damaged: bytes in its middle are missing.",
		set: func(s *stage) {
			s.request = func(device string) ([]byte, error) {
				der, err := requestOf(device)
				if err != nil {
					return nil, err
				}
				return append(der[:len(der)/2:len(der)/2], der[len(der)/2+16:]...), nil
			}
		},
	},
	fault.BadCSRSignature: {
		done: "CAPF is given a request for a device that was changed after it was signed.",
		set: func(s *stage) {
			s.request = func(device string) ([]byte, error) {
				der, err := requestOf(device)
				if err != nil {
					return nil, err
				}
				der[len(der)-1] ^= 1 // the last byte of the signature
				return der, nil
			}
		},
	},
	fault.ESTUnreachable: {
		done: "The registration authority does not run: nothing listens on the EST port.",
		set: func(s *stage) {
			s.onEST(func(c *capf.ESTConfig) { c.Server = "https://localhost:" + s.closedPort() })
		},
	},
	fault.ESTServerTrust: {
		done: "The EST server's certificate comes from a CA that CAPF does not trust.",
		set: func(s *stage) {
			other, err := testenv.NewPKI(testenv.PKIConfig{RootName: "OTHER-ROOT-CA"})
			if err != nil {
				s.err = err
				return
			}
			s.onEST(func(c *capf.ESTConfig) {
				c.Roots = x509.NewCertPool()
				c.Roots.AddCert(other.Root)
			})
		},
	},
	fault.ESTReadTimeout: {
		done: "The CA takes longer for a certificate than CAPF's EST client waits. The registration authority has more patience, gets the certificate, and finds nobody to give it to.",
		note: "The registration authority notes a success: the certificate is issued, and the phone has not got it.", waits: 1,
		set: func(s *stage) {
			s.impatient()
			s.onSettings(func(c *app.Settings) { c.Certsrv.Timeouts.Submit = 4 * s.timeout })
			s.running = []string{"slow:" + (s.timeout + s.timeout/2).String() + "@submit*forever"}
		},
	},
	fault.ESTHTTPWriteFault: {
		done: "The connection to the EST server is cut in the moment in which the EST client sends its request.",
		set: func(s *stage) {
			s.onEST(func(c *capf.ESTConfig) { c.Dial = dialCut })
		},
	},
	fault.ESTAnswerUnreadable: {
		done: "At the EST port something else answers than an EST server: a web server, with a page of HTML and status 200.",
		set: func(s *stage) {
			s.front = serveText(http.StatusOK, "text/html", "<html><body><h1>It works!</h1></body></html>\n")
		},
	},
	fault.ESTServerError: {
		done: "The web server in front of the EST server has nobody behind it: it answers 503.",
		set: func(s *stage) {
			s.front = serveText(http.StatusServiceUnavailable, "text/html", "<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>\n")
		},
	},
	fault.ClientCertificate: {
		done: "The EST server wants a client certificate of its own CA, and CAPF presents a self-signed one.",
		set: func(s *stage) {
			s.onSettings(func(c *app.Settings) { c.EST.Auth.Certsrv, c.EST.Auth.OwnChain = false, true })
			cert, err := s.pki.ServerCertificate(testenv.ServerOptions{Names: []string{"capf"}, SelfSigned: true})
			if err != nil {
				s.err = err
				return
			}
			s.onEST(func(c *capf.ESTConfig) { c.Certificate, c.Username = &cert, "" })
		},
	},
	fault.NotAuthorized: {
		done: "The policy wants the subject of a request to be the name that the client logged in by (est.policy.subject_names_client), and CAPF logs in as itself for every phone.",
		set: func(s *stage) {
			s.onSettings(func(c *app.Settings) { c.EST.Policy.SubjectNamesClient = true })
		},
	},
	fault.InProgress: {
		done: "The registration authority remembers its requests (store), and the CA takes longer for one than a client is kept waiting (requests.patience).",
		note: "It goes on with the request by itself, and the client that comes back gets the certificate. CAPF does not wait: it ends with EST_ERR_CA_ENROLL_RETRY, and the phone is told to come back.", waits: 1,
		set: func(s *stage) {
			s.onSettings(func(c *app.Settings) {
				c.Store = filepath.Join(s.dir, stateDir, "requests.db")
				c.Requests.Audit = filepath.Join(s.dir, stateDir, "audit.jsonl")
				c.Requests.Patience = s.client * 4 / 5
			})
			s.running = []string{"slow:" + s.timeout.String() + "@submit*forever"}
		},
	},
	fault.Busy: {
		done: "Three phones come at once. The registration authority may have one request with certsrv and let none wait, and certsrv is slow.",
		note: "The first phone gets its certificate; the others are told to come back.", waits: 1,
		set: func(s *stage) {
			s.onSettings(func(c *app.Settings) { c.Certsrv.Sessions, c.EST.MaxRequests = 1, -1 })
			s.running = []string{"slow:" + s.timeout.String() + "@submit*forever"}
		},
		phones: 3,
	},
}

// capfScenarios are the failures between CAPF and a phone.
var capfScenarios = map[fault.Code]scenario{
	fault.AuthString: {
		done: "The phone's user types another authentication string than the one in the device's configuration.",
		set:  func(s *stage) { s.byString("24680", "13579") },
	},
	fault.AuthStringLockout: {
		done: "The phone's user types a wrong authentication string ten times, and comes back with the right one.",
		set: func(s *stage) {
			s.byString("24680", "13579")
			s.contacts = 11
			// The operation stays scheduled: there would be nothing to come for.
			s.server = append(s.server, func(c *capf.ServerConfig) { c.OneAttempt = false })
			s.phone = append(s.phone, func(c *phone.Config, contact int) {
				if contact == s.contacts {
					c.Auth.String = "24680"
				}
			})
		},
		before: []fault.Code{fault.AuthString},
	},
	fault.DeadlinePassed: {
		done: "The phone comes an hour after the time by which the operation was to finish.",
		set: func(s *stage) {
			s.device = append(s.device, func(d *capf.Device) { d.FinishBy = time.Now().Add(-time.Hour) })
		},
	},
	fault.KeygenTimeout: {
		done: "The phone is asked for a key and does not get done with it.", waits: 1,
		set: func(s *stage) {
			s.server = append(s.server, func(c *capf.ServerConfig) { c.Timeouts.Keygen = s.timeout })
			s.phone = append(s.phone, func(c *phone.Config, _ int) { c.Keys, c.InProgress = s.neverDone, -1 })
		},
	},
	fault.PhoneUnreachable: {
		done: "The phone loses its network while it generates its key.",
		set: func(s *stage) {
			s.phone = append(s.phone, func(c *phone.Config, _ int) { c.Keys = noKey })
		},
	},
	fault.DeviceCannotSign: {
		done: "The device does not take part in the exchange by which CAPF has a request signed (signing: none), and an Online CA is to issue for it.",
		set: func(s *stage) {
			s.device = append(s.device, func(d *capf.Device) { d.Signing = capf.SigningNone })
		},
	},
	fault.UnknownDevice: {
		done: "The phone's name is not in the device table: a digit of its MAC address was mistyped there.",
		set: func(s *stage) {
			s.device = append(s.device, func(d *capf.Device) { d.Name = d.Name[:len(d.Name)-1] + "X" })
		},
	},
	fault.InvalidLSC: {
		done: "The phone authenticates with an LSC of a CA that has been replaced and taken out of CAPF-trust.",
		set:  func(s *stage) { s.byCertificate(capf.AuthByLSC) },
	},
	fault.InvalidMIC: {
		done: "The phone authenticates with a MIC of a manufacturing CA that is not in CAPF-trust.",
		set:  func(s *stage) { s.byCertificate(capf.AuthByMIC) },
	},
	fault.ECUnsupported: {
		done: "The device is set to EC keys only, and the phone speaks version 2 of CAPF, which has none.",
		set: func(s *stage) {
			s.device = append(s.device, func(d *capf.Device) { d.KeyOrder, d.ECKeySize = capf.ECOnly, 384 })
			s.phone = append(s.phone, func(c *phone.Config, _ int) { c.Version = 2 })
		},
	},
	fault.CAPFTrustMissing: {
		done: "The CA that issues LSCs is not among the certificates that CAPF trusts: another CA's chain was uploaded.",
		note: "The certificate is issued, and CAPF does not accept it.",
		set: func(s *stage) {
			other, err := testenv.NewPKI(testenv.PKIConfig{RootName: "OTHER-ROOT-CA", CAName: "OTHER-ISSUING-CA"})
			if err != nil {
				s.err = err
				return
			}
			s.enroller = append(s.enroller, func(c *capf.EnrollerConfig) { c.Anchors = capf.AnchorsOf(other.Chain(0)) })
		},
	},
	fault.StaleLSC: {
		done: "The phone has an LSC of the CA that issued before today's. Nobody has scheduled an operation for it, and it comes to CAPF all the same.",
		note: "Nothing fails yet, and the product has no line of it but in the output of utils capf stale-lsc list: the phone fails when the former CA's certificate is taken out of the trust stores. Our own CAPF notes such a phone whenever it comes, and onlineca stale-lsc list has all of them.",
		set:  func(s *stage) { s.formerLSC() },
		good: true,
	},
	fault.CAPFCertificate: {
		done: "CAPF's certificate was regenerated without CA:TRUE and without the key usage keyCertSign.",
		set: func(s *stage) {
			cert, err := s.pki.ServerCertificate(testenv.ServerOptions{Names: []string{"CAPF-0badca9f"}, SelfSigned: true})
			if err != nil {
				s.err = err
				return
			}
			s.server = append(s.server, func(c *capf.ServerConfig) { c.Certificate = cert })
		},
	},
}

// noScenario says why a row cannot be produced.
var noScenario = map[fault.Code]string{
	fault.Unknown:       "it stands for every failure that has no code; none is known that has none",
	fault.NoSuchRequest: "the registration authority would have to ask for a number that its CA never gave: it does so only when its store is moved to another CA",
	fault.Canceled:      "it is what an interrupted run notes: press Ctrl-C during any reproduction",
	fault.Internal:      "it is a mistake of this program; none is known",
	fault.DiskFull:      "it would take a full disk, and a reproduction writes its logs to the same one",
	fault.Database:      "it would take a PostgreSQL server that goes away",
}

// neverDone is a phone that is asked for a key, and is still at it when CAPF
// has long given up.
func (s *stage) neverDone(ctx context.Context, _ wire.KeySpec) (crypto.Signer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout+s.timeout/2)
	defer cancel()
	<-ctx.Done()
	return nil, fmt.Errorf("lab: %w", ctx.Err())
}

// noKey is a phone that goes away in place of making its key.
func noKey(context.Context, wire.KeySpec) (crypto.Signer, error) {
	return nil, errors.New("lab: the phone has lost its network")
}

// byString has the phone authenticate by string.
func (s *stage) byString(configured, typed string) {
	s.device = append(s.device, func(d *capf.Device) { d.AuthMode, d.AuthString = capf.AuthByString, configured })
	s.phone = append(s.phone, func(c *phone.Config, _ int) { c.Auth.String = typed })
}

// byCertificate has the phone authenticate with a certificate of a CA that
// CAPF does not trust.
func (s *stage) byCertificate(mode capf.AuthMode) {
	s.device = append(s.device, func(d *capf.Device) { d.AuthMode = mode })
	s.phone = append(s.phone, func(c *phone.Config, _ int) {
		id, err := foreignIdentity(c.Device)
		if err != nil {
			s.err = err
			return
		}
		c.Auth.Certificate = id
	})
}

// formerLSC has the phone hold an LSC of a CA that does not issue any more, and
// nothing scheduled that would replace it.
func (s *stage) formerLSC() {
	s.device = append(s.device, func(d *capf.Device) {
		id, err := foreignIdentity(d.Name)
		if err != nil {
			s.err = err
			return
		}
		d.Operation, d.LSC, d.LSCIssuer = capf.OperationNone, id.Certificate, "CN=Former CA"
	})
	s.server = append(s.server, func(c *capf.ServerConfig) {
		c.LSCIssuers = func() []*x509.Certificate { return s.pki.Chain(0) }
	})
}

// foreignIdentity is a certificate that names the device, signed by itself,
// with its key.
func foreignIdentity(device string) (*phone.Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: device},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "Former CA"}, NotBefore: t.NotBefore, NotAfter: t.NotAfter}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return &phone.Identity{Certificate: der, Key: key}, nil
}

// requestOf is a good request with a key of its own.
func requestOf(device string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: device, OrganizationalUnit: []string{"Phones"}, Organization: []string{"Lab"}},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("lab: sign the request of %s: %w", device, err)
	}
	return der, nil
}

// serveText answers every request with the same text.
func serveText(status int, kind, text string) front {
	return serveHTTP(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	})
}

// front serves TLS with a certificate on a listener until the context ends.
type front = func(context.Context, net.Listener, tls.Certificate) error

// serveHTTP has h answer.
func serveHTTP(h http.HandlerFunc) front {
	return func(ctx context.Context, l net.Listener, cert tls.Certificate) error {
		s := &http.Server{
			ReadHeaderTimeout: productTimeout, Handler: h,
			ErrorLog: log.New(io.Discard, "", 0), // the far side ends connections as it likes
		}
		defer context.AfterFunc(ctx, func() { _ = s.Close() })()
		conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
		if err := s.Serve(tls.NewListener(l, conf)); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("lab: serve HTTP: %w", err)
		}
		return nil
	}
}

// dialCut connects through something that cuts the connection as soon as the
// client sends its first data after the TLS handshake.
func dialCut(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &cut{Conn: conn}, nil
}

// cut is a connection that counts the flights with records of TLS that look
// like data (type 23). In TLS 1.3 a client's first flight of them is the end of
// its handshake, hidden as such (RFC 8446 section 5.2); the second one is its
// own data.
type cut struct {
	net.Conn
	flights int
}

// Write passes p on, or cuts the connection.
func (c *cut) Write(p []byte) (int, error) {
	for rest := p; len(rest) >= 5; rest = rest[min(len(rest), 5+int(binary.BigEndian.Uint16(rest[3:]))):] {
		if rest[0] == 23 {
			c.flights++
			break
		}
	}
	if c.flights < 2 {
		return c.Conn.Write(p)
	}
	// What reads goes on until the client closes, with a reset.
	if t, ok := c.Conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.ECONNRESET}
}
