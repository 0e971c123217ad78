package cinn_test

import (
	"errors"
	"image"
	"math"
	"slices"
	"testing"

	"netfusion/bench/tiny"
	"netfusion/cinn"
)

func TestAVectorStandsForWhatTheSourceMakesOfAPrompt(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	vector := make([]float32, m.Info().Condition)
	if err := s.Embed(t.Context(), vector, "red heart"); err != nil {
		t.Fatal(err)
	}
	want := draw(t, s, m.Bounds(), cinn.Request{Prompt: "red heart", Seed: 1})
	if got := draw(t, s, m.Bounds(), cinn.Request{Vector: vector, Seed: 1}); !slices.Equal(got, want) {
		t.Error("the embedding of a prompt draws other bytes than the prompt")
	}
	clear(vector)
	if got := draw(t, s, m.Bounds(), cinn.Request{Vector: vector, Seed: 1}); slices.Equal(got, want) {
		t.Error("another vector draws the same bytes")
	}
	if got := draw(t, s, m.Bounds(), cinn.Request{Prompt: "red heart", Seed: 1}); !slices.Equal(got, want) {
		t.Error("after a vector, the prompt before it is not encoded again")
	}
}

func TestAConditionIsOneOfItsKinds(t *testing.T) {
	m, s := open(t, tiny.Pack(t), 1)
	dst := image.NewNRGBA(m.Bounds())
	vector := make([]float32, m.Info().Condition)
	for _, c := range []struct {
		request cinn.Request
		want    error
	}{
		{cinn.Request{Prompt: "red", Vector: vector}, cinn.ErrCondition},
		{cinn.Request{Prompt: "red", Image: dst}, cinn.ErrCondition},
		{cinn.Request{Image: dst, Vector: vector}, cinn.ErrCondition},
		{cinn.Request{Image: dst}, cinn.ErrSource},
		{cinn.Request{}, cinn.ErrPrompt},
	} {
		if err := s.Generate(t.Context(), dst, c.request); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.request, err, c.want)
		}
	}
	if err := s.Generate(t.Context(), dst, cinn.Request{Vector: vector[1:]}); err == nil {
		t.Error("a vector that is too short is a condition")
	}
	vector[1] = float32(math.Inf(1))
	if err := s.Generate(t.Context(), dst, cinn.Request{Vector: vector}); err == nil {
		t.Error("infinity is a condition")
	}
}
