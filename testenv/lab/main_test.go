package lab

import (
	"context"
	"os"
	"testing"
)

// cleanup ends what the tests share.
var cleanup struct {
	ctx  context.Context
	dirs []string
}

func TestMain(m *testing.M) {
	var cancel context.CancelFunc
	cleanup.ctx, cancel = context.WithCancel(context.Background())
	code := m.Run()
	cancel()
	for _, dir := range cleanup.dirs {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}
