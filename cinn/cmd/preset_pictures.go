package main

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"io"
	"math"
	"slices"
	"text/tabwriter"

	"netfusion/cinn"
	"netfusion/cinn/flow"
	"netfusion/cinn/pairs"
	"netfusion/experts/biggan"
	"netfusion/nn"
	"netfusion/tensor"
)

type (
	// sheetOf draws rows of pictures of examples, images of the test split.
	sheetOf func(ctx context.Context, g *gallery, examples []int) ([][]*image.NRGBA, error)
	// judgementOf adds to the table.
	judgementOf func(ctx context.Context, g *gallery, w io.Writer) error
)

// gallery is what pictures are made with: the pack that the preset wrote, and its flow.
type gallery struct {
	*lesson
	*artist
	task   *task
	flow   *flow.Session
	target *biggan.Session
	test   []int // images of the test split
}

const (
	sheetRows    = 6
	sheetSamples = 3
)

// pictures writes the sheet, and what the task has to say about pictures.
func (p *presetRun) pictures(ctx context.Context, l *lesson, t *task, f *flow.Flow, out presetFiles, o *outcome, w io.Writer) error {
	a, err := (&modelFlags{path: out.pack(), workers: p.lesson.workers}).open()
	if err != nil {
		return err
	}
	defer a.Close()
	g := &gallery{lesson: l, artist: a, task: t, target: l.target.NewSession(l.device, 1), test: l.set.Rows(pairs.Test)}
	if g.flow, err = f.NewSession(l.device, 1); err != nil {
		return err
	}
	if t.encode != nil {
		if o.samples, err = g.consistency(ctx, w); err != nil {
			return err
		}
	}
	if t.judge != nil {
		if err := t.judge(ctx, g, w); err != nil {
			return err
		}
	}
	draw := t.sheet
	if draw == nil {
		draw = sampleSheet
	}
	if o.rows, err = draw(ctx, g, spaced(g.test, sheetRows)); err != nil {
		return err
	}
	return out.writeSheet(o.rows)
}

func (f presetFiles) writeSheet(rows [][]*image.NRGBA) error {
	return writeFile(f.sheet(), true, func(w io.Writer) error { return encodePNG(w, tile(rows), nil) })
}

// spaced takes n of list, evenly.
func spaced(list []int, n int) []int {
	n = min(n, len(list))
	chosen := make([]int, n)
	for i := range chosen {
		chosen[i] = list[(2*i+1)*len(list)/(2*n)]
	}
	return chosen
}

// tile puts rows of square pictures on a white sheet, each enlarged to the side of the largest.
func tile(rows [][]*image.NRGBA) *image.NRGBA {
	side, columns := 0, 0
	for _, row := range rows {
		columns = max(columns, len(row))
		for _, m := range row {
			side = max(side, m.Rect.Dx())
		}
	}
	gap := margin(side)
	step := side + gap
	sheet := image.NewNRGBA(image.Rect(0, 0, columns*step+gap, len(rows)*step+gap))
	draw.Draw(sheet, sheet.Rect, image.NewUniform(color.White), image.Point{}, draw.Src)
	for y, row := range rows {
		for x, m := range row {
			m = upscale(m, max(1, side/m.Rect.Dx()))
			draw.Draw(sheet, image.Rect(gap+x*step, gap+y*step, (x+1)*step, (y+1)*step), m, image.Point{}, draw.Src)
		}
	}
	return sheet
}

// sampleSheet has a row for each example: what the flow is given, if that is a picture; samples; and the example itself.
func sampleSheet(ctx context.Context, g *gallery, examples []int) (rows [][]*image.NRGBA, err error) {
	for _, i := range examples {
		var row []*image.NRGBA
		if g.task.show != nil {
			row = append(row, g.task.show(i))
		}
		samples, err := g.samples(ctx, i, sheetSamples)
		if err != nil {
			return nil, err
		}
		rows = append(rows, append(append(row, samples...), g.picture(i)))
	}
	return rows, nil
}

// samples draws n pictures that the condition of image i could be of.
func (g *gallery) samples(ctx context.Context, i, n int) ([]*image.NRGBA, error) {
	c := g.task.condition(i)
	samples := make([]*image.NRGBA, n)
	for k := range samples {
		samples[k] = image.NewNRGBA(g.model.Bounds())
		r := cinn.Request{Prompt: c.Prompt, Image: c.Image, Vector: c.Vector, Seed: uint64(i), Sample: uint64(k)}
		if err := g.Generate(ctx, samples[k], r); err != nil {
			return nil, err
		}
	}
	return samples, nil
}

const (
	judgedImages  = 48
	judgedSamples = 8
)

// sampleScore says how far, root mean square, the conditions of pictures are from the given ones, their colours (of 255) from the truth,
// and from each other's.
type sampleScore struct{ given, truth, best, spread float64 }

// consistency judges samples by what they should have in common with what the flow was given, and with each other; beside them the
// training picture with the nearest condition, and the truth as its latent draws it.
func (g *gallery) consistency(ctx context.Context, w io.Writer) (score sampleScore, err error) {
	made := make([]float32, g.task.conditions.Dim)
	judge := func(s *sampleScore, i int, m *image.NRGBA, share float64) (apart float64, err error) {
		if err := g.task.encode(made, m); err != nil {
			return 0, err
		}
		apart = g.apart(g.picture(i), m)
		s.given += rms(made, g.given(i)) * share
		s.truth += apart * share
		return apart, nil
	}
	var near, again sampleScore
	images := spaced(g.test, judgedImages)
	each := 1 / float64(len(images))
	for _, i := range images {
		samples, err := g.samples(ctx, i, judgedSamples)
		if err != nil {
			return score, err
		}
		closest := math.Inf(1)
		for k, m := range samples {
			apart, err := judge(&score, i, m, each/judgedSamples)
			if err != nil {
				return score, err
			}
			closest = min(closest, apart)
			for _, other := range samples[:k] {
				score.spread += g.apart(other, m) * each / (judgedSamples * (judgedSamples - 1) / 2)
			}
		}
		score.best += closest * each
		m, err := g.decode(g.mean(i))
		if err != nil {
			return score, err
		}
		if _, err := judge(&again, i, m, each); err != nil {
			return score, err
		}
		if _, err := judge(&near, i, g.fit(g.picture(g.nearest(i))), each); err != nil {
			return score, err
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\n%d pictures of the test split, %d samples each; root mean square, of colours in units of 1/255\n\n", len(images), judgedSamples)
	fmt.Fprintf(t, "\tfrom what was given\tfrom the truth\tfrom each other\n")
	fmt.Fprintf(t, "samples of the flow\t%.4f\t%.1f (the best: %.1f)\t%.1f\n", score.given, score.truth, score.best, score.spread)
	fmt.Fprintf(t, "the training picture with the nearest condition\t%.4f\t%.1f\t0\n", near.given, near.truth)
	fmt.Fprintf(t, "the truth, as its latent draws it\t%.4f\t%.1f\t0\n", again.given, again.truth)
	return score, t.Flush()
}

// fit is a picture of the set at the pack's size.
func (g *gallery) fit(m *image.NRGBA) *image.NRGBA {
	return upscale(m, max(1, g.model.Bounds().Dx()/m.Rect.Dx()))
}

func rms(a, b []float32) float64 {
	var sum float64
	for i, v := range a {
		d := float64(v - b[i])
		sum += float64(d * d)
	}
	return math.Sqrt(sum / float64(len(a)))
}

// apart is the root mean square difference of two pictures' colours, at the size of the set's.
func (g *gallery) apart(a, b *image.NRGBA) float64 {
	x, y := g.colours(a), g.colours(b)
	return 127.5 * rms(x, y)
}

func (g *gallery) colours(m *image.NRGBA) []float32 {
	dst := make([]float32, 3*g.set.Size*g.set.Size)
	nn.Colours(dst, m, g.set.Size)
	return dst
}

// nearest is the training image whose condition is nearest to that of image i.
func (g *gallery) nearest(i int) int {
	c := g.given(i)
	best, least := 0, math.Inf(1)
	for _, k := range g.set.Rows(pairs.Train) {
		if d := rms(c, g.given(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

// given is the condition of image i.
func (g *gallery) given(i int) []float32 {
	c := g.task.conditions
	return c.Vector(c.For(g.set.Images[i]))
}

// mean is image i as the flow knows it: the mean of its latent, and the embedding of its class.
func (g *gallery) mean(i int) tensor.Tensor {
	x := tensor.New(1, g.set.Latent+g.lesson.target.ClassDim)
	mean, _ := g.set.Z(i)
	copy(x.Data, mean)
	copy(x.Data[g.set.Latent:], g.lesson.target.Class(g.set.Images[i].Class))
	return x
}

// decode draws x [1][Latent+Class].
func (g *gallery) decode(x tensor.Tensor) (*image.NRGBA, error) {
	n := g.set.Latent
	pixels, err := g.target.Generate(tensor.Of(1, n, x.Data[:n]), tensor.Of(1, x.Cols-n, x.Data[n:]), biggan.Truncation{})
	if err != nil {
		return nil, err
	}
	m := image.NewNRGBA(g.model.Bounds())
	biggan.Draw(m, pixels.Data)
	return m, nil
}

// keep changes the condition of image i to c, and keeps its class and the residual, that is all that the old condition does not say.
func (g *gallery) keep(i int, c []float32) tensor.Tensor {
	x, v, old := g.mean(i), tensor.New(1, g.set.Latent), g.given(i)
	g.flow.Forward(v, nil, x, tensor.Of(1, len(old), old))
	g.flow.Inverse(x, v, tensor.Of(1, len(c), c))
	return x
}

// edited is a row: image i; the same through encoder and generator; and that as cinn.Edit changes it to each of the conditions.
func (g *gallery) edited(ctx context.Context, i int, conditions [][]float32) ([]*image.NRGBA, error) {
	again, err := g.decode(g.mean(i))
	if err != nil {
		return nil, err
	}
	row := []*image.NRGBA{g.picture(i), again}
	for _, c := range conditions {
		m := image.NewNRGBA(g.model.Bounds())
		e := cinn.Edit{
			Subject: cinn.Subject{Latent: g.mean(i).Data}, From: cinn.Condition{Vector: g.given(i)}, To: cinn.Condition{Vector: c}, Seed: uint64(i),
		}
		if err := g.Edit(ctx, m, e); err != nil {
			return nil, err
		}
		row = append(row, m)
	}
	return row, nil
}

// styled is the condition of an image in another style.
func (g *gallery) styled(i, style int) []float32 {
	c := slices.Clone(g.given(i))
	clear(c[:len(g.set.Styles)])
	c[style] = 1
	return c
}

// styleSheet has a row for each example: itself; the same through encoder and generator; and that in each of the styles, of its own class,
// which edits would draw anew where one style has more of it than another.
func styleSheet(ctx context.Context, g *gallery, examples []int) (rows [][]*image.NRGBA, err error) {
	for _, i := range examples {
		row := []*image.NRGBA{g.picture(i)}
		latents := []tensor.Tensor{g.mean(i)}
		for style := range g.set.Styles {
			latents = append(latents, g.keep(i, g.styled(i, style)))
		}
		for _, x := range latents {
			m, err := g.decode(x)
			if err != nil {
				return nil, err
			}
			row = append(row, m)
		}
		rows = append(rows, row)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// attributeSheet has a row for every second example, edited to something of every category.
func attributeSheet(ctx context.Context, g *gallery, examples []int) (rows [][]*image.NRGBA, err error) {
	styles := len(g.set.Styles)
	for at := 0; at < len(examples); at += 2 {
		i := examples[at]
		var conditions [][]float32
		for k := range g.categories() {
			c := g.styled(i, g.set.Images[i].Style)
			clear(c[styles:])
			c[styles+k] = 1
			conditions = append(conditions, c)
		}
		row, err := g.edited(ctx, i, conditions)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// styleTransfer judges by concepts that the set has in two styles: of those, training saw no pair, and this one saw none at all.
func styleTransfer(ctx context.Context, g *gallery, w io.Writer) error {
	images := map[[2]int]int{} // by concept and style
	for _, i := range g.test {
		im := g.set.Images[i]
		images[[2]int{im.Concept, im.Style}] = i
	}
	means := g.styleMeans()
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, `
Concepts of the test split in two styles, none of which was seen: the latent's distance, root mean square, from that in the other style,
for the latent as it is, with the difference of the styles' means added, and for the flow's; and how often the training picture nearest
to the result is of the other style, for the picture as it is, for the flow's, and for the one there is.

style → other	pairs	as it is	means	flow	nearest: as it is	flow	the one there is
`)
	for from := range g.set.Styles {
		for to := range g.set.Styles {
			var sum transfer
			for _, i := range g.test {
				im := g.set.Images[i]
				other, ok := images[[2]int{im.Concept, to}]
				if im.Style != from || from == to || !ok {
					continue
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := g.transfer(&sum, i, other, means); err != nil {
					return err
				}
			}
			if n := sum.pairs; n > 0 {
				fmt.Fprintf(t, "%s → %s\t%.0f\t%.3f\t%.3f\t%.3f\t%.2f\t%.2f\t%.2f\n", g.set.Styles[from].Name, g.set.Styles[to].Name, n,
					sum.distance[0]/n, sum.distance[1]/n, sum.distance[2]/n, sum.nearest[0]/n, sum.nearest[1]/n, sum.nearest[2]/n)
			}
		}
	}
	return t.Flush()
}

// transfer is sums over pairs of images: see styleTransfer.
type transfer struct {
	pairs             float64
	distance, nearest [3]float64
}

// transfer adds the way from image i to another of its concept.
func (g *gallery) transfer(sum *transfer, i, other int, means [][]float32) error {
	from, to := g.set.Images[i].Style, g.set.Images[other].Style
	old, _ := g.set.Z(i)
	truth, _ := g.set.Z(other)
	shifted := make([]float32, len(old))
	for k, v := range old {
		shifted[k] = v + means[to][k] - means[from][k]
	}
	kept := g.keep(i, g.styled(i, to))
	for k, z := range [][]float32{old, shifted, kept.Data[:g.set.Latent]} {
		sum.distance[k] += rms(z, truth)
	}
	before, err := g.decode(g.mean(i))
	if err != nil {
		return err
	}
	after, err := g.decode(kept)
	if err != nil {
		return err
	}
	for k, m := range []*image.NRGBA{before, after, g.picture(other)} {
		if g.looksLike(m) == to {
			sum.nearest[k]++
		}
	}
	sum.pairs++
	return nil
}

// styleMeans are the mean latents of the training images of each style.
func (g *gallery) styleMeans() [][]float32 {
	means, n := make([][]float32, len(g.set.Styles)), make([]float32, len(g.set.Styles))
	for i := range means {
		means[i] = make([]float32, g.set.Latent)
	}
	train := g.set.Rows(pairs.Train)
	for _, i := range train {
		n[g.set.Images[i].Style]++
	}
	for _, i := range train {
		style := g.set.Images[i].Style
		z, _ := g.set.Z(i)
		for k, v := range z {
			means[style][k] += v / n[style]
		}
	}
	return means
}

// looksLike is the style of the training picture that is nearest to m.
func (g *gallery) looksLike(m *image.NRGBA) (style int) {
	rgb := make([]uint8, 0, 3*g.set.Size*g.set.Size)
	for _, v := range g.colours(m) {
		rgb = append(rgb, uint8(math.Round(float64(127.5*(v+1)))))
	}
	least := math.MaxInt
	for _, i := range g.set.Rows(pairs.Train) {
		d := 0
		for k, v := range g.set.Picture(i) {
			e := int(v) - int(rgb[k])
			d += e * e
		}
		if d < least {
			least, style = d, g.set.Images[i].Style
		}
	}
	return style
}
