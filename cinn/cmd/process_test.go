package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"netfusion/experts/program"
)

// roleKey is the environment variable that makes this test's program another one.
const roleKey = "CINN_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleKey) {
	case "":
		os.Exit(m.Run())
	case "cinn":
		main()
	case "captioner":
		answer(caption)
	case "pairs":
		answer(numbered)
	}
}

// answer plays a program that answers questions.
func answer(to func(program.Message) program.Message) {
	in, out := program.NewLines(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		m, err := in.Next()
		if err != nil {
			return
		}
		out.Encode(to(m))
	}
}

// caption tells one picture from another, and says nothing of every fourth.
func caption(m program.Message) program.Message {
	picture, err := png.Decode(bytes.NewReader(m.Image))
	if err != nil {
		return program.Message{Error: err.Error()}
	}
	sum := fnv.New32a()
	b := picture.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, b, _ := picture.At(x, y).RGBA()
			sum.Write([]byte{byte(r >> 8), byte(g >> 8), byte(b >> 8)})
		}
	}
	if sum.Sum32()%4 == 0 {
		return program.Message{Text: "<pad> <pad>"}
	}
	return program.Message{Text: "<start> " + pictureText(sum.Sum32(), b) + " <end>"}
}

func pictureText(sum uint32, b image.Rectangle) string {
	return fmt.Sprintf("picture %d of %d by %d", sum, b.Dx(), b.Dy())
}

// numbered makes 30 pairs of their number.
func numbered(m program.Message) program.Message {
	if m.Pair == nil || *m.Pair >= 30 {
		return program.Message{End: true}
	}
	i := float32(*m.Pair)
	return program.Message{Condition: program.Vector{i, -i, 0.5}, Latent: program.Vector{i / 3, 1}, Std: program.Vector{0.1, 0.2}, Text: fmt.Sprint("text ", int(i)/2)}
}

// play is a command line for this test's program in a role.
func play(t *testing.T, role string) string {
	t.Helper()
	t.Setenv(roleKey, role) // of what is started from now on
	return strconv.Quote(os.Args[0])
}

// killed runs cinn with what args gives, and kills it n times, at times drawn from r that together are shorter than whole, which it
// takes without; then it lets it end.
func killed(t *testing.T, r *rand.Rand, n int, whole time.Duration, args func() []string) {
	t.Helper()
	longest := whole * 8 / 10 / time.Duration(n)
	for i := range n + 1 {
		c := exec.Command(os.Args[0], args()...)
		var out bytes.Buffer
		c.Env, c.Stdout, c.Stderr = append(os.Environ(), roleKey+"=cinn"), &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if i == n {
			if err := c.Wait(); err != nil {
				t.Fatalf("%v: %s", err, out.String())
			}
			return
		}
		late := time.AfterFunc(time.Duration(r.Int64N(int64(longest))), func() { c.Process.Kill() })
		err := c.Wait()
		if early := late.Stop(); early && err != nil {
			t.Fatalf("run %d: %v: %s", i, err, out.String())
		}
		if err == nil {
			t.Fatalf("it ended before kill %d of %d: there is too little to do", i+1, n)
		}
	}
}
