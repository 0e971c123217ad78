package flow

import (
	"errors"
	"fmt"
)

// The dialects of a flow.
const (
	// NetFusion starts as the best linear-Gaussian model: a closed-form affine layer, couplings that start at zero, one
	// subnet for scale and shift, soft clamp, LayerNorm in the embedder.
	NetFusion = "netfusion"
	// Net2Net is the flow of Rombach, Esser and Ommer 2020: four subnets a block, tanh clamp, BatchNorm in the embedder,
	// ActNorm initialised from the first batch. Its tensors carry the names of their state dict.
	Net2Net = "net2net"
)

// Config is the shape of a Flow, stored as JSON beside its tensors.
type Config struct {
	Dialect string `json:"dialect"`
	Latent  int    `json:"latent"` // dimensions of z, which the flow proper models; at least 2, even for Net2Net
	Cond    int    `json:"cond"`   // dimensions of the condition c

	// With Side > 0 (NetFusion only) the condition is a map of Side×Side pixels, [row][column][channel]. The embedder reads it
	// through convolutions, each of which halves it; the linear layer and the class head read averages of Pool×Pool pixels.
	Side      int `json:"side,omitempty"`
	Convs     int `json:"convs,omitempty"`
	ConvWidth int `json:"conv_width,omitempty"` // channels after the first convolution; each of the next four has twice as many
	Pool      int `json:"pool,omitempty"`

	// With a class head (Classes > 0, NetFusion only) x is [z ; e]: e is a row of a table of class embeddings
	// [Classes][Class] plus Gaussian noise of standard deviation ClassNoise.
	Class      int     `json:"class,omitempty"`
	Classes    int     `json:"classes,omitempty"`
	ClassNoise float32 `json:"class_noise,omitempty"`
	HeadHidden int     `json:"head_hidden,omitempty"` // width of the head's hidden layer; 0 is a linear head

	Blocks int     `json:"blocks"`
	Hidden int     `json:"hidden"` // width of the subnets
	Depth  int     `json:"depth"`  // hidden-to-hidden layers of a subnet
	Clamp  float32 `json:"clamp"`  // bound of a coupling's log-scale; 1 for Net2Net

	Embed      int `json:"embed"`       // dimensions of the embedded condition
	EmbedWidth int `json:"embed_width"` // width of the embedder
	EmbedDepth int `json:"embed_depth"` // its hidden-to-hidden layers
	// Norm is what stands before each LeakyReLU of the embedder: nothing said is LayerNorm, or in the Net2Net dialect BatchNorm; "batch" is
	// BatchNorm in the other one, too, with which the density of a pair in training depends on its batch.
	Norm string `json:"norm,omitempty"`
}

// dims is the width of x, [z ; e].
func (c Config) dims() int { return c.Latent + c.Class }

// BatchNorm is the Norm that is not the default.
const BatchNorm = "batch"

// norm is the kind of the embedder's normalisations.
func (c Config) norm() normKind {
	if c.Dialect == Net2Net || c.Norm == BatchNorm {
		return batchNorm
	}
	return layerNorm
}

// inputs is the width of the linear layer's condition u, [c ; ê], where a map is averaged.
func (c Config) inputs() int { return c.pooled() + c.Class }

// pooled is the width of the condition as the linear layer and the class head read it.
func (c Config) pooled() int {
	if c.Side == 0 {
		return c.Cond
	}
	return c.Cond / (c.Pool * c.Pool)
}

// features is the width of the condition as the embedder reads it.
func (c Config) features() int {
	if c.Side == 0 {
		return c.Cond
	}
	last := c.Side >> c.Convs
	return last * last * c.channels(c.Convs)
}

// channels is the number of channels of a map condition after i convolutions.
func (c Config) channels(i int) int {
	if i == 0 {
		return c.Cond / (c.Side * c.Side)
	}
	return c.ConvWidth << min(i-1, 4)
}

// limit bounds every size, so that a corrupt Config cannot ask for absurd memory.
const limit = 1 << 14

// Validate tells what is wrong with c.
func (c Config) Validate() error {
	for _, s := range []struct {
		name            string
		value, min, max int
	}{
		{"latent", c.Latent, 2, limit}, {"cond", c.Cond, 1, limit}, {"class", c.Class, 0, limit}, {"classes", c.Classes, 0, limit},
		{"head_hidden", c.HeadHidden, 0, limit}, {"blocks", c.Blocks, 0, 256}, {"hidden", c.Hidden, 1, limit}, {"depth", c.Depth, 0, 16},
		{"embed", c.Embed, 1, limit}, {"embed_width", c.EmbedWidth, 1, limit}, {"embed_depth", c.EmbedDepth, 0, 16},
	} {
		if s.value < s.min || s.value > s.max {
			return fmt.Errorf("flow config: %s is %d, want %d to %d", s.name, s.value, s.min, s.max)
		}
	}
	if !(c.Clamp > 0 && c.Clamp <= 16) {
		return fmt.Errorf("flow config: clamp is %v, want above 0 and at most 16", c.Clamp)
	}
	if (c.Classes > 0) != (c.Class > 0) {
		return fmt.Errorf("flow config: %d classes with %d dimensions, want both or none", c.Classes, c.Class)
	}
	if c.Classes > 0 && !(c.ClassNoise > 1e-4 && c.ClassNoise < 1e4) {
		return fmt.Errorf("flow config: class_noise is %v, want above 1e-4", c.ClassNoise)
	}
	if err := c.validateMap(); err != nil {
		return err
	}
	if c.Norm != "" && c.Norm != BatchNorm {
		return fmt.Errorf("flow config: norm is %q, want %q or nothing", c.Norm, BatchNorm)
	}
	switch c.Dialect {
	case NetFusion:
	case Net2Net:
		if c.Latent%2 != 0 || c.Blocks < 1 || c.Classes > 0 || c.Clamp != 1 {
			return errors.New("flow config: net2net wants an even latent, a block, clamp 1 and no class head")
		}
		if c.Side > 0 {
			return errors.New("flow config: net2net reads vectors, no maps")
		}
	default:
		return fmt.Errorf("flow config: dialect is %q, want %q or %q", c.Dialect, NetFusion, Net2Net)
	}
	return nil
}

// validateMap is the part of Validate that is about a map condition.
func (c Config) validateMap() error {
	switch {
	case c.Side == 0 && c.Convs == 0 && c.ConvWidth == 0 && c.Pool == 0:
		return nil
	case c.Side < 1 || c.Side > 256 || c.Cond%(c.Side*c.Side) != 0:
		return fmt.Errorf("flow config: a map of side %d for a condition of %d dimensions, want 1 to 256, and as many channels everywhere", c.Side, c.Cond)
	case c.Convs < 0 || c.Convs > 8 || c.Side%(1<<c.Convs) != 0:
		return fmt.Errorf("flow config: a map of side %d cannot be halved %d times", c.Side, c.Convs)
	case c.Convs > 0 && (c.ConvWidth < 1 || c.ConvWidth > 1<<10) || c.features() > limit:
		return fmt.Errorf("flow config: conv_width is %d, want 1 to %d and at most %d features in the end", c.ConvWidth, 1<<10, limit)
	case c.Pool < 1 || c.Side%c.Pool != 0:
		return fmt.Errorf("flow config: pool is %d, want a divisor of the side, which is %d", c.Pool, c.Side)
	}
	return nil
}
