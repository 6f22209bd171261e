package lab

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/onlineca/onlineca/internal/app"
	"github.com/onlineca/onlineca/ra/fault"
	"github.com/onlineca/onlineca/testenv"
)

// The names by which the vendor's examples call certsrv: the right one, and a
// typo of it.
const (
	rightHost = "lab-dc.lab.example"
	wrongHost = "lab-dcc.lab.example"
)

// noRA explains what CAPF sees of a registration authority that did not start.
const noRA = "The registration authority could not start. CAPF knows nothing of that: it connects to the EST port, TLS comes up, its request is never answered, and after its read timeout its EST client reports EST_ERR_SSL_READ (35), as the vendor's document shows for every such failure. In the lab a listener at that port accepts TLS and never answers."

// wayScenarios are the failures on the way to certsrv, up to its certificate.
var wayScenarios = map[fault.Code]scenario{
	fault.DNS: {
		done: "The Online CA hostname has a typo, " + wrongHost + ": the name server that the registration authority asks knows no such name.",
		note: noRA, waits: 1,
		set: func(s *stage) {
			s.startFails()
			s.called(wrongHost, func(string) dialer {
				return (&net.Dialer{Resolver: nameServer()}).DialContext
			})
		},
	},
	fault.ConnectionRefused: {
		done: "Nothing listens on the port of the Online CA: IIS is stopped, and the certsrv host refuses the connection.",
		note: noRA, waits: 1,
		set: func(s *stage) {
			s.startFails()
			s.onSettings(func(c *app.Settings) {
				c.Certsrv.URL = "https://localhost:" + s.closedPort() + "/certsrv"
			})
		},
	},
	fault.ConnectTimeout: {
		done: "A firewall drops every packet to the certsrv host: the connection is neither accepted nor refused.",
		note: noRA, waits: 2,
		set: func(s *stage) {
			s.startFails()
			s.loginTimeout()
			s.onParts(func(p *app.Parts) {
				p.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
					<-ctx.Done()
					return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
				}
			})
		},
	},
	fault.TLSHandshake: {
		done: "The configured port is that of a binding without TLS: what answers there is plain HTTP.",
		note: noRA, waits: 1,
		set: func(s *stage) {
			s.startFails()
			s.onCertsrv(func(c *testenv.Config) { c.TrustFront = true })
			s.onSettings(func(c *app.Settings) {
				c.Certsrv.URL = strings.Replace(c.Certsrv.URL, "http://", "https://", 1)
			})
		},
	},
	fault.UntrustedChain: {
		done: "The certificate of IIS comes from an intermediate CA. The root is among the trusted certificates of CAPF, the intermediate is not, and IIS does not send it along.",
		note: noRA, waits: 1,
		set: func(s *stage) {
			s.startFails()
			s.serverCertificate(testenv.ServerOptions{OmitIntermediate: true})
			s.onParts(func(p *app.Parts) { p.Roots = []*x509.Certificate{s.pki.Root} })
		},
	},
	fault.SelfSigned: {
		done: "IIS presents a self-signed certificate: its issuer and its subject are the same.",
		note: noRA + " The printed line is that of untrusted-chain, to the letter: the product does not tell the two apart.", waits: 1,
		set: func(s *stage) {
			s.startFails()
			s.serverCertificate(testenv.ServerOptions{SelfSigned: true})
		},
	},
	fault.NameMismatch: {
		done: "The Online CA hostname is " + rightHost + ", and the certificate of IIS was issued for the short name lab-dc.",
		note: noRA, waits: 1,
		set: func(s *stage) {
			s.startFails()
			s.serverCertificate(testenv.ServerOptions{Names: []string{"lab-dc"}})
			s.called(rightHost, dialTo)
		},
	},
	fault.NotYetValid: {
		done: "The clock of the registration authority is a day behind that of the CA which issued the certificate of IIS: by its own clock the certificate is not valid before tomorrow.",
		note: noRA, waits: 1,
		set: func(s *stage) {
			s.startFails()
			s.serverCertificate(testenv.ServerOptions{NotBefore: time.Now().AddDate(0, 0, 1)})
		},
	},
	fault.Expired: {
		done: "The certificate of IIS expired yesterday.",
		note: noRA, waits: 1,
		set: func(s *stage) {
			s.startFails()
			s.serverCertificate(testenv.ServerOptions{
				NotBefore: time.Now().AddDate(0, 0, -20), NotAfter: time.Now().AddDate(0, 0, -1),
			})
		},
	},
	fault.ConnectionLost: {
		done: "IIS closes the connection before it answers certrqxt.asp, again and again: its application pool crashes on that page.",
		set:  func(s *stage) { s.running = []string{"close@page*forever"} },
	},
}

// loginTimeout bounds the login, with all that comes before it.
func (s *stage) loginTimeout() {
	s.onSettings(func(c *app.Settings) { c.Certsrv.Timeouts.Login = s.timeout })
}

// closedPort is a port that nobody listens on.
func (s *stage) closedPort() string {
	l, err := (&net.ListenConfig{}).Listen(s.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		s.err = err
		return "1"
	}
	defer l.Close()
	return port(l.Addr())
}

// hostPort is the host and port of a URL.
func hostPort(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

func portOf(hostPort string) string {
	_, p, _ := net.SplitHostPort(hostPort)
	return p
}

// nameServer is a resolver whose name server knows no name at all.
func nameServer() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go answerNXDOMAIN(server)
		return client, nil
	}}
}

// answerNXDOMAIN answers every query on conn with "no such name" (RFC 1035
// section 4.1.1, RCODE 3). On a stream each message comes with its length
// before it (section 4.2.2).
func answerNXDOMAIN(conn net.Conn) {
	defer conn.Close()
	for {
		var head [2]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		msg := make([]byte, binary.BigEndian.Uint16(head[:]))
		if _, err := io.ReadFull(conn, msg); err != nil || len(msg) < 12 {
			return
		}
		msg = msg[:endOfQuestion(msg)]
		msg[2], msg[3] = 0x81, 0x83 // an answer, recursion desired and available, NXDOMAIN
		clear(msg[6:12])            // no records
		out := binary.BigEndian.AppendUint16(nil, uint16(len(msg)))
		if _, err := conn.Write(append(out, msg...)); err != nil {
			return
		}
	}
}

// endOfQuestion is where the one question of a query ends: labels up to an
// empty one, type and class.
func endOfQuestion(msg []byte) int {
	i := 12
	for i < len(msg) && msg[i] != 0 {
		i += int(msg[i]) + 1
	}
	return min(i+5, len(msg))
}
