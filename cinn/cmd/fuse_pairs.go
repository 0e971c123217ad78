package main

import (
	"context"
	"fmt"

	"netfusion/cinn/pairs"
	"netfusion/cinn/train"
	"netfusion/experts/autoencoder"
	"netfusion/nn"
	"netfusion/tensor"
)

// readPairs turns a list of pairs into conditions and latents, those of one condition in the same split.
func (j *joint) readPairs(ctx context.Context, list []listed) error {
	learn, judge := j.newData(list), j.newData(list)
	conditions := map[string]int{} // the row of each text and file
	bar := train.NewProgress(j.log)
	defer bar.Clear()
	encode := j.latents()
	group := 0
	for i := range list {
		l := &list[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		row, known := conditions[l.key()]
		if !known {
			row = i
			if l.key() != "" {
				conditions[l.key()] = row
			}
			group++
			if err := j.condition(ctx, learn.Cond.Row(i), l); err != nil {
				return j.atLine(l, err)
			}
		}
		if err := encode(learn.Mean.Row(i), learn.Std.Row(i), l); err != nil {
			return j.atLine(l, err)
		}
		class, err := l.class(j.draw.from.Classes, j.target.Classes)
		if err != nil {
			return j.atLine(l, err)
		}
		learn.Class[i] = class
		pair := train.Pair{Caption: row, Image: i, Group: row, Weight: 1}
		switch pairs.SplitOf(l.split(row)) {
		case pairs.Train:
			learn.Pairs = append(learn.Pairs, pair)
		case pairs.Validation:
			judge.Pairs = append(judge.Pairs, pair)
		}
		if bar.Due() {
			bar.Show(fmt.Sprintf("reading pairs %s %d of %d", train.Bar(i+1, len(list), 30), i+1, len(list)))
		}
	}
	if len(learn.Pairs) < fuseFewest || len(judge.Pairs) < 1 {
		return fmt.Errorf("%s: %d pairs of %d conditions leave %d to train and %d to judge by, want at least %d and 1", j.pairs, len(list), group,
			len(learn.Pairs), len(judge.Pairs), fuseFewest)
	}
	judge.Cond, judge.Mean, judge.Std, judge.Class = learn.Cond, learn.Mean, learn.Std, learn.Class
	j.learn, j.judge, j.fit = learn, judge, 8*len(learn.Pairs)
	return nil
}

// fuseFewest is how few pairs to train on make no sense.
const fuseFewest = 16

func (j *joint) newData(list []listed) *train.Data {
	n, latent := len(list), j.target.ZDim
	return &train.Data{Cond: tensor.New(n, j.source.width), Mean: tensor.New(n, latent), Std: tensor.New(n, latent), Class: make([]int, n)}
}

func (j *joint) atLine(l *listed, err error) error {
	return fmt.Errorf("%s, line %d: %w", j.pairs, l.Line, err)
}

// key is what the source reads, unless that is a condition of its own.
func (l *listed) key() string {
	if l.From != "" {
		return "from " + l.From
	}
	return l.Text
}

// split is the name by which a condition's split is chosen: that of a text is known to all of cinn.
func (l *listed) split(row int) string {
	if l.Text != "" {
		return l.Text
	}
	return fmt.Sprint("row ", row)
}

// condition is what the source makes of l, or what l says that it is.
func (j *joint) condition(ctx context.Context, dst []float32, l *listed) error {
	if len(l.Condition) == 0 {
		if j.source.encode == nil {
			return fmt.Errorf("no condition, and no -source to make one")
		}
		return j.source.encode(ctx, dst, l)
	}
	if len(l.Condition) != len(dst) {
		return fmt.Errorf("a condition of %d dimensions, want %d", len(l.Condition), len(dst))
	}
	copy(dst, l.Condition)
	return nil
}

// latents returns a function that writes the latent of l: what it says, or what the encoder makes of its picture.
func (j *joint) latents() func(mean, std []float32, l *listed) error {
	var session *autoencoder.Session
	var pixels tensor.Tensor
	if j.encoder != nil {
		n := j.encoder.Resolution
		session, pixels = j.encoder.NewSession(j.device, 1), tensor.New(n*n, 3)
	}
	return func(mean, std []float32, l *listed) error {
		if l.Image == "" {
			if len(l.Latent) != len(mean) {
				return fmt.Errorf("a latent of %d dimensions, the generator wants %d", len(l.Latent), len(mean))
			}
			copy(mean, l.Latent)
			copy(std, l.Std)
			return nil
		}
		if session == nil {
			return fmt.Errorf("a picture, and no encoder for it beside %s: want -encoder, or latents", j.draws)
		}
		m, err := openPhoto(l.Image, j.encoder.Resolution)
		if err != nil {
			return err
		}
		nn.Colours(pixels.Data, m, j.encoder.Resolution)
		z, logVariance, err := session.Encode(pixels)
		if err != nil {
			return err
		}
		copy(mean, z.Data)
		autoencoder.Std(std, logVariance.Data)
		return nil
	}
}
