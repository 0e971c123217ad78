// Package pack is the fusion that the command ships with: a small BERT sentence encoder joined to a BigGAN that draws
// emoji. Only programs that import it carry its weights. Its sources and licences are in Model.Info and in NOTICE.
package pack

import (
	"bytes"
	"context"
	_ "embed"
	"os"
	"path/filepath"

	"netfusion/cinn"
	"netfusion/nn/planes"
)

// data is the pack in its form for distribution (see nn/planes).
//
//go:embed emoji.pack
var data []byte

// Open opens the embedded fusion. The first call on a machine unpacks it into the user's cache directory, from where it
// is mapped; where there is no such directory, it is unpacked into memory.
func Open(o cinn.Options) (*cinn.Model, error) {
	if dir, err := os.UserCacheDir(); err == nil {
		if path, err := planes.Unpack(data, filepath.Join(dir, "netfusion")); err == nil {
			return cinn.Open(path, o)
		}
	}
	var file bytes.Buffer
	if err := planes.Decompress(context.Background(), &file, data); err != nil {
		return nil, err
	}
	return cinn.Parse("the embedded pack", file.Bytes(), o)
}
