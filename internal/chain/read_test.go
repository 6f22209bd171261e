package chain

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/onlineca/onlineca/internal/interop"
)

func wide(s []byte) []byte {
	out := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(string(s))) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

// indefinite turns the outermost three levels of a DER structure into the
// indefinite form of BER, as some CAs write PKCS#7.
func indefinite(der []byte, levels int) []byte {
	constructed, length, content, err := header(der)
	if err != nil || !constructed || levels == 0 {
		return der
	}
	out := []byte{der[0], 0x80}
	for content = content[:length]; len(content) > 0; {
		_, l, rest, err := header(content)
		if err != nil {
			panic(err)
		}
		n := len(content) - len(rest) + l
		out = append(out, indefinite(content[:n], levels-1)...)
		content = content[n:]
	}
	return append(out, 0, 0)
}

func names(in *Input) []string {
	out := []string{}
	for _, c := range in.Certs {
		out = append(out, c.Subject.CommonName)
	}
	return out
}

func TestReadForms(t *testing.T) {
	root := issue(t, nil, "root", asCA)
	leaf := issue(t, root, "leaf")
	chain := pemOf(leaf.cert, root.cert)
	both := slices.Concat(leaf.cert.Raw, root.cert.Raw)
	p7 := degenerate(t, leaf, root)
	p12, err := pkcs12.Modern.Encode(leaf.key, leaf.cert, certsOf(root), "secret")
	if err != nil {
		t.Fatal(err)
	}
	store, err := pkcs12.Modern.EncodeTrustStore(certsOf(leaf, root), "secret")
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(leaf.key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(label string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
	}
	secret := "secret"
	for _, c := range []struct {
		name   string
		data   []byte
		format Format
		note   string
	}{
		{"PEM", chain, FormatPEM, ""},
		{"PEM, DOS lines", bytes.ReplaceAll(chain, []byte("\n"), []byte("\r\n")), FormatPEM, ""},
		{"PEM, indented", bytes.ReplaceAll(chain, []byte("\n"), []byte("\n   ")), FormatPEM, ""},
		{"PEM with text around", slices.Concat([]byte("0 s:CN = leaf\n"), chain, []byte("---\nServer certificate\n")), FormatPEM, "text around"},
		{"PEM with a byte order mark", slices.Concat([]byte("\xef\xbb\xbf"), chain), FormatPEM, "byte order mark"},
		{"PEM with a key", slices.Concat(block("PRIVATE KEY", key), chain), FormatPEM, "private key"},
		{"PEM with something else", slices.Concat(block("DH PARAMETERS", []byte{0x30, 0}), chain), FormatPEM, "is ignored"},
		{"PEM, old and trusted labels", slices.Concat(block("X509 CERTIFICATE", leaf.cert.Raw), block("TRUSTED CERTIFICATE", append(slices.Clone(root.cert.Raw), 0x30, 0))), FormatPEM, ""},
		{"UTF-16", wide(chain), FormatUTF16, "UTF-16"},
		{"DER", both, FormatDER, ""},
		{"Base64 without lines", []byte(base64.StdEncoding.EncodeToString(both)), FormatBase64, "lacks its BEGIN"},
		{"PKCS#7 DER", p7, FormatPKCS7DER, ""},
		{"PKCS#7 BER", indefinite(p7, 3), FormatPKCS7DER, ""},
		{"PKCS#7 PEM", block("PKCS7", p7), FormatPKCS7PEM, ""},
		{"PKCS#7 as Web Enrollment labels it", block("CERTIFICATE", p7), FormatPKCS7PEM, ""},
		{"PKCS#12", p12, FormatPKCS12, "private key"},
		{"PKCS#12 trust store", store, FormatPKCS12, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, err := Read(bytes.NewReader(c.data), "file", &secret)
			if err != nil || in.Err != nil {
				t.Fatal(err, in.Err)
			}
			if in.Format != c.format {
				t.Errorf("format %q, want %q", in.Format, c.format)
			}
			if got := names(in); !slices.Contains(got, "leaf") || !slices.Contains(got, "root") || len(got) != 2 {
				t.Errorf("certificates %v", got)
			}
			if !strings.Contains(strings.Join(in.Notes, "; "), c.note) {
				t.Errorf("notes %q lack %q", in.Notes, c.note)
			}
		})
	}
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	root := issue(t, nil, "root", asCA)
	good := string(pemOf(root.cert))
	p12, err := pkcs12.Modern.Encode(root.key, root.cert, nil, "secret")
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, root.key)
	if err != nil {
		t.Fatal(err)
	}
	wrong := "wrong"
	for _, c := range []struct {
		name, data string
		password   *string
		says       string
		certs      int
	}{
		{"empty", " \n", nil, "it is empty", 0},
		{"junk", "junk", nil, "neither PEM, nor DER", 0},
		{"cut off DER", string(root.cert.Raw[:100]), nil, "neither PEM", 0},
		{"DER that is no certificate", "\x30\x82\x00\x03\x02\x01\x01", nil, "certificate 1 cannot be read", 0},
		{"DER with a tail", string(root.cert.Raw) + "tail", nil, "certificate 2 cannot be read", 1},
		{"no END", good + "-----BEGIN CERTIFICATE-----\nMII=\n", nil, "has no END line", 1},
		{"wrong END", strings.Replace(good, "END CERTIFICATE", "END KEY", 1), nil, "ends as KEY", 0},
		{"damaged Base64", good + strings.Replace(good, "MII", "M?I", 1), nil, "CERTIFICATE is damaged", 1},
		{"damaged certificate", good + "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", nil, "CERTIFICATE cannot be read", 1},
		{"begins twice", "-----BEGIN CERTIFICATE-----\n" + good, nil, "has no END line", 1},
		{"PKCS#12 without password", string(p12), nil, "--password-file", 0},
		{"PKCS#12 with another password", string(p12), &wrong, "the password is wrong", 0},
		{"a request", string(csr), nil, "a certificate request", 0},
		{"a request in PEM", string(pem.EncodeToMemory(&pem.Block{Type: "NEW CERTIFICATE REQUEST", Bytes: csr})), nil, "a certificate request", 0},
		{"only a key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", nil, "holds no certificate", 0},
		{"PKCS#7 without certificates", string(degenerate(t)), nil, "PKCS#7", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, err := Read(strings.NewReader(c.data), "file", c.password)
			if err != nil {
				t.Fatal(err)
			}
			if in.Err == nil || !strings.Contains(in.Err.Error(), c.says) {
				t.Errorf("error %v, want %q", in.Err, c.says)
			}
			if len(in.Certs) != c.certs {
				t.Errorf("%d certificates, want %d", len(in.Certs), c.certs)
			}
			if in.Err != nil && strings.Contains(in.Err.Error(), "secret") {
				t.Error("the password is in the error")
			}
		})
	}
}

// TestLostLineBreaks gives PEM in one line. What stands between the dashes may
// be a private key: nothing of it may be told.
func TestLostLineBreaks(t *testing.T) {
	root := issue(t, nil, "root", asCA)
	key, err := x509.MarshalPKCS8PrivateKey(root.key)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, c := range []struct {
		name   string
		block  []byte
		secret bool
	}{{"certificate", pemOf(root.cert), false}, {"key", keyPEM, true}} {
		for _, instead := range []string{"", " ", "\r", `\n`} {
			line := bytes.ReplaceAll(c.block, []byte("\n"), []byte(instead))
			in := inputBytes(t, "line.pem", slices.Concat(line, []byte("\n"), pemOf(root.cert)))
			if in.Err == nil || in.Err.Error() != "line 1: a BEGIN line stands alone, and this one goes on after its dashes: the line breaks are lost" {
				t.Errorf("%s, %q: %v", c.name, instead, in.Err)
			}
			if c.secret != strings.Contains(strings.Join(in.Notes, ";"), "private key in this file") {
				t.Errorf("%s, %q: %q", c.name, instead, in.Notes)
			}
			if len(in.Certs) != 1 {
				t.Errorf("%s, %q: %d certificates", c.name, instead, len(in.Certs))
			}
		}
	}
	// What is too long for a label is text.
	in := inputBytes(t, "label.pem", slices.Concat([]byte("-----BEGIN "+strings.Repeat("A", 1<<20)+"-----\n"), pemOf(root.cert)))
	if in.Err != nil || len(in.Certs) != 1 {
		t.Errorf("a long label: %v, %d certificates", in.Err, len(in.Certs))
	}
}

func TestReadRequest(t *testing.T) {
	key := newKey(t)
	want := request(t, key, "OMENT")
	for _, data := range [][]byte{want.Raw, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: want.Raw})} {
		got, err := inputBytes(t, "ome.csr", data).ReadRequest()
		if err != nil || !bytes.Equal(got.Raw, want.Raw) {
			t.Error(err)
		}
	}
	forged := slices.Clone(want.Raw)
	forged[len(forged)-1] ^= 1
	if _, err := inputBytes(t, "ome.csr", forged).ReadRequest(); err == nil || !strings.Contains(err.Error(), "signature does not verify") {
		t.Errorf("forged: %v", err)
	}
	if _, err := input(t, "leaf.pem", issue(t, nil, "leaf")).ReadRequest(); err == nil || !strings.Contains(err.Error(), "holds certificates") {
		t.Errorf("a certificate: %v", err)
	}
}

// TestReadWhatOpenSSLWrites takes files from the program that most people
// convert with.
func TestReadWhatOpenSSLWrites(t *testing.T) {
	interop.Need(t, "openssl")
	dir := t.TempDir()
	root := issue(t, nil, "root", asCA)
	leaf := issue(t, root, "leaf")
	key, err := x509.MarshalPKCS8PrivateKey(leaf.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"both.pem": pemOf(leaf.cert, root.cert), "leaf.pem": pemOf(leaf.cert), "root.pem": pemOf(root.cert),
		"key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), "password": []byte("secret\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args   string
		format Format
		want   []string
	}{
		{"x509 -in leaf.pem -text -out out", FormatPEM, []string{"leaf"}},
		{"x509 -in leaf.pem -trustout -addtrust serverAuth -out out", FormatPEM, []string{"leaf"}},
		{"x509 -in leaf.pem -outform DER -out out", FormatDER, []string{"leaf"}},
		{"crl2pkcs7 -nocrl -certfile both.pem -outform DER -out out", FormatPKCS7DER, []string{"leaf", "root"}},
		{"crl2pkcs7 -nocrl -certfile both.pem -out out", FormatPKCS7PEM, []string{"leaf", "root"}},
		{"pkcs12 -export -in leaf.pem -inkey key.pem -certfile root.pem -passout file:password -out out", FormatPKCS12, []string{"leaf", "root"}},
		{"pkcs12 -export -nokeys -in both.pem -passout file:password -out out", FormatPKCS12, []string{"leaf", "root"}},
		{"pkcs12 -export -certpbe NONE -in leaf.pem -inkey key.pem -certfile root.pem -passout file:password -out out", FormatPKCS12, []string{"leaf", "root"}},
		{"pkcs12 -export -nomac -in leaf.pem -inkey key.pem -certfile root.pem -passout file:password -out out", FormatPKCS12, []string{"leaf", "root"}},
		{"pkcs12 -export -legacy -in leaf.pem -inkey key.pem -certfile root.pem -passout file:password -out out", FormatPKCS12, []string{"leaf", "root"}},
	} {
		cmd := exec.CommandContext(t.Context(), interop.Look("openssl"), strings.Fields(c.args)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			if strings.Contains(c.args, "-legacy") {
				t.Logf("openssl has no legacy provider: %s", out)
				continue
			}
			t.Fatalf("openssl %s: %v: %s", c.args, err, out)
		}
		secret := "secret"
		in, err := ReadFile(filepath.Join(dir, "out"), &secret)
		if err != nil || in.Err != nil {
			t.Errorf("openssl %s: %v %v", c.args, err, in.Err)
			continue
		}
		if diff := cmp.Diff(c.want, names(in)); diff != "" || in.Format != c.format {
			t.Errorf("openssl %s: %s %s", c.args, in.Format, diff)
		}
		if in.Format == FormatPKCS12 {
			convertAsTold(t, dir, in)
		}
	}
}

func FuzzRead(f *testing.F) {
	root := issue(f, nil, "root", asCA)
	f.Add(pemOf(root.cert))
	f.Add(root.cert.Raw)
	f.Add(degenerate(f, root))
	f.Add(indefinite(degenerate(f, root), 3))
	f.Add(wide(pemOf(root.cert)))
	if p12, err := pkcs12.Modern.WithIterations(1).Encode(root.key, root.cert, nil, "secret"); err == nil {
		f.Add(p12)
	}
	secret := "secret"
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := Read(bytes.NewReader(data), "file", &secret)
		if err != nil {
			return
		}
		if in.Err == nil && len(in.Certs) == 0 {
			t.Error("neither a certificate nor an error")
		}
		if len(in.Certs) == 0 {
			return
		}
		in.Err = nil
		for _, p := range Profiles() {
			v, err := Check(Options{Profile: p, Files: inputs(in), Peer: inputs(in), Trust: inputs(in), VerifyName: "name", At: now})
			if err != nil {
				continue
			}
			if err := v.WriteText(new(bytes.Buffer)); err != nil {
				t.Error(err)
			}
			if err := v.WriteJSON(new(bytes.Buffer)); err != nil {
				t.Error(err)
			}
		}
	})
}

// convertAsTold runs the command that a finding gives for the file "out" in dir.
func convertAsTold(t *testing.T, dir string, in *Input) {
	t.Helper()
	in.Name = "out"
	args := strings.Fields(strings.ReplaceAll((&subject{}).convertCommand(in), "'", ""))
	cmd := exec.CommandContext(t.Context(), interop.Look(args[0]), append(args[1:], "-passin", "file:password")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v: %s", args, err, out)
		return
	}
	got, err := ReadFile(filepath.Join(dir, "chain.pem"), nil)
	if err != nil || got.Err != nil || len(got.Certs) != len(in.Certs) {
		t.Errorf("%s: %v %+v", args, err, got)
	}
}
