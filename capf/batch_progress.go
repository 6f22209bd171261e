package capf

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"

	"github.com/onlineca/onlineca/ra/fault"
)

// NewProgress returns an observer that shows on w how a batch of total jobs
// goes: a bar if w is a terminal, otherwise a line for each job.
func NewProgress(w io.Writer, total int) Observer {
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		return newBar(w, total)
	}
	return &progressLines{w: w}
}

// progressLines writes a line for each job.
type progressLines struct{ w io.Writer }

func (p *progressLines) Done(r JobResult, done, total int) {
	width := len(fmt.Sprint(total))
	fmt.Fprintf(p.w, "[%*d/%d] %s\n", width, done, total, resultLine(r))
}

// progressBar shows a bar, and above it a line for each failure.
type progressBar struct {
	w   io.Writer
	bar *progressbar.ProgressBar
}

func newBar(w io.Writer, total int) *progressBar {
	return &progressBar{w: w, bar: progressbar.NewOptions(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription("enrolling"),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionClearOnFinish(),
	)}
}

// A terminal that cannot be written to is not worth ending a batch for, so the
// bar's errors are dropped.
func (p *progressBar) Done(r JobResult, done, total int) {
	if r.Outcome == OutcomeFailed {
		_ = p.bar.Clear()
		fmt.Fprintln(p.w, resultLine(r))
	}
	_ = p.bar.Set(done)
	if done == total {
		_ = p.bar.Finish()
	}
}

// resultLine is the result of one job in one line.
func resultLine(r JobResult) string {
	s := fmt.Sprintf("%s: %s", r.Device, r.Outcome)
	if r.Err != nil {
		s += ": " + oneLine(r.Err.Error())
		if r.Code != fault.Unknown {
			s += " [" + r.Code.String() + "]"
		}
		return s
	}
	s += ", serial " + serialText(r.Certificate) + ", valid until " + utc(r.Certificate.NotAfter)
	for _, w := range r.Warnings {
		s += "; warning: " + oneLine(w.Error())
	}
	return s
}

// oneLine keeps an error, which may quote a far side, on its line.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
