package bert

import (
	"context"
	"fmt"
	"testing"

	"netfusion/tensor"
	"netfusion/tensor/kerneltest"
)

// few is a device with so few multiprocessors that each has several tiles of a layer.
type few struct{ tensor.Driver }

func (d few) Attributes() tensor.Attributes {
	a := d.Driver.Attributes()
	a.Multiprocessors = 5
	return a
}

// One short text is embedded by one launch for all layers: as a Session does, and launches of each operation; a graph of more tokens than
// the text has gives the same.
func TestPTXAShortTextIsOneLaunch(t *testing.T) {
	one, err := tensor.OpenGPU(few{kerneltest.Open(t.Name())}, tensor.GPUOptions{})
	if err != nil {
		t.Fatal(err)
	}
	apart := openGPU(t, tensor.GPUOptions{Apart: true})
	texts := [][]int32{{2, 5, 3}, {2, 10, 11, 12, 13, 14, 15, 16, 30, 3}}
	for _, c := range []struct {
		name    string
		pooling Pooling
		p       tensor.Precision
		bound   float64
	}{{"plain", Mean, tensor.BF16, 0.03}, {"legacy", CLS, tensor.Int8, 0.1}} {
		t.Run(fmt.Sprint(c.name, c.p), func(t *testing.T) {
			m := openTinyIn(t, c.name, c.p)
			m.Config.Representation.Normalize = c.p == tensor.BF16
			m.Config.Representation.Pooling = c.pooling
			cpu := newSession(t, m.Model, 1, SessionOptions{})
			var sessions []*gpuSession
			for _, g := range []*tensor.GPU{one, apart} {
				d := m.load(t, c.p, g)
				d.Config.Representation = m.Config.Representation
				sessions = append(sessions, capture(t, d, 10, 1, 1, d.Forward))
			}
			for _, ids := range texts {
				want := make([]float32, m.Width())
				if err := cpu.EmbedTokens(context.Background(), want, ids, nil); err != nil {
					t.Fatal(err)
				}
				for i, s := range sessions {
					if d := maxDifference(s.run(t, [][]int32{ids}, nil), want); !(d <= c.bound) {
						t.Errorf("session %d: a text of %d tokens is %.3g from the CPU's", i, len(ids), d)
					}
				}
			}
			if a, b := sessions[0].q.Work(), sessions[1].q.Work(); a.Launches > 2 || b.Launches < 10 || a.FLOPs != b.FLOPs {
				t.Errorf("%+v in place of %+v", a, b)
			}
		})
	}
}
