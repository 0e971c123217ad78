package program

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// Message is one line in either direction. A request has one of the first four fields, an answer what the request asked for.
type Message struct {
	Text   string `json:"text,omitempty"`
	Image  []byte `json:"image,omitempty"` // a PNG file: 8 bits a channel, sRGB
	Vector Vector `json:"vector,omitempty"`
	Pair   *int64 `json:"pair,omitempty"` // a request for pair number so much, from 0

	Condition Vector `json:"condition,omitempty"`
	Latent    Vector `json:"latent,omitempty"`
	Std       Vector `json:"std,omitempty"` // of the latent; none is a latent that is known exactly
	Class     *int   `json:"class,omitempty"`
	End       bool   `json:"end,omitempty"` // there is no such pair, nor any behind it

	Error string `json:"error,omitempty"` // why there is no answer
}

// Vector is finite numbers: in JSON an array, or their float32 in little-endian order as base64.
type Vector []float32

// MaxVector is the most dimensions of a Vector.
const MaxVector = 1 << 20

// UnmarshalJSON reads both forms.
func (v *Vector) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return v.decode(data)
	}
	var numbers []float32
	if err := json.Unmarshal(data, &numbers); err != nil {
		return err
	}
	*v = numbers
	return v.check()
}

func (v *Vector) decode(data []byte) error {
	var raw []byte
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	if len(raw)%4 != 0 {
		return fmt.Errorf("a vector of %d bytes, want a multiple of 4", len(raw))
	}
	*v = make(Vector, len(raw)/4)
	for i := range *v {
		(*v)[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return v.check()
}

func (v *Vector) check() error {
	if len(*v) > MaxVector {
		return fmt.Errorf("a vector of %d dimensions, want at most %d", len(*v), MaxVector)
	}
	for i, x := range *v {
		if x-x != 0 {
			return fmt.Errorf("dimension %d of a vector is %v", i, x)
		}
	}
	return nil
}

// MarshalJSON writes base64, which keeps every bit.
func (v Vector) MarshalJSON() ([]byte, error) {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return json.Marshal(base64.StdEncoding.EncodeToString(raw))
}

// Parse reads one line.
func Parse(line []byte) (Message, error) {
	var m Message
	if err := json.Unmarshal(line, &m); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return m, fmt.Errorf("not JSON: %.60q: %w", line, err)
		}
		return m, err
	}
	return m, nil
}
