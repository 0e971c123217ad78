package disk

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestWriteFileReplacesWholeFilesOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"first", "second"} {
		err := WriteFile(path, func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		})
		if b, _ := os.ReadFile(path); err != nil || string(b) != text {
			t.Fatalf("%q, %v", b, err)
		}
	}
	failure := errors.New("no more")
	err := WriteFile(path, func(w io.Writer) error {
		w.Write(make([]byte, 3<<20)) // more than the buffer, so that some of it is on disk
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "second" {
		t.Errorf("the file is now %d bytes", len(b))
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWriteFileToAFolderFailsCleanly(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "taken", "inside"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "taken"), func(io.Writer) error { return nil }); err == nil {
		t.Error("a folder was replaced")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestMap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"", strings.Repeat("weights", 10000)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		data, unmap, err := Map(path)
		if err != nil || string(data) != text {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		if err := unmap(); err != nil {
			t.Error(err)
		}
	}
	for _, path := range []string{path + ".absent", filepath.Dir(path)} {
		if _, _, err := Map(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestCleanRemovesWhatAKilledWriterLeft(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "run.checkpoint")
	kept := []string{"run.checkpoint", ".run.checkpoint.best.123.tmp", ".run.checkpoint.12a.tmp", "run.checkpoint.1.tmp", ".run.checkpoint.7.txt"}
	for _, name := range append(kept, ".run.checkpoint.123.tmp", ".run.checkpoint.4567890.tmp") {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Clean(path); err != nil {
		t.Fatal(err)
	}
	for _, name := range kept {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != len(kept) {
		t.Errorf("left behind: %v", left)
	}
	// What os.CreateTemp names is what Clean looks for.
	var name string
	err := WriteFile(path, func(w io.Writer) error {
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".tmp") && !slices.Contains(kept, e.Name()) {
				name = e.Name()
			}
		}
		return errors.Join(err, Clean(path))
	})
	if err == nil || name == "" {
		t.Errorf("the temporary file is %q, and was found again when it was gone: %v", name, err)
	}
}

func TestALockedFileIsNotLockedTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	one, other := open(), open()
	defer other.Close()
	if err := Lock(one); err != nil {
		t.Fatal(err)
	}
	if err := Lock(other); !errors.Is(err, ErrLocked) && (runtime.GOOS == "linux" || runtime.GOOS == "darwin") {
		t.Errorf("locked twice: %v", err)
	}
	one.Close()
	if err := Lock(other); err != nil {
		t.Errorf("after its owner is gone: %v", err)
	}
}
