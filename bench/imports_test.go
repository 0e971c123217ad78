package bench

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// layers says which of our packages a package may import, by path below the module: the first entry that matches the
// importing folder rules, and a name with ! means that package without those below it. An embedder of cinn carries no
// training code, experts never meet, and kernels see slices.
var layers = []struct {
	folder string
	may    []string
}{
	{"kernels", []string{"kernels"}},
	{"tensor", []string{"kernels", "tensor"}},
	{"nn", []string{"kernels", "tensor", "nn"}},
	{"experts/bert", []string{"kernels", "tensor", "nn", "experts/bert"}},
	{"experts/biggan", []string{"kernels", "tensor", "nn", "experts/biggan"}},
	{"experts/picture", []string{"nn", "experts/picture"}},
	{"experts/label", []string{"experts/label"}},
	{"experts/autoencoder", []string{"kernels", "tensor", "nn", "experts/autoencoder"}},
	{"experts/program", nil},
	{"cinn/flow", []string{"kernels", "tensor", "nn", "cinn/flow"}},
	{"cinn/pairs", []string{"kernels", "nn", "cinn/pairs"}},
	{"cinn/train", []string{"kernels", "tensor", "nn", "cinn/flow", "cinn/pairs", "cinn/train"}},
	{"cinn/pack", []string{"cinn!", "nn", "cinn/pack"}},
	{"cinn/cmd", []string{"kernels", "tensor", "nn", "experts", "cinn"}},
	{"cinn", []string{"kernels", "tensor", "nn", "experts", "cinn/flow"}},
	{"bench", []string{"kernels", "tensor", "nn", "experts", "cinn", "bench"}},
}

// outside lists the modules that we may import, and the only folders that may do so.
var outside = map[string][]string{
	"golang.org/x/sys":              {"kernels/cpu", "cinn/cmd", "bench/peers"},
	"github.com/klauspost/compress": {"nn/planes"},
	"gorgonia.org/cu":               {"tensor/cudadriver"},
}

func TestPackagesImportOnlyTheLayersBelow(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			nested := path != ".." && exists(filepath.Join(path, "go.mod"))
			if name := d.Name(); nested || strings.HasPrefix(name, ".") && name != ".." || name == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		folder := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../")
		for _, i := range f.Imports {
			check(t, path, folder, strings.Trim(i.Path.Value, `"`))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Fatalf("saw only %d files", files)
	}
}

func check(t *testing.T, path, folder, imported string) {
	test := strings.HasSuffix(path, "_test.go")
	if first, _, _ := strings.Cut(imported, "/"); first != "netfusion" {
		if !strings.Contains(first, ".") {
			if imported == "C" && folder != "tensor/cudadriver" {
				t.Errorf("%s: imports C", path)
			}
			return
		}
		for module, folders := range outside {
			if within(imported, module) {
				for _, f := range folders {
					if within(folder, f) {
						return
					}
				}
			}
		}
		t.Errorf("%s: may not import %s", path, imported)
		return
	}
	local := strings.TrimPrefix(imported, "netfusion/")
	if within(local, "bench") && !within(folder, "bench") && !test {
		t.Errorf("%s: only tests import bench", path)
	}
	// The PTX interpreter and what tests share are no part of a product.
	for _, forTests := range []string{"tensor/ptx", "tensor/kerneltest", "tensor/drivertest"} {
		if within(local, forTests) && !within(folder, "tensor/kerneltest") && !test {
			t.Errorf("%s: only tests import %s", path, local)
		}
	}
	if test {
		return
	}
	for _, l := range layers {
		if !within(folder, l.folder) {
			continue
		}
		for _, may := range l.may {
			if exact, ok := strings.CutSuffix(may, "!"); ok && local == exact || !ok && within(local, may) {
				return
			}
		}
		t.Errorf("%s: %s may not import %s", path, l.folder, local)
		return
	}
	t.Errorf("%s: no rule for the folder %s", path, folder)
}

func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
