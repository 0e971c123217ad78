package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"netfusion/nn/disk"
)

// Record is a line of a History: a validation, or the mean over the steps since the record before.
type Record struct {
	Step  int   `json:"step"`
	Spent Spent `json:"spent"` // in all runs that led here

	Loss float64 `json:"loss,omitempty"` // of batches, nats; both parts
	Norm float64 `json:"norm,omitempty"` // of the gradient, before it was clipped
	Rate float64 `json:"rate,omitempty"` // of learning, at the last step

	Validation *Validation `json:"validation,omitempty"`
	Sheet      []byte      `json:"sheet,omitempty"` // a PNG
}

// Validation is how the average of the weights does on the validation pairs.
type Validation struct {
	Z         float64   `json:"z"` // mean negative log-likelihood of z, nats
	Class     float64   `json:"class"`
	Half      float64   `json:"half"`      // mean ½|v|² of the residuals; D/2 where they are normal
	Std       []float32 `json:"std"`       // of each dimension of v; 1 where they are normal
	Quantiles []float32 `json:"quantiles"` // of all values of v, at Levels
}

// Spent is where the time goes.
type Spent struct {
	Draw     Seconds `json:"draw"`     // batches
	Gradient Seconds `json:"gradient"` // there and back through the flow
	Update   Seconds `json:"update"`   // the optimizer's
	Validate Seconds `json:"validate"`
	Save     Seconds `json:"save"`
	Sheet    Seconds `json:"sheet"`
}

// Seconds is a length of time.
type Seconds float64

// since adds the time since begin, and returns now.
func (s *Seconds) since(begin time.Time) time.Time {
	now := time.Now()
	*s += Seconds(now.Sub(begin).Seconds())
	return now
}

// Total is all of it.
func (s Spent) Total() Seconds {
	return s.Draw + s.Gradient + s.Update + s.Validate + s.Save + s.Sheet
}

// Training is what steps take.
func (s Spent) Training() Seconds { return s.Draw + s.Gradient + s.Update }

// History is how a run went, from its first step, whether or not it was interrupted: a file of JSON lines, to which a run appends.
// It is no part of a checkpoint, which does not depend on time.
type History struct {
	Records []Record
	path    string
}

// OpenHistory reads the History at path, and begins one where there is none. A line that was not written to its end is left out.
func OpenHistory(path string) (*History, error) {
	h := &History{path: path}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return nil, err
	}
	for i := 1; len(raw) > 0; i++ {
		line, rest, whole := bytes.Cut(raw, []byte("\n"))
		if !whole {
			break
		}
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", path, i, err)
		}
		h.Records = append(h.Records, r)
		raw = rest
	}
	return h, nil
}

// goOn forgets what was recorded behind the step where a run goes on, and returns the time spent up to there.
func (h *History) goOn(step int, begun bool) (Spent, error) {
	n := 0
	for n < len(h.Records) && begun && h.Records[n].Step <= step {
		n++
	}
	h.Records = h.Records[:n]
	if err := disk.Clean(h.path); err != nil {
		return Spent{}, err
	}
	var all bytes.Buffer
	for i := range h.Records {
		line, err := json.Marshal(&h.Records[i])
		if err != nil {
			return Spent{}, err
		}
		all.Write(append(line, '\n'))
	}
	if err := disk.WriteFile(h.path, func(w io.Writer) error { _, err := all.WriteTo(w); return err }); err != nil {
		return Spent{}, err
	}
	if n == 0 {
		return Spent{}, nil
	}
	return h.Records[n-1].Spent, nil
}

// add appends a record.
func (h *History) add(r Record) error {
	line, err := json.Marshal(&r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(h.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return errors.Join(err, f.Close())
	}
	h.Records = append(h.Records, r)
	return f.Close()
}

// validations are the records with one.
func (h *History) validations() (list []Record) {
	for _, r := range h.Records {
		if r.Validation != nil {
			list = append(list, r)
		}
	}
	return list
}
