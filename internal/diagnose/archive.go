package diagnose

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// kind is how a file is packed, by its first bytes.
type kind byte

const (
	plain kind = iota
	gzipFile
	zipFile
	tarFile
)

func kindOf(head []byte) kind {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzipFile
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return zipFile
	case len(head) > 262 && string(head[257:262]) == "ustar":
		return tarFile
	}
	return plain
}

// kindByName tells a packed file from a packed folder.
func kindByName(name string) kind {
	switch {
	case strings.HasSuffix(name, ".tar.gz"), strings.HasSuffix(name, ".tgz"), strings.HasSuffix(name, ".tar"):
		return tarFile
	case strings.HasSuffix(name, ".zip"):
		return zipFile
	case strings.HasSuffix(name, ".gz"):
		return gzipFile
	}
	return plain
}

// maxInnerZip is how large a zip inside another archive may be: it has to be
// held in memory.
const maxInnerZip = 64 << 20

// opener opens a file and everything inside it.
type opener struct {
	w      *walker
	v      visitor
	budget *budget
	seen   map[string]int
}

// open reads a file that may be packed. at and size are set where the file can
// be read at any place, which a zip needs.
func (o *opener) open(ctx context.Context, name string, r io.Reader, at io.ReaderAt, size int64, depth int) error {
	br := bufio.NewReaderSize(r, 4096)
	head, _ := br.Peek(512)
	k := kindOf(head)
	if k != plain && depth >= o.w.limits.Depth {
		return refuse("more than %d archives stand in each other", o.w.limits.Depth)
	}
	switch k {
	case gzipFile:
		z, err := gzip.NewReader(br)
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		return o.open(ctx, name, metered{z, o.budget}, nil, 0, depth+1)
	case tarFile:
		return o.tar(ctx, name, br, depth+1)
	case zipFile:
		if at == nil {
			var err error
			if at, size, err = hold(br); err != nil {
				return err
			}
		}
		return o.zip(ctx, name, at, size, depth+1)
	}
	return o.plain(ctx, name, decoded(br))
}

// decoded is the text of a file that begins with a byte order mark: what
// Windows PowerShell writes with ">" is UTF-16.
func decoded(br *bufio.Reader) io.Reader {
	head, _ := br.Peek(3)
	for _, mark := range []string{"\xff\xfe", "\xfe\xff", "\xef\xbb\xbf"} {
		if bytes.HasPrefix(head, []byte(mark)) {
			return transform.NewReader(br, unicode.BOMOverride(transform.Nop))
		}
	}
	return br
}

func (o *opener) plain(ctx context.Context, name string, r io.Reader) error {
	if o.seen[name]++; o.seen[name] > 1 {
		name = fmt.Sprintf("%s (%d)", name, o.seen[name])
	}
	f, err := o.w.file(name)
	if err != nil {
		return err
	}
	return o.v(ctx, f, ctxReader{ctx, r}, o.w.limits)
}

// hold reads a zip into memory.
func hold(r io.Reader) (io.ReaderAt, int64, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInnerZip+1))
	if err != nil {
		return nil, 0, fmt.Errorf("read: %w", err)
	}
	if len(data) > maxInnerZip {
		return nil, 0, refuse("a zip inside an archive may have %s", bytesText(maxInnerZip))
	}
	return bytes.NewReader(data), int64(len(data)), nil
}

func (o *opener) tar(ctx context.Context, name string, r io.Reader, depth int) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			continue
		case tar.TypeReg:
		default:
			o.w.problem(name+"!"+h.Name, refuse("it is no file, but a link or a device"))
			continue
		}
		if err := o.member(ctx, name, h.Name, t, depth); err != nil {
			return err
		}
	}
}

func (o *opener) zip(ctx context.Context, name string, at io.ReaderAt, size int64, depth int) error {
	z, err := zip.NewReader(at, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return fmt.Errorf("unpack: %w", err)
	}
	var declared uint64
	for _, f := range z.File {
		declared += f.UncompressedSize64
	}
	if declared > uint64(o.w.limits.Unpacked) {
		return refuse("it says itself that it unpacks to %s, more than %s", bytesText(int64(declared)), bytesText(o.w.limits.Unpacked))
	}
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		if !f.Mode().IsRegular() {
			o.w.problem(name+"!"+f.Name, refuse("it is no file, but a link or a device"))
			continue
		}
		r, err := f.Open()
		if err != nil {
			o.w.problem(name+"!"+f.Name, fmt.Errorf("unpack: %w", err))
			continue
		}
		err = o.member(ctx, name, f.Name, metered{r, o.budget}, depth)
		_ = r.Close() // What matters was read.
		if err != nil {
			return err
		}
	}
	return nil
}

// member reads a file of an archive. Nothing is ever written to where it says
// it belongs; a name that climbs out of the archive is refused all the same,
// because whoever packed it meant no good.
func (o *opener) member(ctx context.Context, archive, name string, r io.Reader, depth int) error {
	full := archive + "!" + name
	slashed := strings.ReplaceAll(name, `\`, "/")
	if path.IsAbs(slashed) || len(slashed) > 1 && slashed[1] == ':' || slashed == ".." || strings.HasPrefix(path.Clean(slashed), "../") {
		o.w.problem(full, refuse("its name leads out of the archive"))
		return nil
	}
	err := o.open(ctx, full, r, nil, 0, depth)
	if err != nil && !errors.Is(err, errRefused) && ctx.Err() == nil {
		o.w.problem(full, err)
		return nil
	}
	return err
}
