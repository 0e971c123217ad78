package flow

import (
	"testing"

	"netfusion/tensor"
	"netfusion/tensor/kerneltest"
)

// Few rows are sampled and restored by one launch for all blocks: to the precision of the products that is what the CPU computes in the same
// precision, for every draw that is replayed, and what launches of each operation give.
func TestPTXAChainOfBlocksIsOneLaunch(t *testing.T) {
	g := openGPU(t)
	separate, err := tensor.OpenGPU(kerneltest.Open("apart"), tensor.GPUOptions{Apart: true})
	if err != nil {
		t.Fatal(err)
	}
	vectors(t, func(t *testing.T, c Config) {
		const m = 3
		f := trained(t, c)
		cond := normal(m, c.Cond, 2)
		for p, tolerance := range map[tensor.Precision]float64{tensor.BF16: 0.02, tensor.Int8: 0.05} {
			want := session(t, packed(t, f, p), m, 1)
			one, many := gpuSession(t, f, g, p, m), gpuSession(t, f, separate, p, m)
			x, y, z := tensor.New(m, c.dims()), tensor.New(m, c.dims()), tensor.New(m, c.dims())
			for _, d := range []Draw{{Seed: 1, Temperature: 0.9, Guidance: 1.5}, {Seed: 2, Temperature: 1, Guidance: 1, Snap: true}} {
				want.Sample(x, cond, d)
				one.Sample(y, cond, d)
				many.Sample(z, cond, d)
				agrees(t, p.String()+": samples", y, x, tolerance)
				agrees(t, p.String()+": samples, apart", y, z, tolerance)
			}
			if a, b := one.q.Work(), many.q.Work(); a.Launches > b.Launches*2/3 || a.FLOPs > b.FLOPs || a.FLOPs < b.FLOPs/2 {
				t.Errorf("%+v in place of %+v", a, b)
			}
			v := normal(m, c.Latent, 5)
			copy(y.Data, x.Data) // the class parts
			copy(z.Data, x.Data)
			want.Restore(x, v, cond, tensor.Tensor{}, 2)
			one.Restore(y, v, cond, tensor.Tensor{}, 2)
			many.Restore(z, v, cond, tensor.Tensor{}, 2)
			agrees(t, p.String()+": what is restored", y, x, tolerance)
			agrees(t, p.String()+": what is restored, apart", y, z, tolerance)
		}
	})
}
