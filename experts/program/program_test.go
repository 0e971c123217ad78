package program

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain is also the expert: started with a role, this program plays it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if play, ok := roles[os.Args[1]]; ok {
			os.Exit(play())
		}
	}
	os.Exit(m.Run())
}

var roles = map[string]func() int{
	"encoder": func() int {
		in, out := NewLines(os.Stdin), json.NewEncoder(os.Stdout)
		for {
			m, err := in.Next()
			if err != nil {
				return 0
			}
			switch {
			case m.Text == "":
				out.Encode(Message{Error: "no text"})
			case m.Text == "array":
				fmt.Println(`{"vector": [1, 0.5, -2], "unknown": 1}`)
			default:
				out.Encode(Message{Vector: Vector{float32(len(m.Text)), 0.1}})
			}
		}
	},
	"dies":    func() int { fmt.Fprintln(os.Stderr, "out of memory"); return 3 },
	"leaves":  func() int { return 0 },
	"babbles": func() int { fmt.Println("loading weights…"); io.Copy(io.Discard, os.Stdin); return 0 },
	"sleeps":  func() int { time.Sleep(time.Minute); return 0 },
}

func start(t *testing.T, role string, stderr io.Writer) *Program {
	t.Helper()
	p, err := Start(t.Context(), []string{os.Args[0], role}, stderr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAnExpertAnswersInBothForms(t *testing.T) {
	p := start(t, "encoder", nil)
	for text, want := range map[string]Vector{"array": {1, 0.5, -2}, "red": {3, 0.1}} {
		if m, err := p.Ask(t.Context(), Message{Text: text}); err != nil || !slices.Equal(m.Vector, want) {
			t.Errorf("%s: %v, %v", text, m.Vector, err)
		}
	}
	if _, err := p.Ask(t.Context(), Message{}); err == nil || !strings.Contains(err.Error(), "no text") {
		t.Errorf("an answer that is an error: %v", err)
	}
	if m, err := p.Ask(t.Context(), Message{Text: "blue"}); err != nil || m.Vector[0] != 4 {
		t.Errorf("after an error: %v, %v", m, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := p.Ask(t.Context(), Message{Text: "red"}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("after Close: %v", err)
	}
}

func TestAnExpertThatFailsIsAnError(t *testing.T) {
	var said bytes.Buffer
	for role, want := range map[string]string{"dies": "exit status 3", "leaves": "ended without an answer", "babbles": "not JSON"} {
		p := start(t, role, &said)
		for range 2 {
			if _, err := p.Ask(t.Context(), Message{Text: "red"}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", role, err, want)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if !strings.Contains(said.String(), "out of memory") {
		t.Errorf("standard error was %q", said.String())
	}
	p := start(t, "sleeps", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Ask(ctx, Message{Text: "red"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a deadline: %v", err)
	}
	if _, err := Start(t.Context(), []string{"no-such-program-here"}, nil); err == nil {
		t.Error("a program that there is not")
	}
}

func TestVectorsKeepEveryBitAndRefuseWhatIsNone(t *testing.T) {
	pair, class := int64(7), 2
	want := Message{Text: "<b>", Vector: Vector{0.1, -0, 1e-40, 3e38}, Pair: &pair, Class: &class, Image: []byte{1, 2, 255}}
	line, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse(line); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %+v, %v", line, got, err)
	}
	for _, bad := range []string{`{"vector": "AACA"}`, `{"vector": "AACAfw=="}`, `{"vector": [1e39]}`, `{"vector": ["a"]}`, `{"vector": 3}`, `{"class": 1.5}`, `[]`, `{`} {
		if m, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s: %+v", bad, m)
		}
	}
}

func TestLinesSkipAndCount(t *testing.T) {
	l := NewLines(strings.NewReader("{\"text\":\"a\"}\n\n {\"text\":\"b\"}\nnot JSON, but skipped\n{\"text\":\"c\"}\nx\n"))
	if m, err := l.Next(); err != nil || m.Text != "a" {
		t.Errorf("%+v, %v", m, err)
	}
	if n, err := l.Skip(2); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if m, err := l.Next(); err != nil || m.Text != "c" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := l.Next(); err == nil || !strings.Contains(err.Error(), "line 6") {
		t.Errorf("%v", err)
	}
	if _, err := l.Next(); err != io.EOF {
		t.Errorf("%v", err)
	}
	if n, err := l.Skip(1); n != 0 || err != nil {
		t.Errorf("skipping behind the end: %d, %v", n, err)
	}
}

func TestSplitMindsQuotes(t *testing.T) {
	got, err := Split(`python3 -u  "my captioner.py" --name='a b'c ''`)
	if want := []string{"python3", "-u", "my captioner.py", "--name=a bc", ""}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Split(`a "b`); err == nil {
		t.Error("a quote that does not end")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"pair": 3, "condition": [1, 2], "latent": "AACAPw=="}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := Parse(line)
		if err != nil {
			return
		}
		for _, v := range []Vector{m.Vector, m.Condition, m.Latent, m.Std} {
			for _, x := range v {
				if x-x != 0 {
					t.Fatalf("a vector holds %v", x)
				}
			}
		}
	})
}
