//go:build deps

package house

import (
	_ "github.com/Azure/go-ntlmssp"
	_ "github.com/chromedp/chromedp"
	_ "github.com/globalsign/est"
	_ "github.com/go-resty/resty/v2"
	_ "github.com/goccy/go-yaml"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/google/renameio/v2"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/pressly/goose/v3"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/schollz/progressbar/v3"
	_ "github.com/smallstep/pkcs7"
	_ "github.com/spf13/cobra"
	_ "github.com/spf13/cobra/doc"
	_ "go.mozilla.org/pkcs7"
	_ "golang.org/x/crypto/bcrypt"
	_ "golang.org/x/crypto/md4"
	_ "golang.org/x/net/html"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/term"
	_ "golang.org/x/text/encoding"
	_ "golang.org/x/time/rate"
	_ "modernc.org/sqlite"
	_ "software.sslmate.com/src/go-pkcs12"
)
