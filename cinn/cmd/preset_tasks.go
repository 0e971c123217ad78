package main

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"slices"

	"netfusion/cinn"
	"netfusion/cinn/flow"
	"netfusion/experts/autoencoder"
	"netfusion/experts/biggan"
	"netfusion/experts/label"
	"netfusion/experts/picture"
	"netfusion/tensor"
)

// What a task says about an image of the set.
type (
	conditionOf func(image int) cinn.Condition
	pictureOf   func(image int) *image.NRGBA
	encodeOf    func(dst []float32, m *image.NRGBA) error
)

func superresTask(_ context.Context, _ *presetRun, l *lesson) (*task, error) {
	return pictureTask(l, picture.Config{Transform: picture.Shrink, Side: 8}, flow.Config{Convs: 2, ConvWidth: 64, Pool: 1})
}

func inpaintTask(_ context.Context, _ *presetRun, l *lesson) (*task, error) {
	return pictureTask(l, picture.Config{Transform: picture.Mask, Side: l.set.Size, Mask: l.set.Size / 2}, flow.Config{Convs: 3, ConvWidth: 16, Pool: 4})
}

func edgesTask(_ context.Context, _ *presetRun, l *lesson) (*task, error) {
	return pictureTask(l, picture.Config{Transform: picture.Edges, Side: l.set.Size}, flow.Config{Convs: 3, ConvWidth: 16, Pool: 4})
}

func colourTask(_ context.Context, _ *presetRun, l *lesson) (*task, error) {
	return pictureTask(l, picture.Config{Transform: picture.Grey, Side: l.set.Size}, flow.Config{Convs: 3, ConvWidth: 16, Pool: 4})
}

// pictureTask learns to undo a transform.
func pictureTask(l *lesson, c picture.Config, maps flow.Config) (*task, error) {
	c.Kind = picture.Kind
	t := &task{name: "picture " + string(c.Transform), maps: maps, noise: 0.1, draw: cinn.Request{Temperature: 0.8, Guidance: 1}}
	t.maps.Side = c.Side
	session := c.NewSession()
	var err error
	if t.source, err = sourcePart(c, nil); err != nil {
		return nil, err
	}
	if t.conditions, err = l.set.Given(c.Width(), func(i int, dst []float32) error { return session.Encode(dst, l.picture(i)) }); err != nil {
		return nil, err
	}
	t.condition = func(i int) cinn.Condition { return cinn.Condition{Image: l.picture(i)} }
	t.show = func(i int) *image.NRGBA { return c.Show(t.conditions.Vector(t.conditions.For(l.set.Images[i]))) }
	t.encode = session.Encode
	return t, nil
}

// picture is image i of the set.
func (l *lesson) picture(i int) *image.NRGBA {
	n := l.set.Size
	m := image.NewNRGBA(image.Rect(0, 0, n, n))
	rgb := l.set.Picture(i)
	for k := range n * n {
		copy(m.Pix[4*k:], rgb[3*k:3*k+3])
		m.Pix[4*k+3] = 255
	}
	return m
}

// styleTask has nothing but the label of the style: what it keeps is all else.
func styleTask(_ context.Context, _ *presetRun, l *lesson) (*task, error) {
	t, err := labelTask(l, []label.Group{l.styles()}, func(i int) []int { return []int{l.set.Images[i].Style} })
	if err != nil {
		return nil, err
	}
	t.sheet, t.judge = styleSheet, styleTransfer
	return t, nil
}

// attributeTask has the style, and the category of what is shown.
func attributeTask(_ context.Context, _ *presetRun, l *lesson) (*task, error) {
	categories := l.categories()
	t, err := labelTask(l, []label.Group{l.styles(), {Name: "category", Labels: categories}}, func(i int) []int {
		im := l.set.Images[i]
		return []int{im.Style, slices.Index(categories, l.set.Concepts[im.Concept].Category)}
	})
	if err != nil {
		return nil, err
	}
	t.sheet = attributeSheet
	return t, nil
}

func labelTask(l *lesson, groups []label.Group, labels func(image int) []int) (*task, error) {
	c := label.Config{Kind: label.Kind, Groups: groups}
	t := &task{name: "labels", noise: 0, draw: cinn.Request{Temperature: 0.7, Guidance: 1}}
	var err error
	if t.source, err = sourcePart(c, nil); err != nil {
		return nil, err
	}
	t.conditions, err = l.set.Given(c.Width(), func(i int, dst []float32) error {
		c.Set(dst, labels(i)...)
		return nil
	})
	return t, err
}

func (l *lesson) styles() label.Group {
	g := label.Group{Name: "style"}
	for _, s := range l.set.Styles {
		g.Labels = append(g.Labels, s.Name)
	}
	return g
}

// categories are those of the concepts, in alphabetical order.
func (l *lesson) categories() (names []string) {
	for _, c := range l.set.Concepts {
		names = append(names, c.Category)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// textTask is the built-in fusion's own task.
func textTask(ctx context.Context, p *presetRun, l *lesson) (*task, error) {
	if err := p.lesson.embed(ctx, l, nil); err != nil {
		return nil, err
	}
	about, err := cinn.ReadFusion(l.pack)
	if err != nil {
		return nil, err
	}
	t := &task{name: about.Source, licence: about.Licences["source"], conditions: l.conditions, noise: 0.7, draw: cinn.Request{Temperature: 0.5, Guidance: 2.5}}
	if t.source, err = cinn.ReadPart(l.pack, "source"); err != nil {
		return nil, err
	}
	t.condition = func(i int) cinn.Condition {
		return cinn.Condition{Prompt: l.conditions.Captions[l.conditions.For(l.set.Images[i])].Text}
	}
	return t, nil
}

// layersTask reads the pictures that the generator draws of the set's latents, through the image encoder up to a layer.
func layersTask(ctx context.Context, p *presetRun, l *lesson) (*task, error) {
	encoder, err := cinn.ReadPart(l.pack, "encoder")
	if err != nil {
		return nil, err
	}
	c := autoencoder.LayerConfig{Kind: autoencoder.LayerKind, Layer: p.layer}
	if err := json.Unmarshal([]byte(encoder.Meta["config"]), &c.Encoder); err != nil {
		return nil, err
	}
	layer, err := loadLayer(l.pack.Origin(), c, encoder.Tensors, layerSide) // the same for all layers that have as much
	if err != nil {
		return nil, err
	}
	t := &task{name: "layer " + p.layer, noise: 0.1, draw: cinn.Request{Temperature: 0.8, Guidance: 1}}
	if layer.Side > 1 {
		t.maps = flow.Config{Side: layer.Side, Convs: 1, ConvWidth: 128, Pool: layer.Side}
	}
	if t.source, err = sourcePart(layer.LayerConfig, encoder.Tensors); err != nil {
		return nil, err
	}
	draw, session := l.drawing(), layer.NewSession(l.device)
	t.conditions, err = l.set.Given(layer.Width(), func(i int, dst []float32) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := draw(i)
		if err != nil {
			return err
		}
		return session.Encode(dst, m)
	})
	t.condition = func(i int) cinn.Condition {
		return cinn.Condition{Vector: t.conditions.Vector(t.conditions.For(l.set.Images[i]))}
	}
	t.show = func(i int) *image.NRGBA {
		m, err := draw(i)
		if err != nil {
			return l.picture(i)
		}
		return m
	}
	t.encode = session.Encode
	return t, err
}

// layerSide is what the map of a layer is averaged to.
const layerSide = 4

// drawing returns a function that draws the latent of image i of the set.
func (l *lesson) drawing() func(i int) (*image.NRGBA, error) {
	session := l.target.NewSession(l.device, 1)
	z, class := tensor.New(1, l.target.ZDim), tensor.New(1, l.target.ClassDim)
	return func(i int) (*image.NRGBA, error) {
		mean, _ := l.set.Z(i)
		copy(z.Data, mean)
		copy(class.Data, l.target.Class(l.set.Images[i].Class))
		pixels, err := session.Generate(z, class, biggan.Truncation{})
		if err != nil {
			return nil, fmt.Errorf("image %d: %w", i, err)
		}
		m := image.NewNRGBA(image.Rect(0, 0, l.target.Resolution, l.target.Resolution))
		biggan.Draw(m, pixels.Data)
		return m, nil
	}
}
