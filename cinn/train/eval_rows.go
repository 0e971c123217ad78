package train

import (
	"netfusion/cinn/pairs"
	"netfusion/kernels/random"
	"netfusion/tensor"
)

// batch is dequantised images with the embeddings of captions.
type batch struct {
	x, c  tensor.Tensor // [rows][Latent+Class], [rows][Cond]
	image []int         // of each row
}

// names returns each image draws times, with the name of its concept for a caption, or with its own condition. The noise depends on the image, the draw
// and first, so that all models see the same.
func (e *Eval) names(images []int, draws, first int) batch {
	b := e.newBatch(len(images) * draws)
	for i, image := range images {
		for d := range draws {
			r := i*draws + d
			e.fill(b, r, image, e.Conditions.For(e.Set.Images[image]), uint64(image)<<16|uint64(first+d))
		}
	}
	return b
}

// captions returns each training image repeats times, each time with a caption and noise of its own. Rounds from 0 on differ.
func (e *Eval) captions(repeats, round int) batch {
	images := e.Set.Rows(pairs.Train)
	b := e.newBatch(len(images) * repeats)
	for i, image := range images {
		for d := range repeats {
			var u [1]float32
			sample := uint64(image)<<32 | uint64(round)<<16 | uint64(1<<15|d)
			random.Uniform(u[:], e.Seed, evalCaptionStream, sample, 0)
			e.fill(b, d*len(images)+i, image, e.Conditions.Draw(e.Set.Images[image], u[0]), sample)
		}
	}
	return b
}

func (e *Eval) newBatch(rows int) batch {
	return batch{tensor.New(rows, e.Set.Latent+e.Table.Cols), tensor.New(rows, e.Conditions.Dim), make([]int, rows)}
}

// fill sets row r: z is drawn from the image's posterior, the class embedding gets the noise that the expert was trained under.
func (e *Eval) fill(b batch, r, image, caption int, sample uint64) {
	x, latent := b.x.Row(r), e.Set.Latent
	random.Normal(x, e.Seed, evalNoiseStream, sample, 0)
	mean, std := e.Set.Z(image)
	for k, m := range mean {
		x[k] = m + float32(std[k]*x[k])
	}
	for k, v := range e.Table.Row(e.Set.Images[image].Class) {
		x[latent+k] = v + float32(e.ClassNoise*x[latent+k])
	}
	copy(b.c.Row(r), e.Conditions.Vector(caption))
	b.image[r] = image
}

// nameRows sets every row of c to the embedding of a concept's name.
func (e *Eval) nameRows(c tensor.Tensor, concept int) {
	name, _ := e.Conditions.Of(concept)
	for i := range c.Rows {
		copy(c.Row(i), e.Conditions.Vector(name))
	}
}

// concepts lists the concepts of images in ascending order.
func (e *Eval) concepts(images []int) []int {
	seen := make([]bool, len(e.Set.Concepts))
	for _, i := range images {
		seen[e.Set.Images[i].Concept] = true
	}
	var list []int
	for c, s := range seen {
		if s {
			list = append(list, c)
		}
	}
	return list
}

// classOf is the class of a concept.
func (e *Eval) classOf(concept int) int {
	for k, name := range e.Set.Classes {
		if name == e.Set.Concepts[concept].Class {
			return k
		}
	}
	panic("train: concept of no class") // a Set is validated
}
