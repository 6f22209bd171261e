//go:build !linux

package lab

import "syscall"

// dieWithParent does nothing: only Linux knows how. A child of a parent that was
// killed has to be ended by hand.
func dieWithParent() *syscall.SysProcAttr { return nil }
