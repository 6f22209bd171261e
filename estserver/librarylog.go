package estserver

import (
	"github.com/globalsign/est"
	"go.uber.org/zap"
)

// libraryLog is globalsign/est's logger. What the library reports is reported
// by us as well, in better words; its own are kept for debugging.
type libraryLog struct{ log *zap.Logger }

func (l libraryLog) silent() bool { return l.log == nil || !l.log.Core().Enabled(zap.DebugLevel) }

func (l libraryLog) sugar() *zap.SugaredLogger {
	if l.silent() {
		return zap.NewNop().Sugar()
	}
	return l.log.Named("globalsign/est").Sugar()
}

func (l libraryLog) Errorf(format string, args ...any) { l.sugar().Debugf(format, args...) }
func (l libraryLog) Errorw(msg string, kv ...any)      { l.sugar().Debugw(msg, kv...) }
func (l libraryLog) Infof(format string, args ...any)  { l.sugar().Debugf(format, args...) }
func (l libraryLog) Infow(msg string, kv ...any)       { l.sugar().Debugw(msg, kv...) }
func (l libraryLog) With(kv ...any) est.Logger {
	if l.silent() {
		return l
	}
	return libraryLog{l.log.Sugar().With(kv...).Desugar()}
}
