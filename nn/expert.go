package nn

import (
	"os"

	"netfusion/nn/safetensors"
)

// OpenExpert reads an expert with load, from the file at path, or from the checkpoint folder there: convert turns that into
// the metadata and the tensors of a file. The expert must not keep a view of its source, which is closed.
func OpenExpert[M any](path string, convert func(dir string, s Storage) (map[string]string, []safetensors.Tensor, error),
	load func(s Source, meta map[string]string) (M, error)) (expert M, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return expert, err
	}
	if info.IsDir() {
		meta, tensors, err := convert(path, "f32")
		if err != nil {
			return expert, err
		}
		return load(Memory(path, tensors), meta)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		return expert, err
	}
	defer f.Close()
	return load(f, f.Metadata())
}
