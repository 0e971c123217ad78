package biggan

import (
	"encoding/json"
	"fmt"
)

// Config is the shape of a generator: the config.json of its checkpoint.
type Config struct {
	Resolution int     `json:"output_dim"` // of the image, which is square
	ZDim       int     `json:"z_dim"`
	ClassDim   int     `json:"class_embed_dim"`
	Width      int     `json:"channel_width"`
	Classes    int     `json:"num_classes"`
	Layers     []Layer `json:"layers"`
	Attention  int     `json:"attention_layer_position"` // the block that self-attention precedes; none of that number: no attention
	Eps        float64 `json:"eps"`                      // of the normalisations
	Stats      int     `json:"n_stats"`                  // truncations with statistics of their own: i/(n_stats-1)

	// StatsRows is how many of the n_stats rows an expert file stores: all of them (0), or 1 where they are equal.
	StatsRows int `json:"stats_rows,omitempty"`
}

// Layer is one residual block. Channels are multiples of Config.Width.
type Layer struct {
	Up      bool // doubles the resolution
	In, Out int  // Out is In or In/2
}

// UnmarshalJSON reads [up, in, out]; up may be a number.
func (l *Layer) UnmarshalJSON(data []byte) error {
	var up any
	fields := []any{&up, &l.In, &l.Out}
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	if len(fields) != 3 {
		return fmt.Errorf("layer %s: wanted [up, in, out]", data)
	}
	switch up {
	case true, 1.0:
		l.Up = true
	case false, 0.0:
		l.Up = false
	default:
		return fmt.Errorf("layer %s: up is neither true nor false", data)
	}
	return nil
}

// MarshalJSON writes [up, in, out].
func (l Layer) MarshalJSON() ([]byte, error) { return json.Marshal([]any{l.Up, l.In, l.Out}) }

const (
	firstSize = 4  // height and width of the first map
	firstMult = 16 // its channels, in units of Width
	reduction = 4  // of the channels inside a block

	// Values of one map, four times those of the public 512-pixel generator. Unlike weights, maps take no room in a file, so
	// that a small one could ask for any amount of memory.
	maxMap = 1 << 27
)

// ParseConfig reads a config.json and checks that it describes a generator that this package can run; name stands for
// it in errors.
func ParseConfig(name string, data []byte) (Config, error) {
	var c Config
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	if err := c.check(); err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// check also bounds every size, so that products of a few of them cannot overflow.
func (c *Config) check() error {
	for _, f := range []struct {
		name        string
		value, most int
	}{
		{"z_dim", c.ZDim, 1 << 12}, {"class_embed_dim", c.ClassDim, 1 << 12}, {"channel_width", c.Width, 1 << 10},
		{"num_classes", c.Classes, 1 << 20}, {"n_stats", c.Stats, 1 << 12}, {"output_dim", c.Resolution, 1 << 11},
		{"number of layers", len(c.Layers), 32},
	} {
		if f.value < 1 || f.value > f.most {
			return fmt.Errorf("%s is %d, wanted 1 to %d", f.name, f.value, f.most)
		}
	}
	if !(c.Eps > 0 && c.Eps < 1) {
		return fmt.Errorf("eps is %v, wanted a small positive number", c.Eps)
	}
	if c.StatsRows != 0 && c.StatsRows != 1 && c.StatsRows != c.Stats {
		return fmt.Errorf("stats_rows is %d, wanted 1 or n_stats, which is %d", c.StatsRows, c.Stats)
	}
	size, mult := firstSize, firstMult
	for i, l := range c.Layers {
		if l.In != mult {
			return fmt.Errorf("layer %d has %d input channels (times channel_width), but %d go in", i, l.In, mult)
		}
		if l.Out != l.In && 2*l.Out != l.In || l.Out < 1 {
			return fmt.Errorf("layer %d has %d output channels for %d inputs, wanted as many or half", i, l.Out, l.In)
		}
		if l.In*c.Width%reduction != 0 {
			return fmt.Errorf("layer %d has %d channels, wanted a multiple of %d", i, l.In*c.Width, reduction)
		}
		if i == c.Attention && l.In*c.Width%8 != 0 {
			return fmt.Errorf("attention over %d channels, wanted a multiple of 8", l.In*c.Width)
		}
		if l.Up {
			size *= 2
		}
		mult = l.Out
		if size > c.Resolution {
			return fmt.Errorf("layer %d reaches %d pixels, beyond output_dim, which is %d", i, size, c.Resolution)
		}
		if n := size * size * l.In * c.Width; n > maxMap {
			return fmt.Errorf("layer %d takes maps of %d values, at most %d are supported", i, n, maxMap)
		}
	}
	if mult != 1 || size != c.Resolution {
		return fmt.Errorf("the layers end at %d pixels and %d times channel_width, wanted %d and 1", size, mult, c.Resolution)
	}
	return nil
}

// cond is the width of a condition, [z; class embedding].
func (c *Config) cond() int { return c.ZDim + c.ClassDim }

// statsRows is the number of rows of statistics that are stored.
func (c *Config) statsRows() int {
	if c.StatsRows == 0 {
		return c.Stats
	}
	return c.StatsRows
}

// norm is the place of one conditional normalisation among the channels of all.
type norm struct{ at, channels int }

// norms returns the four normalisations of each block, and the number of channels of all.
func (c *Config) norms() (blocks [][4]norm, channels int) {
	for _, l := range c.Layers {
		in := l.In * c.Width
		var b [4]norm
		for i := range b {
			b[i] = norm{channels, in / reduction}
			if i == 0 {
				b[i].channels = in
			}
			channels += b[i].channels
		}
		blocks = append(blocks, b)
	}
	return blocks, channels
}

// hasAttention tells whether block i is preceded by self-attention.
func (c *Config) hasAttention(i int) bool { return i == c.Attention }

// key is the number of block i in the names of a checkpoint, where the attention layer counts too.
func (c *Config) key(i int) int {
	if c.Attention >= 0 && i >= c.Attention {
		return i + 1
	}
	return i
}
