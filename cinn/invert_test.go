package cinn_test

import (
	"context"
	"errors"
	"image"
	"path/filepath"
	"slices"
	"testing"

	"netfusion/bench/tiny"
	"netfusion/cinn"
)

func TestInvertRedrawsAnImageBetter(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 2)
	x := make([]float32, m.Info().Latent)
	got, err := s.Invert(t.Context(), x, cinn.Inversion{Image: photo(90), Shows: cinn.Condition{Prompt: "red"}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Steps != 100 || !(got.After > got.Before+0.5) {
		t.Errorf("%+v", got)
	}
	if none, err := s.Invert(t.Context(), make([]float32, len(x)), cinn.Inversion{Image: photo(90), Steps: 1}); err != nil || none.Before != got.Before || none.After > got.After {
		t.Errorf("one step: %+v, %v", none, err)
	}
}

// blind is a pack without image encoder, so that Invert begins at z = 0.
func blind(t *testing.T) string {
	t.Helper()
	p := tiny.Experts(t)
	p.Encoder = cinn.Part{}
	path := filepath.Join(t.TempDir(), "blind.pack")
	if err := cinn.WritePack(path, tiny.About(), p); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInvertFindsTheLatentOfADrawnPicture(t *testing.T) {
	m, s := open(t, blind(t), 2)
	img := image.NewNRGBA(m.Bounds())
	if err := s.Generate(t.Context(), img, cinn.Request{Prompt: "red heart", Seed: 4, Temperature: 0.3}); err != nil {
		t.Fatal(err)
	}
	x := make([]float32, m.Info().Latent)
	got, err := s.Invert(t.Context(), x, cinn.Inversion{Image: img, Steps: 400})
	if err != nil || got.After < 35 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestInvertNeedsNoEncoder(t *testing.T) {
	m, s := open(t, blind(t), 1)
	x := make([]float32, m.Info().Latent)
	if got, err := s.Invert(t.Context(), x, cinn.Inversion{Image: photo(90)}); err != nil || !(got.After > got.Before) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := s.Latent(t.Context(), x, cinn.Subject{Image: photo(90)}, cinn.Condition{}); !errors.Is(err, cinn.ErrEncoder) {
		t.Errorf("Latent without an encoder: %v", err)
	}
}

func TestInvertGivesTheSameLatentForAnyNumberOfWorkers(t *testing.T) {
	path := tiny.Pack(t)
	var want []float32
	for _, workers := range []int{1, 2, 7} {
		m, s := open(t, path, workers)
		x := make([]float32, m.Info().Latent)
		if _, err := s.Invert(t.Context(), x, cinn.Inversion{Image: photo(3), Steps: 10}); err != nil {
			t.Fatal(err)
		}
		if workers == 1 {
			want = x
		} else if !slices.Equal(x, want) {
			t.Errorf("%d workers find %v, one finds %v", workers, x, want)
		}
	}
}

func TestInvertDoesNotAllocate(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	x := make([]float32, m.Info().Latent)
	v := cinn.Inversion{Image: photo(3), Steps: 3}
	if n := testing.AllocsPerRun(5, func() { s.Invert(t.Context(), x, v) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestInvertRefuses(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	x := make([]float32, m.Info().Latent)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	refused := func(ctx context.Context, x []float32, v cinn.Inversion) error {
		got, err := s.Invert(ctx, x, v)
		if got != (cinn.Inverted{}) {
			t.Errorf("%+v beside %v", got, err)
		}
		return err
	}
	for name, err := range map[string]error{
		"short latent": refused(t.Context(), x[1:], cinn.Inversion{Image: photo(3)}),
		"no image":     refused(t.Context(), x, cinn.Inversion{}),
		"large image":  refused(t.Context(), x, cinn.Inversion{Image: image.NewNRGBA(image.Rect(0, 0, 17, 17))}),
		"steps":        refused(t.Context(), x, cinn.Inversion{Image: photo(3), Steps: -1}),
		"not text":     refused(t.Context(), x, cinn.Inversion{Image: photo(3), Shows: cinn.Condition{Prompt: "\xff"}}),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := refused(cancelled, x, cinn.Inversion{Image: photo(3)}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	s.Close()
	if err := refused(t.Context(), x, cinn.Inversion{Image: photo(3)}); !errors.Is(err, cinn.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
