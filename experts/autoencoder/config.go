package autoencoder

import (
	"encoding/json"
	"fmt"
	"slices"
)

// maxMap is the most values of one map that we make room for. Unlike weights, maps take no room in a file, so that a
// small one could ask for any amount of memory.
const maxMap = 1 << 27

// Config is the shape of an encoder.
type Config struct {
	Resolution int   `json:"resolution"` // of the image, which is square
	Latent     int   `json:"latent"`     // dimensions of z
	Widths     []int `json:"widths"`     // channels of each stage
	Groups     int   `json:"groups"`     // of channels, in the normalisations
}

// ParseConfig reads a Config from JSON and checks that it describes an encoder that this package can run; name stands for
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
	type field struct {
		name        string
		value, most int
	}
	fields := []field{
		{"resolution", c.Resolution, 1 << 11}, {"latent", c.Latent, 1 << 12}, {"groups", c.Groups, 1 << 10},
		{"number of widths", len(c.Widths), 10},
	}
	for i, w := range c.Widths {
		fields = append(fields, field{fmt.Sprintf("width of stage %d", i), w, 1 << 12})
	}
	for _, f := range fields {
		if f.value < 1 || f.value > f.most {
			return fmt.Errorf("%s is %d, wanted 1 to %d", f.name, f.value, f.most)
		}
	}
	for i, w := range c.Widths {
		if w%c.Groups != 0 {
			return fmt.Errorf("stage %d has %d channels, wanted a multiple of the %d groups", i, w, c.Groups)
		}
	}
	if n := c.Resolution * c.Resolution * slices.Max(c.Widths); n > maxMap {
		return fmt.Errorf("maps of up to %d values, at most %d are supported", n, maxMap)
	}
	if c.Resolution != c.last()<<(len(c.Widths)-1) {
		return fmt.Errorf("resolution is %d, which cannot be halved %d times", c.Resolution, len(c.Widths)-1)
	}
	return nil
}

// last is the side of the last map.
func (c *Config) last() int { return c.Resolution >> (len(c.Widths) - 1) }

// features is the length of the flattened last map.
func (c *Config) features() int { return c.last() * c.last() * c.Widths[len(c.Widths)-1] }

// stride of the first convolution of stage i.
func stride(i int) int {
	if i == 0 {
		return 1
	}
	return 2
}
