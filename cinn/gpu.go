package cinn

import (
	"context"
	"errors"
	"fmt"
	"image"

	"netfusion/cinn/flow"
	"netfusion/experts/bert"
	"netfusion/experts/biggan"
	"netfusion/nn"
	"netfusion/tensor"
)

// ErrDead is what a Session on a GPU returns once the GPU has failed it, together with what failed. It cannot be used any more, but
// closed. Other Sessions can, and a new one can be opened, unless the device itself is lost.
var ErrDead = errors.New("cinn: the session is dead")

// gpuModel is a Model's weights on a GPU, which embeds and draws; the flow of operations is there, too. What else Sessions do is done by the
// processor.
type gpuModel struct {
	g       *tensor.GPU
	source  *bert.GPUModel // nil unless the source is a text encoder
	flow    *flow.GPUFlow
	target  *biggan.GPUModel
	classes tensor.GPUTable // [Classes][ClassDim], the generator's embeddings
}

// newGPUModel opens the GPU.
func newGPUModel(open func() (*tensor.GPU, error)) (*gpuModel, error) {
	g, err := open()
	if err != nil {
		return nil, err
	}
	return &gpuModel{g: g}, nil
}

// load copies the parts of m, which are loaded, to the GPU.
func (to *gpuModel) load(m *Model, part func(prefix string) (nn.Source, []byte)) (err error) {
	p := m.options.Precision
	if text, ok := m.source.(textSource); ok {
		source, _ := part(sourcePrefix)
		if to.source, err = bert.LoadGPU(source, text.Config, p, to.g); err != nil {
			return inPart(sourcePrefix, err)
		}
	}
	source, config := part(flowPrefix)
	if to.flow, err = flow.LoadGPU(source, config, p, to.g); err != nil {
		return inPart(flowPrefix, err)
	}
	source, _ = part(targetPrefix)
	if to.target, err = biggan.LoadGPU(source, m.target.Config, p, biggan.Truncation{Value: m.about.Truncation}, to.g); err != nil {
		return inPart(targetPrefix, err)
	}
	var classes []float32
	for k := range m.target.Classes {
		classes = append(classes, m.target.Class(k)...)
	}
	to.classes = tensor.GPUTable{Rows: m.target.Classes, Cols: m.target.ClassDim, F32: tensor.Put(to.g, classes)}
	return to.g.Err()
}

// gpuSession is one caller's lane of a GPU. What it does for a call is captured as a graph, once for each shape, and played from then
// on: encoder, flow and generator follow each other without the host.
type gpuSession struct {
	m *gpuModel
	q *tensor.Queue

	// What the host gives and gets.
	ids, starts tensor.Staged[int32] // [most tokens], and where the text begins and ends
	draw        flow.GPUDraw
	text        tensor.Staged[float32] // [Condition], what the source made of the condition
	pixels      tensor.Staged[uint8]   // [mostImages][height][width][4]

	places, types tensor.Array[int32]   // [most tokens]: 0, 1, 2, … and zeros
	rows          tensor.Array[int32]   // [mostImages], zeros
	zeros         tensor.Array[float32] // [mostImages]

	operations *flow.GPUSession // nil until the first of them

	graphs    map[shape]tensor.Graph
	tokens    []int32 // of a prompt
	prompt    string  // whose embedding text is on the GPU, if hasPrompt
	hasPrompt bool
}

// shape says what a graph does, whatever the data.
type shape struct {
	tokens int  // of the text that it encodes, or more; 0 is none
	given  bool // instead, the condition comes from the host; without either it is the one before
	images int  // that it draws; if none, it gives the condition to the host
	snap   bool // class parts of latents move to the nearest class's embedding
}

// mostImages is how many a graph draws at a time, at most. Others draw 1, 2, 4 and 8.
const mostImages = 16

// Up to exactTokens, each number of tokens has a graph of its own, beyond that each multiple of tokenStep: so a Session never has
// more than some dozens. The first usualTokens, those of most prompts, are made with the Session.
const (
	leastTokens = 3 // of one word
	usualTokens = 16
	exactTokens = 32
	tokenStep   = 16
)

// roundTokens is the size of the graph for n tokens. Those that are not there are computed, and read by nobody.
func roundTokens(n, most int) int {
	if n > exactTokens {
		n = (n + tokenStep - 1) / tokenStep * tokenStep
	}
	return min(n, most)
}

// newSession opens a lane for m.
func (g *gpuModel) newSession(m *Model) (*gpuSession, error) {
	s := &gpuSession{m: g, graphs: map[shape]tensor.Graph{}}
	most, pixels := 0, 4*m.target.Resolution*m.target.Resolution
	if g.source != nil {
		most = g.source.Config.MaxTokens
	}
	const gaps = 8 * 16 // between what is staged
	var err error
	if s.q, err = g.g.NewQueue(4*(most+2+m.source.width()) + flow.DrawStaging + mostImages*pixels + gaps); err != nil {
		return nil, fmt.Errorf("cinn: %w", err)
	}
	s.stage(most, m.source.width(), pixels)
	s.tokens = make([]int32, 0, most)
	if most > 0 {
		s.graph(shape{tokens: most}) // the largest first: it says how much memory all share
	}
	for n := leastTokens; n <= min(usualTokens, most); n++ {
		s.graph(shape{tokens: n, images: 1})
	}
	s.graph(shape{images: 1})
	if err := s.q.Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("cinn: %w", err), s.q.Close())
	}
	return s, nil
}

// stage lays out what is not taken anew by every graph.
func (s *gpuSession) stage(tokens, condition, pixels int) {
	q := s.q
	s.draw, s.starts, s.ids = flow.StageDraw(q), tensor.Stage[int32](q, 2), tensor.Stage[int32](q, tokens)
	s.text, s.pixels = tensor.Stage[float32](q, condition), tensor.Stage[uint8](q, mostImages*pixels)
	s.places, s.types = tensor.Keep[int32](q, tokens), tensor.Keep[int32](q, tokens)
	s.rows, s.zeros = tensor.Keep[int32](q, mostImages), tensor.Keep[float32](q, mostImages)
	counts := make([]int32, tokens)
	for i := range counts {
		counts[i] = int32(i)
	}
	tensor.Set(q, s.places, counts) // its error stays in q
}

// graph returns that of a shape, which is captured when it is first wanted. An error stays in s.q.
func (s *gpuSession) graph(sh shape) tensor.Graph {
	g, known := s.graphs[sh]
	if !known {
		g, _ = s.q.Capture(func() { s.record(sh) })
		s.graphs[sh] = g
	}
	return g
}

// The marks of a graph.
const (
	begun = iota
	encoded
	sampled
	drawn
)

// record calls the operations of sh.
func (s *gpuSession) record(sh shape) {
	q := s.q
	q.Mark(begun)
	q.Upload(s.draw.Numbers, s.draw.Factors, s.starts, s.ids.Part(0, sh.tokens))
	text := tensor.Matrix(s.text.Array, 1, s.text.Len)
	if sh.tokens > 0 {
		n := sh.tokens
		s.m.source.Forward(q, text, bert.GPUTokens{
			Text:   tensor.Text{IDs: s.ids.Slice(0, n), Places: s.places.Slice(0, n), Types: s.types.Slice(0, n)},
			Starts: s.starts.Array, Longest: n,
		})
	}
	if sh.given {
		q.Upload(s.text)
	}
	q.Mark(encoded)
	if sh.images == 0 {
		q.Download(s.text)
		return
	}
	z, class := s.m.target.ZDim, s.m.target.ClassDim
	x, c := q.Take(sh.images, z+class), text
	if sh.images > 1 { // all under one condition
		c = q.TakePacked(sh.images, text.Cols)
		q.Embed(c, &tensor.GPUTable{Rows: 1, Cols: text.Cols, F32: s.text.Array}, s.rows.Slice(0, sh.images))
	}
	s.m.flow.Sample(q, x, c, s.draw)
	if sh.snap {
		s.snap(x.Columns(z, z+class))
	}
	q.Mark(sampled)
	pixels := s.pixels.Part(0, sh.images*s.pixels.Len/mostImages)
	s.m.target.Generate(q, tensor.Array[uint32]{Ptr: pixels.Ptr, Len: pixels.Len / 4}, x)
	q.Download(pixels)
	q.Mark(drawn)
}

// snap sets the rows of e to the nearest class's embedding: the likeliest class under noise of any size.
func (s *gpuSession) snap(e tensor.Buffer) {
	q, classes := s.q, s.m.classes
	near, hat := q.TakePacked(e.Rows, e.Cols), q.TakePacked(e.Rows, e.Cols)
	scores, picked := q.TakePacked(e.Rows, classes.Rows), tensor.TakeArray[int32](q, e.Rows)
	q.Copy(near, e)
	q.Posterior(hat, scores, near, tensor.Matrix(classes.F32, classes.Rows, classes.Cols), 1)
	q.Pick(picked, scores, s.zeros.Slice(0, e.Rows), s.zeros.Slice(0, 1)) // at temperature 0, which draws nothing
	q.Embed(near, &classes, picked)
	q.Copy(e, near)
}

// run plays the graph of a shape.
func (s *gpuSession) run(sh shape) error {
	s.q.Replay(s.graph(sh))
	if s.q.Wait() != nil {
		return s.dead()
	}
	return nil
}

// openFlow opens the flow for operations. There is one at a time.
func (s *gpuSession) openFlow(rows int) (flowRows, error) {
	var err error
	if s.operations, err = s.m.flow.NewSession(s.m.g, rows); err != nil {
		return nil, fmt.Errorf("cinn: %w", err)
	}
	return s.operations, nil
}

// dead is why s cannot be used, or nil.
func (s *gpuSession) dead() error {
	err := s.q.Err()
	if err == nil && s.operations != nil {
		err = s.operations.Err()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDead, err)
	}
	return nil
}

// close gives the memory back.
func (s *gpuSession) close() error {
	err := s.q.Close()
	if s.operations != nil {
		err = errors.Join(err, s.operations.Close())
	}
	return err
}

// gpuCondition finds out how c gets to where the flow reads it: as tokens, as the numbers that its source makes of it, or not at all.
func (s *Session) gpuCondition(ctx context.Context, c Condition) (shape, error) {
	g := s.gpu
	if source, ok := s.model.source.(textSource); ok && c.Vector == nil {
		if g.hasPrompt && g.prompt == c.Prompt {
			return shape{}, ctx.Err()
		}
		g.hasPrompt = false
		g.tokens = source.Tokenizer.Encode(g.tokens[:0], c.Prompt, g.ids.Len)
		g.starts.Host[0], g.starts.Host[1] = 0, int32(len(g.tokens))
		sh := shape{tokens: roundTokens(len(g.tokens), g.ids.Len)}
		clear(g.ids.Host[copy(g.ids.Host, g.tokens):sh.tokens])
		return sh, ctx.Err()
	}
	g.hasPrompt = false
	if err := s.encode(ctx, c); err != nil {
		return shape{}, err
	}
	copy(g.text.Host, s.text.Data)
	return shape{given: true}, nil
}

// generateOnGPU is GenerateAll, of what has been checked.
func (s *Session) generateOnGPU(ctx context.Context, dst []*image.NRGBA, c Condition, d flow.Draw) error {
	g := s.gpu
	sh, err := s.gpuCondition(ctx, c)
	if err != nil {
		return err
	}
	sh.snap = d.Snap && s.model.flow.Config.Class == 0
	for len(dst) > 0 {
		sh.images = mostImages
		for sh.images > len(dst) {
			sh.images /= 2
		}
		g.draw.Set(d, s.model.flow.Config)
		if err := g.run(sh); err != nil {
			return err
		}
		if sh.tokens > 0 {
			g.prompt, g.hasPrompt = c.Prompt, true
		}
		for i, p := range dst[:sh.images] {
			copyPixels(p, g.pixels.Host[i*len(g.pixels.Host)/mostImages:])
		}
		if sh.tokens > 0 || sh.given {
			s.timings.Encode = g.q.Elapsed(begun, encoded)
		}
		s.timings.Flow += g.q.Elapsed(encoded, sampled)
		s.timings.Decode += g.q.Elapsed(sampled, drawn)
		dst, d.Sample = dst[sh.images:], d.Sample+uint64(sh.images)
		sh.tokens, sh.given = 0, false // the condition is there
		if err := errors.Join(g.dead(), ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// copyPixels fills dst with pixels [height][width][4].
func copyPixels(dst *image.NRGBA, pixels []uint8) {
	row := 4 * dst.Rect.Dx()
	for y := range dst.Rect.Dy() {
		copy(dst.Pix[y*dst.Stride:][:row], pixels[y*row:])
	}
}

// embedOnGPU is Embed.
func (s *Session) embedOnGPU(ctx context.Context, dst []float32, text string) error {
	g := s.gpu
	g.hasPrompt = false
	sh, err := s.gpuCondition(ctx, Condition{Prompt: text})
	if err != nil {
		return err
	}
	if err := g.run(sh); err != nil {
		return err
	}
	g.prompt, g.hasPrompt = text, true
	copy(dst, g.text.Host)
	return nil
}
