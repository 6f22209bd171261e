package diagnose

import (
	"errors"
	"fmt"
	"io"
)

// Limits bounds what is read, so that a damaged or a malicious bundle costs
// neither the disk nor the memory.
type Limits struct {
	// Line is how much of a line is kept, in bytes; the rest of a longer line
	// is read over. 0 means 64 KiB.
	Line int
	// Unpacked is how many bytes an archive may unpack to, those inside it
	// included. 0 means 8 GiB.
	Unpacked int64
	// Ratio is how many times larger than itself an archive may unpack to,
	// once that is more than 64 MiB. 0 means 400: logs stay far below, what is
	// made to fill a disk is far above.
	Ratio int64
	// Files is how many files are read. 0 means 20000.
	Files int
	// Depth is how many archives may stand in each other. 0 means 3.
	Depth int
	// Stdin is how many bytes are read from standard input. 0 means 8 GiB.
	Stdin int64
}

const ratioFrom = 64 << 20

func (l Limits) orDefault() Limits {
	if l.Line <= 0 {
		l.Line = 64 << 10
	}
	if l.Unpacked <= 0 {
		l.Unpacked = 8 << 30
	}
	if l.Ratio <= 0 {
		l.Ratio = 400
	}
	if l.Files <= 0 {
		l.Files = 20000
	}
	if l.Depth <= 0 {
		l.Depth = 3
	}
	if l.Stdin <= 0 {
		l.Stdin = 8 << 30
	}
	return l
}

// errRefused is why something is not read on.
var errRefused = errors.New("refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errRefused}, args...)...)
}

// budget is what one archive of the outermost level may unpack to.
type budget struct {
	limits   Limits
	size     int64 // of the archive itself
	unpacked int64
}

func (b *budget) add(n int64) error {
	b.unpacked += n
	if b.unpacked > b.limits.Unpacked {
		return refuse("it unpacks to more than %s", bytesText(b.limits.Unpacked))
	}
	if b.unpacked > ratioFrom && b.unpacked/max(1, b.size) > b.limits.Ratio {
		return refuse("it unpacks to more than %d times its own size of %s, which logs do not", b.limits.Ratio, bytesText(b.size))
	}
	return nil
}

// metered counts what comes out of an archive.
type metered struct {
	r io.Reader
	b *budget
}

func (m metered) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if over := m.b.add(int64(n)); over != nil {
		return 0, over
	}
	return n, err
}

// bytesText writes a number of bytes for people.
func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}
