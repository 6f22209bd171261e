package lab

import (
	"context"
	"os"
	"testing"
)

// cleanup ends what the tests share.
var cleanup struct {
	ctx context.Context
	dir string
}

func TestMain(m *testing.M) {
	var cancel context.CancelFunc
	cleanup.ctx, cancel = context.WithCancel(context.Background())
	code := m.Run()
	cancel()
	if cleanup.dir != "" {
		_ = os.RemoveAll(cleanup.dir)
	}
	os.Exit(code)
}
