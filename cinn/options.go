// Package cinn draws images from text by joining two frozen experts through a conditional invertible network.
//
// A pack holds a whole fusion: a text encoder (the source expert), an image generator (the target expert), and the flow
// that turns noise into the generator's latent, given the encoder's embedding (Rombach, Esser, Ommer: Network-to-Network
// Translation with Conditional Invertible Neural Networks, NeurIPS 2020). Open maps a pack into a Model; a Session holds
// the buffers of one caller, so that Generate allocates nothing:
//
//	model, err := pack.Open(cinn.Options{})
//	session, err := model.NewSession()
//	img := image.NewNRGBA(model.Bounds())
//	err = session.Generate(ctx, img, cinn.Request{Prompt: "red heart", Seed: 1})
//
// Same seed, same build, same kind of machine: same bytes, whatever the number of workers.
package cinn

import (
	"errors"
	"image"
	"time"

	"netfusion/tensor"
)

// Options say how a Model computes. The zero value works.
type Options struct {
	Backend   Backend   // what computes; 0 means CPU
	Workers   int       // goroutines that share the work of one Session; 0 means GOMAXPROCS
	Precision Precision // of the experts' and the flow's products, whatever the pack stores; 0 means F32
}

// Backend is what a Model computes on.
type Backend uint8

const (
	CPU  Backend = iota // the processor, with its vector instructions
	CUDA                // the first NVIDIA GPU, of compute capability 8.0 or later; the processor does what has no form for it
)

// Precision is how weights are kept in memory and multiplied. What lies between the products is float32 in any case. In each
// precision the same request draws the same bytes on any number of workers; against those of F32, pictures of the fusion that
// ships have a PSNR of 55 dB in BF16 and 43 dB in Int8 (medians; see the tests of package pack).
type Precision = tensor.Precision

const (
	F32  = tensor.F32  // float32
	BF16 = tensor.BF16 // weights and rows in bfloat16, sums in float32
	Int8 = tensor.Int8 // weights in int8 with a scale per output, rows in uint8 with a scale each, exact sums
)

// Request is one image to draw. One of Prompt, Image and Vector is set, as in a Condition; other zero values mean the pack's
// own defaults.
type Request struct {
	Prompt      string
	Image       *image.NRGBA
	Vector      []float32
	Seed        uint64
	Sample      uint64  // which draw of this seed: 0, 1, 2, … are independent
	Temperature float32 // scale of the noise; 0 means the pack's default
	Guidance    float32 // pull of the prompt, e∅ + g·(e − e∅); 1 is off, 0 means the pack's default
	Snap        bool    // class part exactly a class's embedding, without the noise that it was trained under
}

// Timings is how long the parts of the last Generate took. Encode is zero when the prompt was the one before.
type Timings struct {
	Encode, Flow, Decode time.Duration
}

// Info describes a pack.
type Info struct {
	Name           string
	Source, Target string // names of the experts
	Kind           string // of the source: Text, Label, Picture, Layer or Vector
	Classes        []string
	Condition      int  // width of the text embedding
	Latent         int  // width of the image latent, the class part included
	Z              int  // width of its image part
	Encoder        bool // whether the pack can Encode images
	Bounds         image.Rectangle
	Temperature    float32 // defaults of a Request
	Guidance       float32
	Licences       map[string]string // part of the pack → licence and attribution
}

var (
	// ErrBackend is returned by Open for a Backend that this build has not; its text says how to build with it.
	ErrBackend = errors.New("cinn: " + noCUDA)
	// ErrClosed is returned by a Session that was closed.
	ErrClosed = errors.New("cinn: session is closed")
	// ErrEncoder is returned by Encode where the pack holds no image encoder.
	ErrEncoder = errors.New("cinn: the pack has no image encoder")
	// ErrPrompt is returned for a prompt that holds no text.
	ErrPrompt = errors.New("cinn: empty prompt")
	// ErrEncoding is returned for a prompt that is not text.
	ErrEncoding = errors.New("cinn: the prompt is not valid UTF-8")
)
