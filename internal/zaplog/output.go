package zaplog

import (
	"fmt"
	"sync"

	"go.uber.org/zap/zapcore"
)

// output writes whole lines and reports the first error only: a full disk must
// not stop the work, nor fill the terminal with one message for each line.
type output struct {
	mu       sync.Mutex
	w        zapcore.WriteSyncer
	reported bool
	torn     bool // the last write ended in the middle of a line
}

// Write writes p, which ends with a line feed. After a write that was cut
// short it begins a new line first.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.torn {
		if _, err := o.w.Write([]byte{'\n'}); err != nil {
			return len(p), o.report(err)
		}
		o.torn = false
	}
	n, err := o.w.Write(p)
	if err == nil {
		return len(p), nil
	}
	if n > 0 && n <= len(p) && p[n-1] != '\n' {
		o.torn = true
	}
	return len(p), o.report(err)
}

// Sync flushes what lies underneath. Its errors are not reported: terminals
// and pipes cannot be synced, and a write that fails says so itself.
func (o *output) Sync() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.w.Sync()
	return nil
}

func (o *output) report(err error) error {
	if o.reported {
		return nil
	}
	o.reported = true
	return fmt.Errorf("zaplog: write log (further errors of this log are not reported; lines are missing from it): %w", err)
}
